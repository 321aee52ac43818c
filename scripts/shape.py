"""Measure the shape of the source: lengths of functions and files, modules per folder, names.

python scripts/shape.py            a table
python scripts/shape.py --json     the same as JSON
python scripts/shape.py --list     also every name that is repeated or used in no other module, and import cycles
"""

import argparse
import ast
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "edgewright"
USERS = [ROOT / name for name in ("tests", "tests_slow", "benchmarks", "scripts")]
CONTRACT = "edgewright.runtimes.contract"
INTERFACES = {  # of packages and modules found by name
    CONTRACT: "Runtime",
    "edgewright.packaging.targets": "TargetModule",
    "edgewright.llm.engines.contract": "Engine",
}
ENGINES = "edgewright.llm.engines."
MIGRATIONS = "edgewright.store.migrations.versions."
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
    users = [read_module(path) for folder in USERS for path in sorted(folder.rglob("*.py"))]
    repeated, unused, cycles = find_repeated_classes(modules), find_unused(modules, users), find_cycles(modules)
    facts = measure(modules)
    facts |= {"repeated_class_names": len(repeated), "unused_public": len(unused), "import_cycles": len(cycles)}
    if options.list:
        facts |= {"repeated_class_name_list": repeated, "unused_public_list": unused}
        facts |= {"import_cycle_list": [", ".join(cycle) for cycle in cycles]}
    print(json.dumps(facts, indent=1) if options.json else as_table(facts))


def read_module(path: Path) -> Module:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    root = SOURCE.parent if path.is_relative_to(SOURCE) else ROOT
    name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
    return Module(path, name, text.count("\n"), tree, frozenset(imports(tree)))


def imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Pairs of a module and a name that the tree imports, also through an attribute of an imported module."""
    aliases: dict[str, str] = {}
    nodes = list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield node.module, alias.name
                aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            aliases.update({alias.asname or alias.name: alias.name for alias in node.names})
    for node in nodes:
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


def find_unused(modules: list[Module], users: Sequence[Module] = ()) -> list[str]:
    """Return the functions without an underscore that no other module uses.

    A function is used if another module of the source or of `users` imports it or reads it as an attribute of its
    module, if it is the `main` of a module that is started with `-m`, if it belongs to the interface of a runtime's
    package, or if it has a decorator, which registers commands and handlers, or is what Alembic calls.
    """
    used = {pair for module in (*modules, *users) for pair in module.imported}
    interface = _list_interfaces(modules)
    return [
        f"{module.name}.{node.name}"
        for module in modules
        for node in module.tree.body
        if isinstance(node, Function) and not node.name.startswith("_") and not node.decorator_list
        if (module.name, node.name) not in used
        if not (node.name == "main" and _is_started(module))
        if not (node.name in interface and _is_found_by_name(module))
        if not module.name.startswith(MIGRATIONS)
    ]


def _is_found_by_name(module: Module) -> bool:
    return module.name.startswith(ENGINES) or (module.path.name == "__init__.py" and module.name.count(".") == 2)


def _list_interfaces(modules: list[Module]) -> set[str]:
    """Names of the functions that the package of a runtime or of a target of `package` has."""
    return {
        function.name
        for module in modules
        if module.name in INTERFACES
        for node in module.tree.body
        if isinstance(node, ast.ClassDef) and node.name == INTERFACES[module.name]
        for function in node.body
        if isinstance(function, Function)
    }


def _is_started(module: Module) -> bool:
    """Return whether the module ends with `if __name__ == "__main__"`."""
    return any(isinstance(node, ast.If) and "'__main__'" in ast.unparse(node.test) for node in module.tree.body)


def find_cycles(modules: list[Module]) -> list[tuple[str, ...]]:
    """Return the groups of modules that import each other, at the top or late; imports for type checks don't count."""
    names = {module.name for module in modules}
    graph = {module.name: set(_list_imported_modules(module.tree, names)) - {module.name} for module in modules}
    while leaves := {name for name, imported in graph.items() if not imported & graph.keys()}:
        graph = {name: imported for name, imported in graph.items() if name not in leaves}
    reached = {name: _reach(name, graph) for name in graph}
    return sorted(
        {tuple(sorted(other for other in graph if other in reached[name] and name in reached[other])) for name in graph}
        - {()}
    )


def _reach(name: str, graph: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        fresh = (graph.get(waiting.pop(), set()) & graph.keys()) - seen
        seen |= fresh
        waiting += fresh
    return seen


def _list_imported_modules(node: ast.AST, names: set[str]) -> Iterator[str]:
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        for other in node.orelse:
            yield from _list_imported_modules(other, names)
        return
    if isinstance(node, ast.ImportFrom) and node.module:
        full = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name if name in names else node.module for name in full)
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    for part in ast.iter_child_nodes(node):
        if isinstance(part, ast.stmt | ast.excepthandler | ast.match_case):
            yield from _list_imported_modules(part, names)


def as_table(facts: dict[str, Any]) -> str:
    rows = []
    for name, value in facts.items():
        if isinstance(value, dict):
            value = [f"{one}: {', '.join(homes)}" for one, homes in value.items()]
        rows.append("\n  ".join([name, *value]) if isinstance(value, list) else f"{name:24}{value}")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
