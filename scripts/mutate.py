"""Mutation testing: change one expression of a module at a time and list the changes that its tests do not notice.

It works on a copy of the tree. python scripts/mutate.py --module src/edgewright/schema/units.py --tests tests/schema
"""

import argparse
import ast
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

import hypothesis  # noqa: F401 - imported once instead of in each forked process
import pytest

ROOT = Path(__file__).resolve().parent.parent
PAIRS = "Lt LtE, Gt GtE, Eq NotEq, Is IsNot, In NotIn, Add Sub, Mult Div, BitAnd BitOr, LShift RShift, And Or"
SWAPS: dict[str, Any] = {"FloorDiv": ast.Div, "Mod": ast.Mult, "Pow": ast.Mult}
SWAPS |= {a: getattr(ast, b) for pair in PAIRS.split(", ") for a, b in (pair.split(), reversed(pair.split()))}
SKIPPED = ("annotation", "returns", "decorator_list", "keywords of ClassDef")


def main() -> None:
    parser = argparse.ArgumentParser(description="List the changes of a module that its tests do not notice.")
    parser.add_argument("--module", required=True, help="path of the module")
    parser.add_argument("--tests", required=True, nargs="+", help="test files")
    parser.add_argument("--count", type=int, default=40, help="largest number of mutations; default 40")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample; default 0")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "copy"
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "build", "__pycache__"))
        run_tests(folder, options.tests)  # writes the bytecode of the copy
        start = time.monotonic()
        if not run_tests(folder, options.tests):
            sys.exit("The tests fail without a mutation, or there are none. Run them with pytest to see why.")
        limit_s = 10 * (time.monotonic() - start)
        path, killed = folder / options.module, 0
        found = list(list_mutations(tree := ast.parse(path.read_text(encoding="utf-8"))))
        sample = random.Random(options.seed).sample(found, min(options.count, len(found)))
        for line, owner, key, new, description in sorted(sample, key=lambda one: one[0]):
            old, owner[key] = owner[key], new
            path.write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")
            owner[key] = old
            Path(cache_from_source(str(path))).unlink(missing_ok=True)  # its date is too coarse to notice the change
            killed += not (survived := run_tests(folder, options.tests, limit_s))
            if survived:
                print(f"survived: {options.module}:{line}: {description}", flush=True)
    print(f"{options.module}: {len(sample)} mutations, {killed} killed ({killed / len(sample):.0%})")


def list_mutations(tree: ast.AST) -> Iterator[tuple[int, Any, Any, ast.AST, str]]:
    """Yield the line, a list or the attributes of a node, the key in it, its new value and a description."""
    for name, value in ast.iter_fields(tree):
        if name in SKIPPED or f"{name} of {type(tree).__name__}" in SKIPPED:
            continue
        owner, items = (value, enumerate(value)) if isinstance(value, list) else (vars(tree), ((name, value),))
        for key, node in items:
            if isinstance(node, ast.AST):
                for new in mutate(node, name):
                    texts = [" ".join(ast.unparse(one).split())[:90] for one in (node, new)]
                    yield getattr(node, "lineno", 0), owner, key, new, " → ".join(texts)
                yield from list_mutations(node)


def mutate(node: Any, field: str) -> Iterator[ast.AST]:
    """Yield the replacements of a node in a field of its parent."""
    swap = SWAPS.get(type(getattr(node, "op", None)).__name__)
    match node:
        case ast.Compare(ops=[op, *others]):
            yield ast.Compare(node.left, [SWAPS[type(op).__name__](), *others], node.comparators)
        case ast.BinOp() | ast.BoolOp() if swap:
            yield type(node)(**{**vars(node), "op": swap()})
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield ast.Constant(value * 2 or 1.0 if isinstance(value, float) else value + 1)
        case ast.Return(value=ast.expr() as result) if ast.unparse(result) != "None":
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()
        case ast.AugAssign() | ast.Raise() | ast.Continue() | ast.Break():
            yield ast.Pass()
        case ast.Name() | ast.Call() | ast.Attribute() if field == "test":
            yield ast.UnaryOp(ast.Not(), node)
    if field == "ifs":
        yield ast.Constant(True)


def run_tests(folder: Path, tests: list[str], limit_s: float = 600.0) -> bool:
    """Return whether the tests pass in time, in a forked process."""
    process = multiprocessing.get_context("fork").Process(target=run_pytest, args=(folder, tests))
    process.start()
    process.join(limit_s)
    process.kill()
    process.join()
    return process.exitcode == 0


def run_pytest(folder: Path, tests: list[str]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
    os.chdir(folder)
    sys.path.insert(0, str(folder / "src"))
    os.environ |= {"PYTHONPATH": str(folder / "src"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "pytest_timeout", *tests]))


if __name__ == "__main__":
    main()
