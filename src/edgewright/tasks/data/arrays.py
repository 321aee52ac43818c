"""Samples from the arrays of an .npz, which are memory-mapped."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np

from edgewright.errors import DataError
from edgewright.formats.npz import NpzError, map_npz
from edgewright.schema.arrays import Array
from edgewright.tasks.data.entries import RawSamples
from edgewright.tasks.data.labels import Label, make_range_error
from edgewright.tasks.spec.task import Boxes, NextToken, Regression, Task, count_classes

LABEL_ARRAY_NAMES = ("labels", "label", "y", "targets")


def open_npz(path: Path, task: Task) -> RawSamples:
    """Open an .npz with one sample for each entry of the arrays' first axis."""
    try:
        arrays, content = map_npz(path)
    except (NpzError, OSError) as error:
        hint = "write it again with numpy.savez(FILE, NAME=array, labels=labels)"
        raise DataError(f"{path} cannot be read as .npz", str(error), hint) from None
    labels = next((arrays.pop(word) for word in LABEL_ARRAY_NAMES if word in arrays), None)
    chosen = _choose_arrays(arrays, path, task)
    count = _count_entries(chosen, labels, path)
    given: list[Label] = [None] * count if labels is None else _convert_labels(np.asarray(labels), path, task)

    def fetch(index: int) -> dict[str, Array]:
        return {name: np.asarray(array[index]) for name, array in chosen.items()}

    notes = () if labels is not None else ("there are no labels",)
    names = [f"#{i}" for i in range(count)]
    return RawSamples(names, given.__getitem__, labels is not None, fetch, sha256(content.encode()).hexdigest(), notes)


def _choose_arrays(arrays: Mapping[str, Array], path: Path, task: Task) -> dict[str, Array]:
    """Return the array of each input by name; a single input may use the only array."""
    names = [one.name for one in task.inputs]
    derived = [name for one in task.inputs for name in (getattr(one, "mask", ""), getattr(one, "segments", "")) if name]
    if len(names) == 1 and names[0] not in arrays and len(arrays) == 1:
        return {names[0]: next(iter(arrays.values()))}
    if missing := [name for name in names if name not in arrays]:
        raise DataError(
            f"{path} has no array for the input '{missing[0]}'",
            f"its arrays other than the labels are: {', '.join(arrays) or 'none'}",
            "give the arrays the names of the task's inputs",
        )
    return {name: arrays[name] for name in (*names, *derived) if name in arrays}


def _count_entries(arrays: Mapping[str, Array], labels: Array | None, path: Path) -> int:
    every = {**arrays, **({"labels": labels} if labels is not None else {})}
    counts = {name: len(array) if array.ndim else 0 for name, array in every.items()}
    if len(set(counts.values())) != 1:
        raise DataError(
            f"{path}: the arrays have different lengths",
            ", ".join(f"{n} has {c}" for n, c in counts.items()),
            "give every array one entry for each sample",
        )
    return next(iter(counts.values()))


def _convert_labels(labels: Array, path: Path, task: Task) -> list[Label]:
    """Convert class numbers, numbers, token ids, or boxes [n, most, 5] padded with class −1. Raises DataError."""
    if labels.dtype.kind == "U" and labels.ndim == 1 and ":" in task.metric:
        return [str(label) for label in labels]
    if isinstance(task.output, Regression | NextToken | Boxes):
        kept = labels if isinstance(task.output, NextToken) else labels.astype(np.float64)
        if isinstance(task.output, Boxes):
            return [rows[rows[:, 0] >= 0] for rows in kept]
        return list(kept.reshape(len(kept), -1))
    if not len(labels):
        return []
    flat = labels.reshape(len(labels), -1)
    if flat.shape[1:] != (1,):
        raise DataError(
            f"{path}: the labels have shape {list(labels.shape)}",
            "each label must be one class number",
            "convert one-hot labels with argmax",
        )
    values = flat[:, 0]
    if values.dtype.kind not in "iub" and not (values.dtype.kind == "f" and np.all(values == np.rint(values))):
        raise DataError(
            f"{path}: the labels have dtype {labels.dtype}",
            "class numbers are integers from 0",
            "convert them with astype('int64')",
        )
    class_count = count_classes(task)
    numbers = [int(value) for value in values]
    for index, number in enumerate(numbers):
        if number < 0 or (class_count and number >= class_count):
            raise make_range_error(f"{path}, label {index}", number, class_count)
    return list(numbers)
