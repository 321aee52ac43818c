"""Translation of templates: the texts between tags and in attributes, when a template is compiled for a language.

A template is written in English. A text is what stands between two tags or blocks; a variable within it is a
placeholder that is named after the value.
"""

import re
from collections.abc import Callable, Iterable, Iterator

from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

from edgewright.locale.catalog import PLACEHOLDER

SHOWN_ATTRIBUTES = ("title", "aria-label", "placeholder", "alt")
UNTRANSLATED = ("code", "kbd", "script", "style", "textarea")
_ATTRIBUTE = re.compile(r"""([\w-]+)\s*=\s*$""")
_HAS_WORDS = re.compile(r"[A-Za-z]{2}")
Part = str | list[Token]  # text, or the tokens of a variable


class TemplateTranslator:
    """Reads the tokens of one template and yields them with translated texts.

    Attributes:
        texts: all texts found, in English.
    """

    def __init__(self, find: Callable[[str], str]) -> None:
        self.texts: list[str] = []
        self._find = find
        self._parts: list[Part] = []
        self._line = 1
        self._tag: str | None = None  # text of the tag that is being read
        self._quote = ""
        self._skipped = ""  # element whose text stays as it is

    def translate(self, stream: Iterable[Token]) -> Iterator[Token]:
        variable: list[Token] | None = None
        for token in stream:
            if token.type == "data":
                self._line = token.lineno
                yield from self._read(token.value)
            elif token.type == "variable_begin":
                variable = [token]
            elif variable is not None:
                variable.append(token)
                if token.type == "variable_end":
                    yield from self._add_variable(variable)
                    variable = None
            else:
                yield from self._flush()
                yield token
        yield from self._flush()

    def _is_shown(self) -> bool:
        if self._tag is None:
            return not self._skipped
        name = _ATTRIBUTE.search(self._tag) if self._quote else None
        return name is not None and name[1] in SHOWN_ATTRIBUTES

    def _add_variable(self, tokens: list[Token]) -> Iterator[Token]:
        if self._is_shown():
            self._parts.append(tokens)
        else:
            yield from self._flush()
            yield from tokens

    def _read(self, data: str) -> Iterator[Token]:
        begin = 0
        for position, letter in enumerate(data):
            if self._tag is None and letter == "<" and data[position + 1 : position + 2].strip():
                yield from self._end_text(data[begin:position])
                begin, self._tag = position, ""
            elif self._tag is not None and self._quote and letter == self._quote:
                yield from self._end_text(data[begin:position]) if self._is_shown() else ()
                begin = position if self._is_shown() else begin
                self._quote = ""
                self._tag += letter
            elif self._tag is not None and not self._quote and letter in "\"'":
                self._quote = letter
                if self._is_shown():
                    yield Token(self._line, "data", data[begin : position + 1])
                    begin = position + 1
            elif self._tag is not None and not self._quote and letter == ">":
                yield Token(self._line, "data", data[begin : position + 1])
                begin = position + 1
                self._end_tag(self._tag)
            elif self._tag is not None and not self._quote:
                self._tag += letter
        rest = data[begin:]
        if rest and self._is_shown():
            self._parts.append(rest)
        elif rest:
            yield Token(self._line, "data", rest)

    def _end_tag(self, tag: str) -> None:
        name = tag.strip("/").split()[0].lower()
        if name in UNTRANSLATED:
            self._skipped = "" if tag.startswith("/") else name
        self._tag = None

    def _end_text(self, text: str) -> Iterator[Token]:
        if self._is_shown():
            self._parts += [text] if text else []
            yield from self._flush()
        elif text:
            yield Token(self._line, "data", text)

    def _flush(self) -> Iterator[Token]:
        parts, self._parts = self._parts, []
        names: dict[str, list[Token]] = {}
        text = ""
        for part in parts:
            if isinstance(part, str):
                text += part
            else:
                name = _name_variable(part, names)
                names[name] = part
                text += f"{{{name}}}"
        inner = " ".join(text.split())
        if not _HAS_WORDS.search(PLACEHOLDER.sub("", inner)):
            yield from self._emit(parts)
            return
        self.texts.append(inner)
        found = self._find(inner)
        before = text[: len(text) - len(text.lstrip())]
        after = text[len(text.rstrip()) :]
        pieces = PLACEHOLDER.split(before + found + after)
        yield from self._emit(
            [piece if index % 3 == 0 else names[piece] for index, piece in enumerate(pieces) if index % 3 < 2]
        )

    def _emit(self, parts: list[Part]) -> Iterator[Token]:
        for part in parts:
            if not isinstance(part, str):
                yield from part
            elif part:
                yield Token(self._line, "data", part)


def _name_variable(tokens: list[Token], taken: dict[str, list[Token]]) -> str:
    """Return the name of the first value in the variable: `bytes` of `quantity(model.bytes, 'bytes')`."""
    name = "value"
    for index, token in enumerate(tokens[1:-1], 1):
        following = tokens[index + 1]
        if token.type == "name" and following.type not in ("dot", "lparen"):
            name = str(token.value)
            break
    return name if name not in taken else f"{name}{len(taken) + 1}"


def make_translation(find: Callable[[str], str]) -> type[Extension]:
    """Return the extension of an environment whose templates are translated with `find`."""

    class TranslatedTemplates(Extension):
        def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
            return TemplateTranslator(find).translate(stream)

    return TranslatedTemplates
