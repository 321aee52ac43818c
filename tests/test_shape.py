"""The script that measures the shape of the source counts what it says."""

import ast
import json
import sys
from pathlib import Path

import pytest

from scripts import shape
from scripts.shape import Function, Module, find_repeated_classes, find_unused, imports, length


def module(name: str, text: str) -> Module:
    tree = ast.parse(text)
    return Module(Path(f"{name}.py"), name, text.count("\n"), tree, frozenset(imports(tree)))


def test_unused_and_repeated_names() -> None:
    one = module(
        "pack.one", "class A: ...\ndef used(): ...\ndef alone(): ...\ndef _own(): ...\n@mark\ndef handler(): ...\n"
    )
    two = module("pack.two", "from pack.one import used\nclass A: ...\nclass B: ...\n")
    three = module("pack.three", "import pack.one as other\nother.used()\n")
    assert find_unused([one, two]) == ["pack.one.alone"]
    assert find_unused([one, three]) == ["pack.one.alone"]
    assert find_repeated_classes([one, two, three]) == {"A": ["pack.one", "pack.two"]}


def test_the_length_of_a_function_leaves_out_its_docstring() -> None:
    function = ast.parse('@mark\ndef f():\n    """One.\n\n    Two.\n    """\n    a = 1\n    return a\n').body[0]
    assert isinstance(function, Function)
    assert length(function) == 3


def test_it_prints_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "one.py").write_text("def f():\n    a = 1\n    return a\n")
    monkeypatch.setattr(shape, "SOURCE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["shape.py", "--json"])
    shape.main()
    facts = json.loads(capsys.readouterr().out)
    assert facts["lines"] == facts["median_function"] == facts["p90_function"] == facts["largest_file"] == 3
    assert (facts["largest_folder"], facts["largest_file_path"]) == (1, "pack/one.py")
    assert (facts["repeated_class_names"], facts["unused_public"]) == (0, 1)
