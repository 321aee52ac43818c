"""The words that the glossary replaces are gone from identifiers, from the source's texts and from the pages."""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from tests.paths import ROOT

SOURCE = ROOT / "src" / "edgewright"
ATTRIBUTE = re.compile(r"^ +\w+(, \w+)*: ", re.MULTILINE)
COMMENT = re.compile(r"(?<!['\"])# .*")
NAME = re.compile(r"\w+")
CODE = re.compile(r"^ *```.*?^ *```|`[^`\n]*`", re.MULTILINE | re.DOTALL)


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
PHRASES = re.compile(rf"\b(?:{'|'.join(map(re.escape, REPLACED.phrases))})\b", re.IGNORECASE)


def find_phrases(text: str) -> list[str]:
    return [one.lower() for one in PHRASES.findall(text)]


def read_texts() -> Iterator[tuple[str, str]]:
    """Yield every text of the source (help texts are docstrings), templates and scripts.

    A string without a space is a name or a key. An attribute's name in a docstring is none of our words either. Only
    files that have such a word anywhere are parsed.
    """
    for path in sorted(SOURCE.rglob("*")):
        where = path.relative_to(SOURCE).as_posix()
        if path.suffix == ".py" and PHRASES.search(text := path.read_text(encoding="utf-8")):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                    yield f"{where}:{node.lineno}", ATTRIBUTE.sub("", node.value)
        elif path.suffix in {".html", ".js"} and ".min." not in path.name:
            yield where, path.read_text(encoding="utf-8")


def read_comments() -> Iterator[tuple[str, str]]:
    for path in sorted(SOURCE.rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if comment := COMMENT.search(line):
                yield f"{path.relative_to(SOURCE).as_posix()}:{number}", comment[0]


def read_pages() -> Iterator[tuple[str, str]]:
    """Yield README, CONTRIBUTING and the documentation without code, whose names are those of files and keys."""
    for path in sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]):
        if path.name != "glossary.md":
            yield path.relative_to(ROOT).as_posix(), CODE.sub("", path.read_text(encoding="utf-8"))


def read_names(text: str) -> Iterator[str]:
    """Names in code that are no attribute of something else, whose names are not ours."""
    if REPLACED.identifiers.isdisjoint(NAME.findall(text)):
        return
    before = ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME and before != ".":
            yield token.string
        before = token.string


def test_the_table_is_read() -> None:
    assert {"Court", "Versus", "roads", "twins"} <= REPLACED.identifiers
    assert {"twin", "road"} <= set(REPLACED.phrases)
    assert find_phrases("The Twin of a model") == ["twin"]


@pytest.mark.parametrize("read", [read_texts, read_comments, read_pages])
def test_no_text_has_a_replaced_word(read: Callable[[], Iterator[tuple[str, str]]]) -> None:
    texts = list(read())
    assert len(texts) > 10
    assert [f"{where}: {found}" for where, text in texts if (found := find_phrases(text))] == []


@pytest.mark.parametrize("folder", ["src", "benchmarks", "scripts", "tests"])
def test_no_name_is_a_replaced_identifier(folder: str) -> None:
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in read_names(path.read_text(encoding="utf-8"))
        if name in REPLACED.identifiers
    }
    assert sorted(found) == []
