"""A task as TOML: read with the place of what is wrong, written with what each key means."""

import re
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from edgewright.errors import ConfigError
from edgewright.formats.toml import TomlError, parse_toml, read_toml
from edgewright.tasks.spec.proposal import propose_task
from edgewright.tasks.spec.task import (
    BUILTIN_METRICS,
    SCHEMA,
    AudioInput,
    Augment,
    Boxes,
    Classification,
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
DOCS_HINT = "docs/task.md has every key"

# What stands behind a key in a written file; docs/task.md says more.
KEY_COMMENTS = {
    "metric": "top1 top5 accuracy auc mae map map50 perplexity, or FILE.py:function",
    "better": "higher or lower, for a metric of your own",
    "size": "height, width",
    "resize": "shorter exact pad none",
    "resize_to": "pixels of the shorter side, or [height, width] with exact",
    "crop": "center none",
    "interpolation": "nearest bilinear bicubic lanczos box hamming",
    "antialias": "true: Pillow, torchvision; false: OpenCV, TensorFlow",
    "pad_align": "center corner",
    "alpha": "drop white black",
    "color": "RGB BGR gray",
    "scale": "the model sees (v * scale - mean) / std, of v from 0 to 255",
    "mean": "one number, or one for each channel in the order of color",
    "layout": "NCHW NHWC",
    "sample_rate": "hertz",
    "window": "samples",
    "softmax": "the outputs are logits",
    "labels": "a file with one class on each line",
    "flip": "half of the pictures, left to right",
    "shift": "pixels, or samples of a sound, at the most; 0 comes in",
    "erase": "share of the sides of a square that is set to 0",
    "brightness": "pixels times 1 ± this at the most",
    "contrast": "distance from the picture's mean times 1 ± this at the most",
    "noise": "standard deviation at the most, of a sound from -1 to 1",
    "first_class": "1 where the model has a background class in front",
    "format": "xyxy yxyx xywh cxcywh",
}


def read_task(path: Path, within: Path | None = None) -> Task:
    """Return the task in a file; its labels file by its whole path. ConfigError names the line of what is wrong.

    Args:
        within: a folder that the labels file must lie in, links followed.
    """
    try:
        table, text = read_toml(path)
    except FileNotFoundError:
        raise ConfigError(
            f"there is no task file {path}",
            "a relative path starts in the current folder",
            "check the path; edgewright task init MODEL -o task.toml writes a task file",
        ) from None
    except TomlError as error:
        raise ConfigError(f"{path} is no task file", str(error), DOCS_HINT) from None
    task = _convert_task(table, text, str(path))
    labels = getattr(task.output, "labels", "")
    if labels:
        file = path.absolute().parent / labels
        if within is not None and not file.resolve().is_relative_to(within.resolve()):
            why = "a folder that came from elsewhere must not reach your other files"
            raise ConfigError(f"{path}: labels leads out of {within}", why, f"name the task yourself: --task {path}")
        output = msgspec.structs.replace(task.output, labels=str(file))
        task = msgspec.structs.replace(task, output=output)
        read_label_names(task)
    return task


def parse_task(text: str, title: str = "the task") -> Task:
    """The task in this text; `title` names it in errors."""
    try:
        table = parse_toml(text)
    except TomlError as error:
        raise ConfigError(f"{title} is not TOML", str(error), DOCS_HINT) from None
    return _convert_task(table, text, title)


def _convert_task(table: Mapping[str, Any], text: str, title: str) -> Task:
    """The task in the tables of this text."""
    if (schema := table.get("schema")) is not None and schema != SCHEMA:
        raise ConfigError(f"{title} has schema {schema}", f"this Edgewright knows {SCHEMA}", DOCS_HINT)
    try:
        task = msgspec.convert(table, Task)
    except msgspec.ValidationError as error:
        raise _explain(error, text, title, table) from None
    _check_values(task, text, title)
    return task


def _explain(error: msgspec.ValidationError, text: str, title: str, table: Mapping[str, Any]) -> ConfigError:
    """The library's complaint with the line that it is about, and the keys that are known there."""
    why, _, where = str(error).partition(" - at `$")
    path = where.rstrip("`").removeprefix(".")
    unknown = re.search(r"unknown field `(.*)`", why)
    missing = re.search(r"missing required field `(.*)`", why)
    key = f"{path}.{unknown[1]}".removeprefix(".") if unknown else path
    line = _find_line(text, key)
    what = f"{title}{f', line {line}' if line else ''}: {key or 'it'} cannot be used"
    if unknown:
        return ConfigError(what, f"there is no such key; known: {', '.join(_list_known_keys(path, table))}", DOCS_HINT)
    if missing:
        return ConfigError(f"{what.rpartition(': ')[0]}: {key or 'the file'} has no {missing[1]}", why, DOCS_HINT)
    return ConfigError(what, why, DOCS_HINT)


def _list_known_keys(path: str, table: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys that a table of this path may have."""
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
    """The line where a key such as `inputs[1].size[0]` stands; 0 where it is not found."""
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
    """ConfigError for what the types alone do not forbid."""
    for key, why, hint in _find_faults(task):
        line = _find_line(text, key)
        raise ConfigError(f"{title}{f', line {line}' if line else ''}: {key} cannot be used", why, hint or DOCS_HINT)


def _find_faults(task: Task) -> Iterator[tuple[str, str, str]]:
    """Key, reason and hint of each contradiction."""
    if not task.inputs:
        yield "inputs", "a task has one input at least", ""
    names = [one.name for one in task.inputs]
    if len(set(names)) < len(names):
        yield "inputs", f"two inputs have one name: {', '.join(names)}", ""
    for position, one in enumerate(task.inputs):
        yield from _find_input_faults(f"inputs[{position}]", one)
    yield from _find_augment_faults(task)
    if ":" in task.metric:
        return
    if task.metric not in BUILTIN_METRICS:
        yield "metric", f"'{task.metric}' is not known; known: {', '.join(BUILTIN_METRICS)}", "or FILE.py:function"
    elif not isinstance(task.output, BUILTIN_METRICS[task.metric]):
        fitting = [name for name, kinds in BUILTIN_METRICS.items() if isinstance(task.output, kinds)]
        yield (
            "metric",
            f"'{task.metric}' does not fit the output",
            f"fitting: {', '.join(fitting)}, or FILE.py:function",
        )


def _find_augment_faults(task: Task) -> Iterator[tuple[str, str, str]]:
    """Keys that no input of the task can be varied by, and shifts that leave nothing of one."""
    if (wanted := task.augment) is None:
        return
    images = [one for one in task.inputs if isinstance(one, ImageInput)]
    audio_inputs = [one for one in task.inputs if isinstance(one, AudioInput)]
    if not images and not audio_inputs:
        yield "augment", "no input of the task is a picture or a sound", "leave the table out"
    for name in () if images else ("flip", "erase", "brightness", "contrast"):
        if getattr(wanted, name):
            yield f"augment.{name}", "no input of the task is a picture", "leave it out"
    if wanted.noise and not audio_inputs:
        yield "augment.noise", "no input of the task is a sound", "leave it out"
    smallest = min([*(min(one.size) for one in images), *(one.window for one in audio_inputs)], default=0)
    if smallest and wanted.shift >= smallest:
        yield "augment.shift", f"it moves all of an input of {smallest} out", "a smaller one"
    varied: list[ImageInput | AudioInput] = [*images, *audio_inputs]
    for one in varied:
        if not one.dtype.startswith("float"):
            yield "augment", f"the input '{one.name}' is {one.dtype}", "only floats are varied"


def _find_input_faults(key: str, one: Struct) -> Iterator[tuple[str, str, str]]:
    for name in ("scale", "mean", "std"):
        given = getattr(one, name, ())
        if not all(isfinite(value) for value in (given if isinstance(given, tuple) else (given,))):
            yield f"{key}.{name}", "it is no finite number", ""
    if isinstance(one, AudioInput) and one.std == 0:
        yield f"{key}.std", "it is 0", ""
    if not isinstance(one, ImageInput):
        return
    for name in ("scale", "mean", "std"):
        given = getattr(one, name)
        if isinstance(given, tuple) and len(given) != one.channels:
            yield f"{key}.{name}", f"it has {len(given)} numbers; {one.color} has {one.channels}", ""
    if 0 in (one.std if isinstance(one.std, tuple) else (one.std,)):
        yield f"{key}.std", "a value is divided by it, and it is 0", ""
    if one.resize in ("pad", "none") and one.resize_to is not None:
        yield f"{key}.resize_to", f'resize = "{one.resize}" does not use it', "leave it out"
    if (small := _find_too_small_side(one)) is not None:
        yield f"{key}.resize_to", f"{small} is smaller than size, so that the crop would leave the picture", ""
    if one.resize == "shorter" and isinstance(one.resize_to, tuple):
        yield f"{key}.resize_to", 'resize = "shorter" takes one number', 'resize = "exact" takes two'
    if not one.antialias and one.interpolation not in ("nearest", "bilinear", "bicubic"):
        yield f"{key}.antialias", f"{one.interpolation} is always antialiased", "antialias = true"


def _find_too_small_side(one: ImageInput) -> int | None:
    """A side after resizing that is shorter than what is cut out of it."""
    if one.resize_to is None or one.resize not in ("shorter", "exact"):
        return None
    sides = one.resize_to if isinstance(one.resize_to, tuple) else (one.resize_to, one.resize_to)
    wanted = one.size if one.resize == "exact" else (min(one.size), min(one.size))
    return next((side for side, want in zip(sides, wanted, strict=True) if side < want), None)


def write_task(task: Task) -> str:
    """The task as TOML with what the keys mean; `parse_task` gives it back."""
    lines = [
        "# What the model eats and gives. Every key: docs/task.md",
        *_write_table(task, ("inputs", "output", "augment")),
    ]
    for one in task.inputs:
        lines += ["", "[[inputs]]", *_write_table(one)]
    lines += ["", "[output]", *_write_table(task.output)]
    if task.augment is not None:
        lines += ["", "[augment]", *_write_table(task.augment)]
    return "\n".join(lines) + "\n"


def _write_table(record: Struct, apart: tuple[str, ...] = ()) -> list[str]:
    """The keys of one table; empty ones are left out where that is their default."""
    kind = record.__struct_config__.tag
    lines = [f'kind = "{kind}"'] if kind else []
    defaults = {field.name: field.default for field in msgspec.structs.fields(record)}
    for name in record.__struct_fields__:
        value = getattr(record, name)
        if name in apart or value is None or (value in ("", ()) and value == defaults[name]):
            continue
        remark = f"  # {KEY_COMMENTS[name]}" if name in KEY_COMMENTS else ""
        lines.append(f"{name} = {_write_value(value)}{remark}")
    return lines


def _write_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _write_text(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_write_value, value)) + "]"
    return repr(value)  # of float the shortest that gives it back; TOML knows inf and nan too


def _write_text(value: str) -> str:
    """A basic string: quotes, backslashes and control characters escaped."""
    escaped = "".join(
        f"\\{char}" if char in '"\\' else char if ord(char) >= 0x20 and ord(char) != 0x7F else f"\\u{ord(char):04X}"
        for char in value
    )
    return f'"{escaped}"'
