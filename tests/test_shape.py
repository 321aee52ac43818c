"""The script that measures the shape of the source counts what it says."""

import ast
import json
import subprocess
import sys
from pathlib import Path

from scripts.shape import Function, Module, find_repeated_classes, find_unused, imports, length

ROOT = Path(__file__).parent.parent


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


def test_it_prints_json() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/shape.py", "--json"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    keys = "lines median_function p90_function largest_file largest_folder repeated_class_names unused_public"
    assert set(json.loads(done.stdout)) >= set(keys.split())
