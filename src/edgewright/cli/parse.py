"""Parameter types: words, shapes, processors, indices, tags, percentages, paths; and the plan that options make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgewright.errors import UsageError

if TYPE_CHECKING:
    from msgspec import Struct

    Plan = TypeVar("Plan", bound=Struct)

MAX_INDICES = 10_000_000


class Words(click.ParamType[list[str]]):
    """Comma-separated words."""

    name = "words"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        if isinstance(value, list):
            return value
        words = [word.strip() for word in str(value).split(",") if word.strip()]
        return words or self.fail("the value is empty", param, ctx)


class Shape(click.ParamType[tuple[str, tuple[int, ...]]]):
    """`NAME=1,3,224,224`; `NAME=` is a scalar."""

    name = "shape"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        if isinstance(value, tuple):
            return value
        name, axes = _parse_axes(str(value))
        if not name or any(len(axis) > 1 for axis in axes):
            self.fail(f"'{value}' is not NAME=SIZES with sizes of at least 1, such as x=1,3,224,224", param, ctx)
        return name, tuple(size for (size,) in axes)


class ShapeChoice(click.ParamType[tuple[str, tuple[tuple[int, ...], ...]]]):
    """`NAME=1,3,48,160|320`: as `Shape`, with alternatives of a size. The value has all sizes of each axis."""

    name = "shape"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[tuple[int, ...], ...]]:
        if isinstance(value, tuple):
            return value
        name, axes = _parse_axes(str(value))
        if not name:
            example = "such as x=1,3,224,224 or x=1,3,48,160|320"
            self.fail(f"'{value}' is not NAME=SIZES with sizes of at least 1, {example}", param, ctx)
        return name, axes


def _parse_axes(text: str) -> tuple[str, tuple[tuple[int, ...], ...]]:
    """Return the name in `NAME=SIZES` and the alternatives of each axis; an empty name if it is not of this form."""
    name, _, sizes = text.rpartition("=")
    parts = [part for part in sizes.replace("x", ",").split(",") if part.strip()]
    try:
        axes = tuple(tuple(int(size) for size in part.split("|")) for part in parts)
    except ValueError:
        return "", ()
    return ("", ()) if any(size < 1 for axis in axes for size in axis) else (name, axes)


class Affinity(click.ParamType[tuple[int, ...]]):
    """Processor numbers: `0,1` or `0-3`."""

    name = "processors"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(number for part in str(value).split(",") for number in _parse_range(part))
        except ValueError:
            self.fail(f"'{value}' is not a list of processors such as 0,1 or 0-3", param, ctx)


class Indices(click.ParamType[tuple[int, ...]]):
    """Sample numbers from 0: `0-99,200`."""

    name = "indices"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            parts = [part.partition("-") for part in str(value).split(",")]
            ranges = [range(int(first), int(last if dash else first) + 1) for first, dash, last in parts]
        except ValueError:
            ranges = [range(0)]
        if not all(ranges) or sum(map(len, ranges)) > MAX_INDICES:
            self.fail(f"'{value}' is not a list of sample numbers such as 0-99,200", param, ctx)
        return tuple(index for numbers in ranges for index in numbers)


def _parse_range(part: str) -> range:
    first, dash, last = part.partition("-")
    numbers = range(int(first), int(last if dash else first) + 1)
    if not 0 < len(numbers) <= 4096 or numbers[0] < 0:
        raise ValueError(part)
    return numbers


class Tag(click.ParamType[tuple[str, str]]):
    """`NAME=VALUE`."""

    name = "tag"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, equals, text = str(value).partition("=")
        if not equals or not name.strip():
            self.fail(f"'{value}' is not NAME=VALUE", param, ctx)
        return name.strip(), text.strip()


class Percent(click.ParamType[float]):
    """A number from 0 to 100."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 <= number <= 100:  # false for NaN too
            self.fail(f"'{value}' is not a percentage from 0 to 100", param, ctx)
        return number


def check_utf8(location: str, text: str) -> None:
    """Raise UsageError for text that is not UTF-8: plans, reports and the store hold paths as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        raise UsageError(f"{location} is not UTF-8: {shown}", "paths are stored as UTF-8", "rename it") from None


class FilePath(click.Path):
    """A path that is not empty. Click accepts an empty path, which would mean the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value or "\0" in str(value):
            self.fail("the path is empty" if not value else "the path contains a zero byte", param, ctx)
        return super().convert(value, param, ctx)


PATH = FilePath()
WORDS, SHAPE, AFFINITY, TAG, PERCENT, INDICES = Words(), Shape(), Affinity(), Tag(), Percent(), Indices()
SHAPE_CHOICE = ShapeChoice()


def make_plan(kind: type[Plan], given: dict[str, Any], **fields: Any) -> Plan:
    """Return a plan with these fields; every other field has the value of the option of its name."""
    own = {name: given[name] for name in kind.__struct_fields__ if given.get(name) is not None}
    if "shapes" in own:
        own["shapes"] = dict(own["shapes"])
    return kind(**(own | fields))


def join_words(given: tuple[list[str], ...]) -> list[str]:
    """Return all words of an option that may be repeated, with a comma-separated list each time."""
    return [word for words in given for word in words]
