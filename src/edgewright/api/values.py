"""Values of options, from text as on the command line or from Python objects."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from operator import index
from typing import Any

from edgewright.errors import UsageError

MAX_INDICES = 10_000_000
MAX_PROCESSORS = 4096
MAX_SIZE = 2**63 - 1  # of an axis in ONNX
TRAINING_SETTINGS = (
    "epochs", "batch", "lr", "schedule", "warmup", "optimizer", "momentum", "weight_decay", "label_smoothing", "clip",
    "train_precision", "patience", "checkpoint_s", "train_threads", "seed",
)  # fmt: skip

Axes = tuple[tuple[int, ...], ...]  # the alternatives of each size
Words = str | Sequence[str] | None
Pairs = str | Iterable[str | tuple[str, Any]] | Mapping[str, Any] | None


def parse_words(text: str) -> list[str]:
    """Return comma-separated words; ValueError if there are none."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise ValueError("the value is empty")
    return words


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Return the input's name and its sizes from `NAME=1,3,224,224`; `NAME=` is a scalar."""
    name, axes = _parse_axes(text)
    if any(len(axis) > 1 for axis in axes):
        one = ",".join(str(axis[0]) for axis in axes)
        raise ValueError(f"'{text}' has several sizes, which only compile takes; give one, such as {name}={one}")
    if not name:
        raise ValueError(f"'{text}' is not NAME=SIZES with sizes of at least 1, such as x=1,3,224,224")
    return name, tuple(size for (size,) in axes)


def parse_shape_choice(text: str) -> tuple[str, Axes]:
    """Return the input's name and the alternatives of each size from `NAME=1,3,48,160|320`."""
    name, axes = _parse_axes(text)
    if not name:
        example = "such as x=1,3,224,224 or x=1,3,48,160|320"
        raise ValueError(f"'{text}' is not NAME=SIZES with sizes of at least 1, {example}")
    return name, axes


def _parse_axes(text: str) -> tuple[str, Axes]:
    """Return the name in `NAME=SIZES` and the alternatives of each axis; an empty name if it is not of this form."""
    name, _, sizes = text.rpartition("=")
    parts = [part for part in sizes.replace("x", ",").split(",") if part.strip()]
    try:
        axes = tuple(tuple(int(size) for size in part.split("|")) for part in parts)
    except ValueError:
        return "", ()
    return ("", ()) if any(size < 1 for axis in axes for size in axis) else (name, axes)


def parse_fixed(text: str) -> tuple[str, tuple[int | float, ...]]:
    """Return the input's name and its numbers from `NAME=16000`, `NAME=0.5,1.5` or `NAME=true`."""
    name, _, numbers = text.rpartition("=")
    try:
        values = tuple(map(_parse_number, numbers.split(",")))
    except ValueError:
        values = ()
    if not name or not values:
        raise ValueError(f"'{text}' is not NAME=VALUE with numbers, such as sr=16000 or gain=0.5,1.5")
    return name, values


def _parse_number(text: str) -> int | float:
    """Return a finite number; true and false are 1 and 0. Raises ValueError."""
    word = text.strip().lower()
    if word in ("true", "false"):
        return int(word == "true")
    try:
        return int(word)
    except ValueError:
        number = float(word)
    if not isfinite(number):
        raise ValueError(text)
    return number


def parse_affinity(text: str) -> tuple[int, ...]:
    """Return processor numbers from `0,1` or `0-3`."""
    try:
        return tuple(number for part in text.split(",") for number in _parse_range(part))
    except ValueError:
        raise ValueError(f"'{text}' is not a list of processors such as 0,1 or 0-3") from None


def parse_threads(text: str) -> int | tuple[int, ...]:
    """Return one number of threads, or several of `1,2,4`."""
    try:
        numbers = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise ValueError(f"'{text}' is not a number of threads, or several such as 1,2,4") from None
    return numbers[0] if len(numbers) == 1 else numbers


def _parse_range(part: str) -> range:
    first, dash, last = part.partition("-")
    numbers = range(int(first), int(last if dash else first) + 1)
    if not 0 < len(numbers) <= MAX_PROCESSORS or numbers[0] < 0:
        raise ValueError(part)
    return numbers


def parse_indices(text: str) -> tuple[int, ...]:
    """Return sample numbers from 0 from `0-99,200`."""
    try:
        parts = [part.partition("-") for part in text.split(",")]
        ranges = [range(int(first), int(last if dash else first) + 1) for first, dash, last in parts]
    except ValueError:
        ranges = [range(0)]
    if not all(ranges) or sum(map(len, ranges)) > MAX_INDICES:
        raise ValueError(f"'{text}' is not a list of sample numbers such as 0-99,200")
    return tuple(index for numbers in ranges for index in numbers)


def parse_tag(text: str) -> tuple[str, str]:
    """Return name and value from `NAME=VALUE`."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError(f"'{text}' is not NAME=VALUE")
    return name.strip(), value.strip()


def parse_duration(text: str) -> float:
    """Return the seconds of a time such as `60s`, `5m`, `1h` or `90`. Raises ValueError."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?) ?(s|m|min|h)?", text.strip())
    if found is None or not float(found[1]):
        raise ValueError(f"{text!r} is not a time; give seconds, minutes or hours, as 60s, 5m or 1h")
    return float(found[1]) * {"m": 60, "min": 60, "h": 3600}.get(found[2] or "s", 1)


def parse_percent(text: str | float) -> float:
    """Return a number from 0 to 100."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 100:  # false for NaN too
        raise ValueError(f"'{text}' is not a percentage from 0 to 100")
    return number


def to_words(value: Any) -> list[str]:
    """Return the words of an option that may be repeated, each time with comma-separated words."""
    if not value:
        return []
    return parse_words(value) if isinstance(value, str) else [word for one in value for word in to_words(one)]


def to_shapes(value: Any) -> dict[str, tuple[int, ...]]:
    """Return sizes by the name of the input, each axis with one size."""
    return {name: tuple(map(_check_size, sizes)) for name, sizes in _to_pairs(value, parse_shape)}


def _check_size(value: Any) -> int:
    """Return the size of an axis; ValueError below 1, TypeError for what is not an integer."""
    size = index(value)
    if size < 1:
        raise ValueError(f"{size} is not a size of at least 1")
    if size > MAX_SIZE:
        raise ValueError(f"{size} is too large for a size")
    return size


def _to_fixed(value: Any) -> dict[str, tuple[int | float, ...]]:
    """Return the numbers of fixed inputs by their names, from text, numbers, or arrays."""
    return {name: _list_numbers(numbers) for name, numbers in _to_pairs(value, parse_fixed)}


def _list_numbers(value: Any) -> tuple[int | float, ...]:
    value = value.ravel().tolist() if hasattr(value, "ravel") else value
    if isinstance(value, int | float):
        value = [value]
    return tuple(int(one) if isinstance(one, int) else float(one) for one in value)


def to_shape_choices(value: Any) -> list[tuple[str, Axes]]:
    """Return the alternatives of each axis by the name of the input."""
    pairs = _to_pairs(value, parse_shape_choice)
    return [
        (name, tuple(tuple(map(_check_size, one if isinstance(one, Iterable) else (one,))) for one in sizes))
        for name, sizes in pairs
    ]


def to_tags(value: Any) -> dict[str, str]:
    return {name: str(text) for name, text in _to_pairs(value, parse_tag)}


def _to_settings(value: Any) -> tuple[str, ...]:
    """Return runtime options as `KEY=VALUE`."""
    if isinstance(value, str):
        return (value,)
    pairs = value.items() if isinstance(value, Mapping) else value or ()
    if wrong := next((one for one in pairs if not isinstance(one, str | tuple)), None):
        raise TypeError(f"{wrong!r} is not KEY=VALUE")
    return tuple(one if isinstance(one, str) else "{}={}".format(*one) for one in pairs)


def _to_pairs(value: Any, parse: Any) -> Iterable[tuple[str, Any]]:
    """Return names with values; ValueError if a name is repeated."""
    given = value.items() if isinstance(value, Mapping) else [value] if isinstance(value, str) else value or ()
    pairs = [parse(one) if isinstance(one, str) else one for one in given]
    names = [name for name, _ in pairs]
    if wrong := next((name for name in names if not isinstance(name, str)), None):
        raise TypeError(f"{wrong!r} is not a name")
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"'{repeated}' is given more than once")
    return pairs


CONVERTERS: dict[str, Any] = {
    "tag": to_tags,
    "option": _to_settings,
    "fix": _to_fixed,
    "affinity": lambda value: parse_affinity(value) if isinstance(value, str) else tuple(value),
    "indices": lambda value: parse_indices(value) if isinstance(value, str) else tuple(value),
    "fail_on_fallback": parse_percent,
    "sustain": lambda value: parse_duration(value) if isinstance(value, str) else value,
}


def convert_value(name: str, value: Any) -> Any:
    """Return the value of an option in the type that plans have; ValueError if it is not one."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return CONVERTERS[name](value) if name in CONVERTERS and value is not None else value


def check_utf8(location: str, text: str) -> None:
    """Raise UsageError for text that is not UTF-8, as plans, reports and the store hold paths, or has a null byte."""
    if "\0" in text:
        raise UsageError(f"{location} has a null byte: {text!r}", "no path has one", "remove it")
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        raise UsageError(f"{location} is not UTF-8: {shown}", "paths are stored as UTF-8", "rename it") from None
