"""Reader of TOML with limits, since configuration, tasks and recipes are not trusted."""

import re
import tomllib
from pathlib import Path
from typing import Any

from edgewright.system.files import read_regular

MOST_BYTES = 1 << 20
MOST_DEPTH = 32
# tomllib takes minutes for one key of 40,000 parts.
KEY_PART = r"""(?:[\w-]++|"(?:[^"\\\n]|\\.){0,128}+"|'[^'\n]{0,128}+')"""
DOTTED = re.compile(rf"(?<![\w-])(?:{KEY_PART}[ \t]*+\.[ \t]*+){{{MOST_DEPTH}}}")


class TomlError(ValueError):
    """Raised for a text that is not TOML, or too deeply nested; the text says why."""


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """Return the tables of a TOML file and its text.

    Raises FileNotFoundError, and TomlError for a file that cannot be read, is not regular, or is not TOML.
    """
    try:
        text = read_regular(path, MOST_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise TomlError(error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise TomlError(f"it is not UTF-8: {error}") from None
    return parse_toml(text), text


def parse_toml(text: str) -> dict[str, Any]:
    """Return the tables of a TOML text. Raises TomlError with the error in it."""
    too_deep = f"its tables or lists are nested more than {MOST_DEPTH} deep"
    if DOTTED.search(text):
        raise TomlError(too_deep)
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TomlError(str(error)) from None
    except RecursionError:
        raise TomlError(too_deep) from None
    except ValueError as error:  # a number with more digits than Python converts, an invalid date
        raise TomlError(str(error)) from None
    level: list[Any] = [tables]
    for _ in range(MOST_DEPTH):
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
        level = [one for one in level if isinstance(one, dict | list)]
    if level:
        raise TomlError(too_deep)
    return tables
