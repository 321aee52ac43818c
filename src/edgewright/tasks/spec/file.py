"""Task files in TOML: read with the line of errors, written with comments."""

import re
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec
from msgspec import Struct

from edgewright.errors import ConfigError
from edgewright.formats.toml import TomlError, parse_toml, read_toml
from edgewright.schema.text import suggest
from edgewright.tasks.spec.proposal import propose_task
from edgewright.tasks.spec.task import (
    BUILTIN_METRICS,
    SCHEMA,
    AudioInput,
    Augment,
    Boxes,
    Classification,
    Dtype,
    Embedding,
    ImageInput,
    NextToken,
    Regression,
    Task,
    TensorInput,
    TokensInput,
    read_label_names,
)

__all__ = ["Task", "parse_task", "propose_task", "read_task", "write_task"]

TABLE_KINDS: dict[str, tuple[type[Struct], ...]] = {
    "inputs": (ImageInput, TensorInput, AudioInput, TokensInput),
    "output": (Classification, Regression, Embedding, Boxes, NextToken),
}
DOCS_HINT = "docs/task.md lists all keys"

# Comments of keys in a written file, besides lists of words; see docs/task.md.
KEY_COMMENTS = {
    "metric": f"{' '.join(BUILTIN_METRICS)}, or FILE.py:function",
    "better": "higher or lower, for a custom metric",
    "size": "height, width",
    "resize_to": "pixels of the shorter side; [height, width] for exact",
    "antialias": "true: Pillow, torchvision; false: OpenCV, TensorFlow",
    "scale": "the model's input is (v * scale - mean) / std, with v from 0 to 255 (audio: -1 to 1)",
    "mean": "one number, or one for each channel in the order of color",
    "sample_rate": "hertz",
    "window": "samples",
    "classes": "0: the model's number",
    "softmax": "the outputs are logits",
    "labels": "a file with one class name per line",
    "flip": "mirror half of the images left to right",
    "shift": "maximum shift in pixels or audio samples; filled with 0",
    "erase": "side of a square that is set to 0, as a share of the image's sides",
    "brightness": "maximum change: pixels times 1 ± this",
    "contrast": "maximum change: distance from the image's mean times 1 ± this",
    "noise": "maximum standard deviation, for audio from -1 to 1",
    "first_class": "1 if the model's first score is a background class",
}


def read_task(path: Path, within: Path | None = None) -> Task:
    """Return the task of a file, with the absolute path of its labels file. ConfigError names the wrong line.

    Args:
        within: folder that must contain the labels file, after following links.
    """
    try:
        table, text = read_toml(path)
    except FileNotFoundError:
        raise ConfigError(
            f"task file does not exist: {path}",
            "a relative path is resolved in the current folder",
            "check the path; edgewright task init MODEL -o task.toml writes a task file",
        ) from None
    except TomlError as error:
        raise ConfigError(f"{path} is not a task file", str(error), DOCS_HINT) from None
    task = _convert_task(table, text, str(path))
    labels = getattr(task.output, "labels", "")
    if labels:
        file = path.absolute().parent / labels
        if within is not None and not file.resolve().is_relative_to(within.resolve()):
            why = "a downloaded folder must not read files outside it"
            raise ConfigError(
                f"{path}: the labels file is outside {within}", why, f"give the task file explicitly: --task {path}"
            )
        output = msgspec.structs.replace(task.output, labels=str(file))
        task = msgspec.structs.replace(task, output=output)
        read_label_names(task)
    return task


def parse_task(text: str, title: str = "the task") -> Task:
    """Parse a task; `title` names it in errors."""
    try:
        table = parse_toml(text)
    except TomlError as error:
        raise ConfigError(f"{title} is not TOML", str(error), DOCS_HINT) from None
    return _convert_task(table, text, title)


def _convert_task(table: Mapping[str, Any], text: str, title: str) -> Task:
    """Convert the text's tables to a task."""
    if (schema := table.get("schema")) is not None and schema != SCHEMA:
        raise ConfigError(f"{title} has schema {schema}", f"this Edgewright supports {SCHEMA}", DOCS_HINT)
    try:
        task = msgspec.convert(table, Task)
    except msgspec.ValidationError as error:
        raise _explain(error, text, title, table) from None
    _check_values(task, text, title)
    return task


def _explain(error: msgspec.ValidationError, text: str, title: str, table: Mapping[str, Any]) -> ConfigError:
    """Return the library's error with its line and the known keys."""
    why, _, where = str(error).partition(" - at `$")
    path = where.rstrip("`").removeprefix(".")
    unknown = re.search(r"unknown field `(.*)`", why)
    missing = re.search(r"missing required field `(.*)`", why)
    key = f"{path}.{unknown[1]}".removeprefix(".") if unknown else path
    line = _find_line(text, key)
    what = f"{title}{f', line {line}' if line else ''}: {key or 'the file'} is not valid"
    if unknown:
        return ConfigError(
            what, f"the key does not exist; the keys are {', '.join(_list_known_keys(path, table))}", DOCS_HINT
        )
    if missing:
        return ConfigError(f"{what.rpartition(': ')[0]}: {key or 'the file'} has no {missing[1]}", why, DOCS_HINT)
    return ConfigError(what, why, DOCS_HINT)


def _list_known_keys(path: str, table: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the known keys of the table at this path."""
    head = path.partition("[")[0]
    if head == "augment":
        return Augment.__struct_fields__
    if head not in TABLE_KINDS:
        return Task.__struct_fields__
    position = re.search(r"\[(\d+)\]", path)
    inner = table[head][int(position[1])] if position else table[head]
    kinds = {str(kind.__struct_config__.tag): kind for kind in TABLE_KINDS[head]}
    chosen = kinds.get(inner.get("kind", ""))
    return ("kind", *(chosen.__struct_fields__ if chosen else ()))


def _find_line(text: str, key: str) -> int:
    """Return the line of a key such as `inputs[1].size[0]`; 0 if it is not found."""
    names = [part for part in re.split(r"\.|\[(?:\d+|\.\.\.)\]", key) if part]
    wanted = re.match(r"\w+\[(\d+)\]", key)
    position, table, nearest = -1, "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\[?\s*([\w.-]+)\s*\]?\]", line):
            table = header[1]
            position += table == "inputs"
            if names and table == names[0] and (not wanted or position == int(wanted[1])):
                nearest = number
            continue
        if not (given := re.match(r"\s*\"?([\w-]+)\"?\s*=", line)):
            continue
        here = [table, given[1]] if table else [given[1]]
        if here == names[: len(here)] and (table != "inputs" or not wanted or position == int(wanted[1])):
            return number
    return nearest


def _check_values(task: Task, text: str, title: str) -> None:
    """Raise ConfigError for faults that the types do not exclude."""
    for key, why, hint in _find_faults(task):
        line = _find_line(text, key)
        raise ConfigError(f"{title}{f', line {line}' if line else ''}: {key} is not valid", why, hint or DOCS_HINT)


def _find_faults(task: Task) -> Iterator[tuple[str, str, str]]:
    """Yield key, reason and hint of each contradiction."""
    if not task.inputs:
        yield "inputs", "a task requires at least one input", ""
    names = [one.name for one in task.inputs]
    if len(set(names)) < len(names):
        yield "inputs", f"two inputs have the same name: {', '.join(names)}", ""
    for position, one in enumerate(task.inputs):
        yield from _find_input_faults(f"inputs[{position}]", one)
    yield from _find_augment_faults(task)
    if ":" in task.metric:
        return
    if task.metric not in BUILTIN_METRICS:
        yield (
            "metric",
            f"there is no metric '{task.metric}'{suggest(task.metric, BUILTIN_METRICS)}",
            f"choose {', '.join([*BUILTIN_METRICS, 'or FILE.py:function'])}",
        )
    elif not isinstance(task.output, BUILTIN_METRICS[task.metric]):
        fitting = [name for name, kinds in BUILTIN_METRICS.items() if isinstance(task.output, kinds)]
        yield (
            "metric",
            f"'{task.metric}' does not apply to this kind of output",
            f"choose {', '.join([*fitting, 'or FILE.py:function'])}",
        )


def _find_augment_faults(task: Task) -> Iterator[tuple[str, str, str]]:
    """Yield augmentation keys that apply to no input, and shifts that are too large."""
    if (wanted := task.augment) is None:
        return
    images = [one for one in task.inputs if isinstance(one, ImageInput)]
    audio_inputs = [one for one in task.inputs if isinstance(one, AudioInput)]
    if not images and not audio_inputs:
        yield "augment", "no input of the task is an image or audio", "remove the table"
    for name in () if images else ("flip", "erase", "brightness", "contrast"):
        if getattr(wanted, name):
            yield f"augment.{name}", "no input of the task is an image", "remove the key"
    if wanted.noise and not audio_inputs:
        yield "augment.noise", "no input of the task is audio", "remove the key"
    smallest = min([*(min(one.size) for one in images), *(one.window for one in audio_inputs)], default=0)
    if smallest and wanted.shift >= smallest:
        yield "augment.shift", f"it is not smaller than an input of size {smallest}", "set a smaller shift"
    varied: list[ImageInput | AudioInput] = [*images, *audio_inputs]
    for one in varied:
        if not one.dtype.startswith("float"):
            yield "augment", f"the input '{one.name}' is {one.dtype}", "only float inputs can be augmented"


def _find_input_faults(key: str, one: Struct) -> Iterator[tuple[str, str, str]]:
    for name in ("scale", "mean", "std"):
        given = getattr(one, name, ())
        if not all(isfinite(value) for value in (given if isinstance(given, tuple) else (given,))):
            yield f"{key}.{name}", "it is not finite", ""
    if isinstance(one, AudioInput) and one.std == 0:
        yield f"{key}.std", "it is 0", ""
    if not isinstance(one, ImageInput):
        return
    for name in ("scale", "mean", "std"):
        given = getattr(one, name)
        if isinstance(given, tuple) and len(given) != one.channels:
            yield f"{key}.{name}", f"it has {len(given)} numbers; {one.color} has {one.channels}", ""
    if 0 in (one.std if isinstance(one.std, tuple) else (one.std,)):
        yield f"{key}.std", "values are divided by it, so it must not be 0", ""
    if one.resize in ("pad", "none") and one.resize_to is not None:
        yield f"{key}.resize_to", f'resize = "{one.resize}" does not use it', "remove the key"
    if (small := _find_too_small_side(one)) is not None:
        yield f"{key}.resize_to", f"{small} is smaller than size, so that the crop does not fit into the image", ""
    if one.resize == "shorter" and isinstance(one.resize_to, tuple):
        yield f"{key}.resize_to", 'resize = "shorter" takes one number', 'give one number, or set resize = "exact"'
    if not one.antialias and one.interpolation not in ("nearest", "bilinear", "bicubic"):
        yield f"{key}.antialias", f"{one.interpolation} is always antialiased", "set antialias = true"


def _find_too_small_side(one: ImageInput) -> int | None:
    """Return a side after resizing that is shorter than the crop; None if there is none."""
    if one.resize_to is None or one.resize not in ("shorter", "exact"):
        return None
    sides = one.resize_to if isinstance(one.resize_to, tuple) else (one.resize_to, one.resize_to)
    wanted = one.size if one.resize == "exact" else (min(one.size), min(one.size))
    return next((side for side, want in zip(sides, wanted, strict=True) if side < want), None)


def write_task(task: Task) -> str:
    """Return the task as TOML with comments; `parse_task` returns the same task."""
    lines = [
        "# The model's inputs, outputs and metric. All keys: docs/task.md",
        *_write_table(task, ("inputs", "output", "augment")),
    ]
    for one in task.inputs:
        lines += ["", "[[inputs]]", *_write_table(one)]
    lines += ["", "[output]", *_write_table(task.output)]
    if task.augment is not None:
        lines += ["", "[augment]", *_write_table(task.augment)]
    return "\n".join(lines) + "\n"


def _write_table(record: Struct, apart: tuple[str, ...] = ()) -> list[str]:
    """Return the lines of one table, without empty default values."""
    kind = record.__struct_config__.tag
    lines = [f'kind = "{kind}"'] if kind else []
    for field in msgspec.structs.fields(record):
        value = getattr(record, field.name)
        if field.name in apart or value is None or (value in ("", ()) and value == field.default):
            continue
        words = "" if field.type is Dtype else " ".join(map(str, get_args(field.type)))
        comment = KEY_COMMENTS.get(field.name, words if get_origin(field.type) is Literal else "")
        lines.append(f"{field.name} = {_write_value(value)}{f'  # {comment}' if comment else ''}")
    return lines


def _write_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _write_text(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_write_value, value)) + "]"
    return repr(value)  # the shortest exact text of a float; TOML supports inf and nan


def _write_text(value: str) -> str:
    """Return a TOML basic string with escaped quotes, backslashes and control characters."""
    escaped = "".join(
        f"\\{char}" if char in '"\\' else char if ord(char) >= 0x20 and ord(char) != 0x7F else f"\\u{ord(char):04X}"
        for char in value
    )
    return f'"{escaped}"'
