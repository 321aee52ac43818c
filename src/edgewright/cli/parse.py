"""Parameter types: words, shapes, processors, indices, tags, percentages, paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgewright.api.values import (
    parse_affinity,
    parse_duration,
    parse_fixed,
    parse_indices,
    parse_percent,
    parse_shape,
    parse_shape_choice,
    parse_tag,
    parse_threads,
    parse_words,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class Parsed(click.ParamType[Any]):
    """Text that a function converts; the text of its ValueError says what is wrong. Other values stay."""

    def __init__(self, name: str, parse: Callable[[Any], Any], parsed: tuple[type, ...] = (list, tuple)) -> None:
        self.name, self._parse, self._parsed = name, parse, parsed

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, self._parsed):
            return value
        try:
            return self._parse(value if isinstance(value, float) else str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class FilePath(click.Path):
    """A path that is not empty. Click accepts an empty path, which would mean the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value or "\0" in str(value):
            self.fail("the path is empty" if not value else "the path contains a zero byte", param, ctx)
        return super().convert(value, param, ctx)


PATH = FilePath()
WORDS, SHAPE, TAG = Parsed("words", parse_words), Parsed("shape", parse_shape), Parsed("tag", parse_tag)
AFFINITY, INDICES = Parsed("processors", parse_affinity), Parsed("indices", parse_indices)
THREADS = Parsed("threads", parse_threads, (int, list, tuple))
DURATION = Parsed("duration", parse_duration, (int, float))
SHAPE_CHOICE = Parsed("shape", parse_shape_choice)
DURATION = Parsed("time", parse_duration, (float,))
PERCENT = Parsed("percent", parse_percent)
FIXED = click.option(
    "--fix",
    "fixed",
    type=Parsed("value", parse_fixed),
    multiple=True,
    metavar="NAME=VALUE",
    help="Fixed value of an input, such as sr=16000.",
)
