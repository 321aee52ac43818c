"""The words that the glossary replaces are gone from identifiers and from everything that a user reads."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.paths import ROOT

SOURCE = ROOT / "src" / "edgewright"
TEXTS = ("cli", "web", "report", "errors.py")


class Replaced(NamedTuple):
    identifiers: frozenset[str]
    phrases: tuple[str, ...]


def read_replaced() -> Replaced:
    """The third column of the table: identifiers in code font, all else phrases."""
    rows = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").splitlines()
    cells = [
        row.split("|")[3].strip() for row in rows if row.startswith("|") and not row.startswith(("|---", "| term"))
    ]
    words = [word.strip() for cell in cells for word in cell.split(",") if word.strip()]
    identifiers = frozenset(word.strip("`") for word in words if word.startswith("`"))
    return Replaced(identifiers, tuple(word for word in words if not word.startswith("`")))


REPLACED = read_replaced()


def find_phrases(text: str) -> list[str]:
    return [one for one in REPLACED.phrases if re.search(rf"\b{re.escape(one)}\b", text, re.IGNORECASE)]


def read_texts() -> Iterator[tuple[str, str]]:
    """Every string of the code that speaks to users (help texts are docstrings), templates and scripts."""
    paths = [
        path for name in TEXTS for path in ([SOURCE / name] if name.endswith(".py") else (SOURCE / name).rglob("*"))
    ]
    for path in sorted(paths):
        where = path.relative_to(SOURCE).as_posix()
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield f"{where}:{node.lineno}", node.value
        elif path.suffix in {".html", ".js"} and ".min." not in path.name:
            yield where, path.read_text(encoding="utf-8")


def read_names(text: str) -> Iterator[str]:
    """Names in code that are no attribute of something else, whose names are not ours."""
    before = ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME and before != ".":
            yield token.string
        before = token.string


def test_the_table_is_read() -> None:
    assert {"Court", "Versus", "roads", "twins"} <= REPLACED.identifiers
    assert {"twin", "road"} <= set(REPLACED.phrases)
    assert find_phrases("The Twin of a model") == ["twin"]


def test_no_text_has_a_replaced_word() -> None:
    assert [f"{where}: {found}" for where, text in read_texts() if (found := find_phrases(text))] == []


@pytest.mark.parametrize("folder", ["src", "benchmarks", "scripts", "tests"])
def test_no_name_is_a_replaced_identifier(folder: str) -> None:
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in read_names(path.read_text(encoding="utf-8"))
        if name in REPLACED.identifiers
    }
    assert sorted(found) == []
