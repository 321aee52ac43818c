"""The script that measures the shape of the source counts what it says."""

import ast
import json
import sys
from pathlib import Path

import pytest

from scripts import shape
from scripts.shape import Function, Module, find_cycles, find_repeated_classes, find_unused, imports, length


def module(name: str, text: str, file: str = "one.py") -> Module:
    tree = ast.parse(text)
    return Module(Path(file), name, text.count("\n"), tree, frozenset(imports(tree)))


def test_the_source_keeps_its_shape(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The numbers of CONTRIBUTING.md."""
    monkeypatch.setattr(sys, "argv", ["shape.py", "--json", "--list"])
    shape.main()
    facts = json.loads(capsys.readouterr().out)
    assert facts["unused_public_list"] == []
    assert facts["repeated_class_name_list"] == {}
    assert facts["import_cycle_list"] == []
    assert facts["median_function"] <= 7
    assert facts["p90_function"] <= 20
    assert facts["largest_file"] <= 400, facts["largest_file_path"]
    assert facts["largest_folder"] <= 15, facts["largest_folder_path"]


def test_a_function_has_at_most_six_parameters() -> None:
    """Further options are keywords of a typed record (`**options: Unpack[…]`). Those of a command are its options."""
    many = {
        f"{module.name}.{function.name}": given
        for module in map(shape.read_module, sorted(shape.SOURCE.rglob("*.py")))
        for function in ast.walk(module.tree)
        if isinstance(function, Function) and ".cli.commands." not in module.name
        if (given := count_parameters(function)) > 6
    }
    assert many == {}


def count_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    names = [one.arg for part in ("posonlyargs", "args", "kwonlyargs") for one in getattr(function.args, part)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def test_unused_and_repeated_names() -> None:
    one = module(
        "pack.one", "class A: ...\ndef used(): ...\ndef alone(): ...\ndef _own(): ...\n@mark\ndef handler(): ...\n"
    )
    two = module("pack.two", "from pack.one import used\nclass A: ...\nclass B: ...\n")
    three = module("pack.three", "import pack.one as other\nother.used()\n")
    assert find_unused([one, two]) == ["pack.one.alone"]
    assert find_unused([one, three]) == ["pack.one.alone"]
    assert find_repeated_classes([one, two, three]) == {"A": ["pack.one", "pack.two"]}


def test_tests_entry_points_and_the_interface_of_runtimes_count_as_uses() -> None:
    contract = module(shape.CONTRACT, "class Runtime:\n    def compile(self): ...\n")
    runtime = module("edgewright.runtimes.some", "def compile(): ...\ndef other(): ...\n", "__init__.py")
    worker = module("pack.worker", "def main(): ...\nif __name__ == '__main__':\n    main()\n")
    idle = module("pack.idle", "def main(): ...\ndef tested(): ...\n")
    test = module("tests.test_idle", "from pack import idle\nidle.tested()\n")
    modules = [contract, runtime, worker, idle]
    assert find_unused(modules, [test]) == ["edgewright.runtimes.some.other", "pack.idle.main"]
    assert "pack.idle.tested" in find_unused(modules)


def test_cycles_are_found_behind_late_imports() -> None:
    one = module("pack.one", "from pack import two\n")
    two = module("pack.two", "def f():\n    from pack.three import g\n")
    three = module("pack.three", "import pack.one\n")
    four = module("pack.four", "import pack.one\n")
    assert find_cycles([one, two, three, four]) == [("pack.one", "pack.three", "pack.two")]
    typed = module("pack.three", "if TYPE_CHECKING:\n    import pack.one\nelse:\n    import pack.five\n")
    assert find_cycles([one, two, typed, four]) == []


def test_the_length_of_a_function_leaves_out_its_docstring() -> None:
    function = ast.parse('@mark\ndef f():\n    """One.\n\n    Two.\n    """\n    a = 1\n    return a\n').body[0]
    assert isinstance(function, Function)
    assert length(function) == 3


def test_it_prints_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "one.py").write_text("def f():\n    a = 1\n    return a\n")
    monkeypatch.setattr(shape, "SOURCE", tmp_path)
    monkeypatch.setattr(shape, "USERS", [])
    monkeypatch.setattr(sys, "argv", ["shape.py", "--json"])
    shape.main()
    facts = json.loads(capsys.readouterr().out)
    assert facts["lines"] == facts["median_function"] == facts["p90_function"] == facts["largest_file"] == 3
    assert (facts["largest_folder"], facts["largest_file_path"]) == (1, "pack/one.py")
    assert (facts["repeated_class_names"], facts["unused_public"]) == (0, 1)
    assert facts["import_cycles"] == 0
