"""Texts of errors for a caller in Python: keywords instead of the options of the command line."""

import errno
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from edgewright.errors import EdgewrightError, UsageError
from edgewright.schema.vocabulary import FORMER_OPTIONS

_is_command_line: ContextVar[bool] = ContextVar("is_command_line", default=False)
# A command, or an option with the word after it. A command in advice is left as it is, since it works in a terminal.
_OPTION = re.compile(
    r"edgewright ([a-z]+) [^;,\n]*|(?<![\w-])(?:--(no-)?([a-z][a-z-]*)|-([po]))(?: ('[^']+'|[^\s']\S*))?"
)
_SHORT = {"p": "option", "o": "output"}
# A word after an option that is its value: it has a digit, a capital letter or punctuation, or is one of these.
_VALUE = re.compile(r"'.*'|\S*[A-Z\d=./…]\S*")
_VALUES = ("all", "auto", "cancelled", "done", "fail", "litert", "local", "none", "pass", "structured", "unstructured")


@contextmanager
def name_options() -> Iterator[None]:
    """Keep the names of options in errors, within the block: the command line calls the functions."""
    token = _is_command_line.set(True)
    try:
        yield
    finally:
        _is_command_line.reset(token)


def name_keywords(error: EdgewrightError, function: str, types: Mapping[str, Any]) -> None:
    """Replace the options in the error's texts by the keywords of the function, unless the command line called it.

    Args:
        types: of the keywords by name.
    """
    if _is_command_line.get():
        return
    if error.try_this == UsageError.default_hint:
        error.try_this = f"help(edgewright.{function}) shows the keywords"
    elif error.try_this == EdgewrightError.default_hint:
        error.try_this = "the traceback shows where it failed"
    if error.try_this.startswith(f"edgewright {function} "):
        error.try_this = f"help(edgewright.{function}) shows its arguments"
    replace = _make_replacement(types)
    error.what, error.why, error.try_this = (
        _OPTION.sub(replace, text) for text in (error.what, error.why, error.try_this)
    )
    error.args = (error.what,)


def _make_replacement(types: Mapping[str, Any]) -> Callable[[re.Match[str]], str]:
    def replace(found: re.Match[str]) -> str:
        command, negation, option, short, word = found.groups(default="")
        name = _SHORT.get(short) or option.replace("-", "_")
        rest = f" {word}" if word else ""
        if command or name not in types:
            return found.group()
        if types[name] is bool:
            return f"{name}={not negation}{rest}"
        value = word.rstrip(",;:.`)")
        if not value or not (_VALUE.fullmatch(value) or word.endswith(":") or value in _VALUES):
            return f"{name}{'' if found.string[found.end() :][:1] == ':' else '='}{rest}"
        return f"{name}={_quote(value, types[name])}{word[len(value) :]}"

    return replace


def _quote(value: str, kind: Any) -> str:
    """Return the value as Python has it: a number as it is, all else as text."""
    value = value.strip("'")
    is_number = re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", value) is not None
    return value if is_number and kind is not str else f'"{value}"'


def rename_former(given: dict[str, Any], known: Mapping[str, Any]) -> None:
    """Give keywords with a former name the present one."""
    for former, present in FORMER_OPTIONS.items():
        if former in given and present in known:
            given.setdefault(present, given.pop(former))


def reject_long_path(error: OSError) -> None:
    """Raise UsageError for a path that the system rejects for its length."""
    if error.errno == errno.ENAMETOOLONG:
        why = f"the system rejects {str(error.filename)[:60]}…"
        raise UsageError("a path is too long", why, "give a path of an existing file") from None
