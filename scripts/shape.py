"""Measure the shape of the source: lengths of functions and files, modules per folder, names.

python scripts/shape.py            a table
python scripts/shape.py --json     the same as JSON
python scripts/shape.py --list     also every name that is repeated or used in no other module
"""

import argparse
import ast
import json
from collections import Counter
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "edgewright"
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Module(NamedTuple):
    """One source file.

    Attributes:
        name: as it is imported, for example `edgewright.store.runs.ids`.
        imported: pairs of a module and a name that it imports from there, or reads as an attribute of it.
    """

    path: Path
    name: str
    lines: int
    tree: ast.Module
    imported: frozenset[tuple[str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the shape of the source.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--list", action="store_true", help="also print each repeated or unused name")
    options = parser.parse_args()
    modules = [read_module(path) for path in sorted(SOURCE.rglob("*.py"))]
    repeated, unused = find_repeated_classes(modules), find_unused(modules)
    facts = measure(modules) | {"repeated_class_names": len(repeated), "unused_public": len(unused)}
    if options.list:
        facts |= {"repeated_class_name_list": repeated, "unused_public_list": unused}
    print(json.dumps(facts, indent=1) if options.json else as_table(facts))


def read_module(path: Path) -> Module:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    name = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
    return Module(path, name, text.count("\n"), tree, frozenset(imports(tree)))


def imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Pairs of a module and a name that the tree imports, also through an attribute of an imported module."""
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield node.module, alias.name
                aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            aliases.update({alias.asname or alias.name: alias.name for alias in node.names})
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            yield aliases[node.value.id], node.attr


def measure(modules: list[Module]) -> dict[str, Any]:
    lengths = sorted(length(node) for module in modules for node in ast.walk(module.tree) if isinstance(node, Function))
    folders = Counter(module.path.parent for module in modules if module.path.name != "__init__.py")
    folder, count = folders.most_common(1)[0]
    largest = max(modules, key=lambda module: module.lines)
    return {
        "lines": sum(module.lines for module in modules),
        "median_function": median(lengths),
        "p90_function": lengths[ceil(0.9 * len(lengths)) - 1],
        "largest_file": largest.lines,
        "largest_file_path": largest.path.relative_to(SOURCE).as_posix(),
        "largest_folder": count,
        "largest_folder_path": folder.relative_to(SOURCE).as_posix(),
    }


def length(function: Function) -> int:
    """Lines of a function with its head, without its docstring and decorators."""
    text = function.body[0] if ast.get_docstring(function) is not None else None
    lines = (function.end_lineno or 0) - function.lineno + 1
    return lines - ((text.end_lineno or 0) - text.lineno + 1 if text else 0)


def find_repeated_classes(modules: list[Module]) -> dict[str, list[str]]:
    """Class names that more than one module defines, with these modules."""
    found: dict[str, list[str]] = {}
    for module in modules:
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(module.name)
    return {name: homes for name, homes in sorted(found.items()) if len(homes) > 1}


def find_unused(modules: list[Module]) -> list[str]:
    """Functions of modules without an underscore that no other module imports; commands and handlers with a
    decorator are called by what decorates them."""
    used = {pair for module in modules for pair in module.imported}
    return [
        f"{module.name}.{node.name}"
        for module in modules
        for node in module.tree.body
        if isinstance(node, Function) and not node.name.startswith("_") and not node.decorator_list
        if (module.name, node.name) not in used
    ]


def as_table(facts: dict[str, Any]) -> str:
    rows = []
    for name, value in facts.items():
        if isinstance(value, dict):
            value = [f"{one}: {', '.join(homes)}" for one, homes in value.items()]
        rows.append("\n  ".join([name, *value]) if isinstance(value, list) else f"{name:24}{value}")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
