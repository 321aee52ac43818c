"""Prompts with expected answers: exact texts, patterns, or JSON of a schema.

[[prompt]]
text = "The capital of France is"
regex = "Paris"           # or exact = "…", or json_schema = {type = "object", required = ["name"]}
max_tokens = 16
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from edgewright.errors import ConfigError
from edgewright.formats.toml import TomlError, read_toml
from edgewright.limits import TimeLimitExceeded, interrupt_after

TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "null": type(None),
}
KEYWORDS = {"type", "properties", "required", "items", "enum", "additionalProperties", "minimum", "maximum"}
REGEX_SECONDS = 5.0
_HINT = 'write [[prompt]] with text = "…" and one of exact, regex, json_schema'


class ExpectedAnswer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A prompt, and what its answer must be: exactly one of `exact`, `regex` (found anywhere) and `json_schema`."""

    text: str
    exact: str | None = None
    regex: str | None = None
    json_schema: dict[str, Any] | None = None
    max_tokens: int = 32

    def accepts(self, answer: str) -> bool:
        """Return whether an answer is right; spaces around an exact text and around JSON do not count."""
        if self.exact is not None:
            return answer.strip() == self.exact.strip()
        if self.regex is not None:
            return _search(self.regex, answer)
        try:
            value = json.loads(answer)
        except (ValueError, RecursionError):
            return False
        return _fits_schema(value, self.json_schema or {})


def _search(pattern: str, answer: str) -> bool:
    try:
        with interrupt_after(REGEX_SECONDS):
            return re.search(pattern, answer) is not None
    except TimeLimitExceeded:
        what = f"the pattern {pattern[:80]!r} takes too long"
        why = f"it was not decided in {REGEX_SECONDS:g} s for an answer of {len(answer)} characters"
        raise ConfigError(what, why, "write it without repetitions inside of repetitions") from None


class _PromptFile(Struct, frozen=True, forbid_unknown_fields=True):
    prompt: tuple[ExpectedAnswer, ...]


def read_prompts(path: Path) -> tuple[ExpectedAnswer, ...]:
    """Return the prompts of a TOML file. Raises ConfigError with what is wrong."""
    try:
        prompts = msgspec.convert(read_toml(path)[0], _PromptFile).prompt
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}", "", _HINT) from None
    except (TomlError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path} cannot be used", str(error), _HINT) from None
    for number, one in enumerate(prompts, 1):
        if why := _find_fault(one):
            raise ConfigError(f"prompt {number} of {path} cannot be used", why, _HINT)
    return prompts


def _find_fault(one: ExpectedAnswer) -> str:
    if sum(value is not None for value in (one.exact, one.regex, one.json_schema)) != 1:
        return "it needs one of exact, regex and json_schema"
    if not 0 < one.max_tokens <= 100_000:
        return f"max_tokens is {one.max_tokens}"
    if one.regex is not None:
        try:
            re.compile(one.regex)
        except (re.error, RecursionError, OverflowError) as error:
            return f"the pattern cannot be read: {error}"
    return _find_schema_fault(one.json_schema) if one.json_schema is not None else ""


def _find_schema_fault(schema: Any) -> str:
    if not isinstance(schema, dict):
        return "a schema is a table"
    if unknown := sorted(set(schema) - KEYWORDS):
        return f"the schema has {unknown[0]}; known are {', '.join(sorted(KEYWORDS))}"
    kind = schema.get("type")
    if kind is not None and kind not in TYPES:
        return f"the schema has the type {kind!r}; known are {', '.join(TYPES)}"
    for name, form in (("properties", dict), ("required", list), ("enum", list)):
        if not isinstance(schema.get(name, form()), form):
            return f"{name} of the schema is not a {'table' if form is dict else 'list'}"
    inner = [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]
    return next(filter(None, map(_find_schema_fault, inner)), "")


def _fits_schema(value: Any, schema: Mapping[str, Any]) -> bool:
    """Return whether a value of JSON has the form that a schema describes, of the keywords in `KEYWORDS`."""
    kind = schema.get("type")
    if kind is not None and (
        not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind in ("number", "integer"))
    ):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, dict):
        return _fits_object(value, schema)
    if isinstance(value, list):
        return all(_fits_schema(one, schema.get("items", {})) for one in value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    return True


def _fits_object(value: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    known: Mapping[str, Any] = schema.get("properties", {})
    required: Sequence[str] = schema.get("required", ())
    if any(name not in value for name in required):
        return False
    if schema.get("additionalProperties") is False and set(value) - set(known):
        return False
    return all(_fits_schema(value[name], inner) for name, inner in known.items() if name in value)
