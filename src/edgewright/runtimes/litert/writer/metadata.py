"""Stage 7: TFLite metadata for apps: labels and the input's normalization.

The buffer follows the schema `metadata_schema.fbs` of tflite-support (identifier M001). Associated files of the
model are a zip archive after the flatbuffer, where readers of either format find them.
"""

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgewright.errors import InputError

NAME = "TFLITE_METADATA"
IDENTIFIER = b"M001"
LEAST_PARSER = "1.0.0"
LABELS_FILE = "labels.txt"
# Enumeration values of the schema.
FEATURE, IMAGE, NORMALIZATION, RGB, GRAY, AXIS_LABELS = 1, 2, 1, 1, 2, 2
STAMP = (1980, 1, 1, 0, 0, 0)  # the same labels give the same bytes


@dataclass(frozen=True)
class TaskMetadata:
    """Labels and normalization of a model.

    Attributes:
        labels: names of the classes along the last axis of the first output.
        mean: per channel of the first input, or one for all: it expects (x − mean) / std.
        std: of the same length as `mean`.
    """

    labels: Sequence[str] = ()
    mean: Sequence[float] = ()
    std: Sequence[float] = ()


def check_task(task: TaskMetadata, inputs: Sequence[tuple[int, ...]], outputs: Sequence[tuple[int, ...]]) -> None:
    """Raise InputError if the labels do not fit the first output, or the numbers the first input, of these stored
    shapes."""
    if task.labels and (not outputs or not outputs[0] or outputs[0][-1] != len(task.labels)):
        raise InputError(f"{len(task.labels)} labels do not fit the first output", f"its shape is {outputs[:1]}")
    if any("\n" in label for label in task.labels):
        raise InputError("a label contains a line break", "labels are stored one per line")
    if len(task.mean) != len(task.std) or any(value == 0 for value in task.std):
        raise InputError("mean and std do not match", "give as many values of std as of mean, none of them 0")
    if task.mean and len(task.mean) != 1 and (not inputs or not inputs[0] or inputs[0][-1] != len(task.mean)):
        raise InputError(f"{len(task.mean)} means do not fit the first input", f"its shape is {inputs[:1]}")


def pack_task(task: TaskMetadata, inputs: Sequence[tuple[str, tuple[int, ...]]], outputs: Sequence[str]) -> bytes:
    """Return the metadata's flatbuffer; inputs have their stored shapes."""
    import flatbuffers  # type: ignore[import-untyped]  # ships no types

    b = flatbuffers.Builder(1024)
    ins = [_pack_input(b, name, shape, task if at == 0 else TaskMetadata()) for at, (name, shape) in enumerate(inputs)]
    outs = [_pack_output(b, name, task.labels if at == 0 else ()) for at, name in enumerate(outputs)]
    ends = {2: _refer(b, _vector(b, ins)), 3: _refer(b, _vector(b, outs))}
    subgraphs = _vector(b, [_table(b, 10, ends)])
    parser = b.CreateString(LEAST_PARSER)
    b.Finish(_table(b, 8, {3: _refer(b, subgraphs), 7: _refer(b, parser)}), IDENTIFIER)
    return bytes(b.Output())


def append_labels(data: bytes, labels: Sequence[str]) -> bytes:
    """Return the file followed by a zip archive with the labels."""
    file = io.BytesIO(data)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(LABELS_FILE, STAMP), "\n".join(labels) + "\n")
    return file.getvalue()


def _pack_input(b: Any, name: str, shape: tuple[int, ...], task: TaskMetadata) -> int:
    is_image = len(shape) == 4 and shape[-1] in (1, 3)
    fields = {0: _refer(b, b.CreateString(name)), 3: _refer(b, _pack_content(b, shape[-1] if is_image else 0))}
    if task.mean:
        numbers = {0: _refer(b, _floats(b, task.mean)), 1: _refer(b, _floats(b, task.std))}
        options = _table(b, 2, numbers)
        unit = _table(b, 2, {0: _byte(b, NORMALIZATION), 1: _refer(b, options)})
        fields[4] = _refer(b, _vector(b, [unit]))
    return _table(b, 7, fields)


def _pack_output(b: Any, name: str, labels: Sequence[str]) -> int:
    fields = {0: _refer(b, b.CreateString(name)), 3: _refer(b, _pack_content(b, 0))}
    if labels:
        place = b.CreateString(LABELS_FILE)
        file = _table(b, 4, {0: _refer(b, place), 2: _byte(b, AXIS_LABELS)})
        fields[6] = _refer(b, _vector(b, [file]))
    return _table(b, 7, fields)


def _pack_content(b: Any, channels: int) -> int:
    """Return the content type: an image with this number of channels, or plain features."""
    colors = {0: _byte(b, RGB if channels == 3 else GRAY)} if channels else {}
    properties = _table(b, 2 if channels else 0, colors)
    return _table(b, 3, {0: _byte(b, IMAGE if channels else FEATURE), 1: _refer(b, properties)})


# Flatbuffers are written manually: no installed package has generated classes of the schema.


def _table(b: Any, count: int, fields: dict[int, Callable[[int], None]]) -> int:
    b.StartObject(count)
    for slot, put in fields.items():
        put(slot)
    return int(b.EndObject())


def _refer(b: Any, offset: int) -> Callable[[int], None]:
    return lambda slot: b.PrependUOffsetTRelativeSlot(slot, offset, 0)


def _byte(b: Any, value: int) -> Callable[[int], None]:
    return lambda slot: b.PrependUint8Slot(slot, value, 0)


def _vector(b: Any, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())


def _floats(b: Any, values: Sequence[float]) -> int:
    b.StartVector(4, len(values), 4)
    for value in reversed(values):
        b.PrependFloat32(value)
    return int(b.EndVector())
