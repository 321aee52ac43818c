"""Catalog of a language: English texts, some with `{placeholders}`, and their translations, from a `.po` file.

Code writes English. What a user reads is translated where it is shown, from the finished English text: a stored
warning, an answer or an error is found by the text around its values. JSON, logs and stored texts stay English.
"""

import json
import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from importlib.resources import files
from typing import NamedTuple

MIN_LETTERS = 8  # of a text around its values, to be found by them
COUNT = "{count}"  # a number
MAX_LETTERS, MAX_DEPTH = 4_000, 8  # a longer text, and one within more texts, stay English
PLACEHOLDER = re.compile(r"\{(\w+)(?::([tl]))?\}")
# Where a text is divided if it is not in the catalog as a whole: separator, and its translation.
SENTENCE_END = re.compile(r"(?<=[.!?]) ")
MASK = "\x01"  # stands for the space of a separator within parentheses, where no text is divided
SEPARATORS = (("; ", "；"), (" · ", " · "), (", ", "，"))
ENDS = ((".", "。"), (":", "："))


class Pattern(NamedTuple):
    """Text with placeholders: `literals` has one more element than `names`."""

    literals: tuple[str, ...]
    names: tuple[str, ...]
    translation: str


class Catalog(NamedTuple):
    """Translations of whole texts, and of those with placeholders, the longest first."""

    texts: dict[str, str]
    patterns: tuple[Pattern, ...]

    def find_text(self, text: str) -> str:
        """Return the translation of a text whose placeholders are not filled; the text itself without one."""
        return self.texts.get(text, text)


@cache
def load_catalog(language: str) -> Catalog:
    """Return the catalog of a language, as in `zh-CN`."""
    lines = (files("edgewright.locale") / f"{language.replace('-', '_')}.po").read_text("utf-8").splitlines()
    texts = {text: translation for text, translation in read_entries(lines) if text and translation}
    patterns = [_make_pattern(text, translation) for text, translation in texts.items() if _is_distinct(text)]
    return Catalog(texts, tuple(sorted(patterns, key=lambda one: -sum(map(len, one.literals)))))


def read_entries(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each text of a `.po` file with its translation."""
    fields: dict[str, str] = {}
    name = ""
    for line in [*lines, 'msgid ""']:
        word, _, quoted = line.partition(" ")
        if word in ("msgid", "msgstr"):
            if word == "msgid" and "msgstr" in fields:
                yield fields["msgid"], fields["msgstr"]
                fields = {}
            name, fields[word] = word, json.loads(quoted)
        elif line.startswith('"'):
            fields[name] += json.loads(line)


def _is_distinct(text: str) -> bool:
    """Return whether a text with placeholders can be recognized: `{model} in {runtime}` could be part of any text."""
    rest = PLACEHOLDER.sub("", text)
    return rest != text and (COUNT in text or len(rest) >= MIN_LETTERS)


def _make_pattern(text: str, translation: str) -> Pattern:
    pieces = PLACEHOLDER.split(_mask(text))
    return Pattern(tuple(pieces[::3]), tuple(pieces[1::3]), translation)


@lru_cache(maxsize=8192)
def find_translation(text: str, language: str, depth: int = 0) -> str:
    """Return the text in a language; unchanged, or in part, where the catalog has no translation."""
    inner = text.strip()
    if not inner or len(text) > MAX_LETTERS or depth > MAX_DEPTH:
        return text
    found = _translate(_mask(inner), Translator(load_catalog(language), language, depth + 1)).replace(MASK, " ")
    return text if found == inner else text.replace(inner, found)


def _mask(text: str) -> str:
    """Return the text with the spaces of separators within parentheses replaced."""
    depth, letters = 0, []
    for position, letter in enumerate(text):
        depth = max(depth + (letter == "(") - (letter == ")"), 0)
        ends = depth > 0 and letter == " " and text[position - 1] in ".!?;,·"
        letters.append(MASK if ends else letter)
    return "".join(letters)


class Translator(NamedTuple):
    """Catalog of a language, and how many texts the current one is part of."""

    catalog: Catalog
    language: str
    depth: int

    def find(self, part: str) -> str:
        return find_translation(part.replace(MASK, " "), self.language, self.depth)


def _translate(text: str, by: Translator) -> str:
    plain, patterns = text.replace(MASK, " "), by.catalog.patterns
    if plain in by.catalog.texts and not PLACEHOLDER.search(plain):
        return by.catalog.texts[plain]
    for pattern in patterns:
        values = _match(pattern, text)
        if values is not None and not any(len(_split(value)) > 1 or value.endswith(".") for value in values.values()):
            return _fill(pattern.translation, values, by)
    for english, end in () if SENTENCE_END.search(text) else ENDS:
        if text.endswith(english) and (found := by.find(text[:-1])) != plain[:-1]:
            return found + end
    if len(parts := _split(text)) > 1:
        translated = [by.find(part) for part in parts]
        if any(new != part.replace(MASK, " ") for new, part in zip(translated[::2], parts[::2], strict=True)):
            return "".join(translated)
    for pattern in patterns:
        if (values := _match(pattern, text)) is not None:
            return _fill(pattern.translation, values, by)
    return text


def _split(text: str) -> list[str]:
    """Return the parts of a text and the translated separators between them: its sentences, else its clauses."""
    for separator, translated in ((SENTENCE_END, ""), *SEPARATORS):
        parts = separator.split(text) if isinstance(separator, re.Pattern) else text.split(separator)
        if len(parts) > 1:
            return [piece for part in parts for piece in (translated, part)][1:]
    return [text]


def _match(pattern: Pattern, text: str) -> dict[str, str] | None:
    """Return the value of each placeholder, none of which is empty; each is as short as possible, in linear time."""
    first, *middle, last = pattern.literals
    if not text.startswith(first) or not text.endswith(last):
        return None
    begin, end = len(first), len(text) - len(last)
    found = []
    for literal in middle:
        position = text.find(literal, begin + 1, end)
        if position < 0:
            return None
        found.append(text[begin:position])
        begin = position + len(literal)
    if begin >= end:
        return None
    values = dict(zip(pattern.names, [*found, text[begin:end]], strict=True))
    return values if values.get("count", "0")[:1].isdigit() else None


def _fill(translation: str, values: dict[str, str], by: Translator) -> str:
    """Return a translation with its values; `{name:t}` is translated too, `{name:l}` is a list of names."""

    def show(found: re.Match[str]) -> str:
        value = values.get(found[1], "")
        if found[2] == "l":
            return value.replace(", ", "、").replace(" and ", " 和 ")
        return by.find(value) if found[2] else value

    return PLACEHOLDER.sub(show, translation)
