"""The arrays of an .npz as samples: mapped from the disk, never all in memory."""

import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile, gettempdir
from typing import IO, Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo
from zlib import error as ZlibError

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import DataError
from edgewright.tasks.contract import Boxes, NextToken, Regression, Task, number_of_classes
from edgewright.tasks.entries import Entries
from edgewright.tasks.labels import Label, out_of_range

Array = NDArray[Any]

LABEL_WORDS = ("labels", "label", "y", "targets")
DAMAGED = (OSError, ValueError, BadZipFile, ZlibError, EOFError, RuntimeError, NotImplementedError, SyntaxError)
LOCAL_HEADER = 30  # bytes of a member's own header before its name and extra field (PKWARE's appnote, 4.3.7)


def open_npz(path: Path, task: Task) -> Entries:
    """One sample for each entry of the arrays' first axis."""
    try:
        with ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            arrays = {name: map_member(path, archive, info) for name, info in members.items()}
    except DAMAGED as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{path} cannot be read as .npz", why, "numpy.savez(FILE, NAME=array, labels=labels)") from None
    labels = next((arrays.pop(word) for word in LABEL_WORDS if word in arrays), None)
    chosen = choose_arrays(arrays, path, task)
    count = count_entries(chosen, labels, path)
    given: list[Label] = [None] * count if labels is None else check_labels(np.asarray(labels), path, task)
    known = "\n".join(f"{name} {info.file_size} {info.CRC}" for name, info in sorted(members.items()))

    def fetch(index: int) -> dict[str, Array]:
        return {name: np.asarray(array[index]) for name, array in chosen.items()}

    notes = () if labels is not None else ("there are no labels",)
    names = [f"#{i}" for i in range(count)]
    return Entries(names, given.__getitem__, labels is not None, fetch, sha256(known.encode()).hexdigest(), notes)


def map_member(path: Path, archive: ZipFile, info: ZipInfo) -> Array:
    """An array whose pages are read when they are asked for; a compressed one is unpacked into a file that vanishes."""
    if info.compress_type == ZIP_STORED and not info.flag_bits & 1:
        with path.open("rb") as file:
            file.seek(info.header_offset)
            head = file.read(LOCAL_HEADER)
            file.seek(int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little"), 1)
            return map_array(file, path)
    if info.file_size > shutil.disk_usage(gettempdir()).free:
        raise ValueError(f"{info.filename} has {info.file_size:,} bytes unpacked, more than the disk has left")
    with NamedTemporaryFile(prefix="edgewright-", suffix=".npy") as unpacked, archive.open(info) as member:
        shutil.copyfileobj(member, unpacked, 1 << 20)
        unpacked.flush()
        unpacked.seek(0)
        return map_array(unpacked, Path(unpacked.name))


def map_array(file: IO[bytes], path: Path) -> Array:
    """The array that begins where the file is."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never loaded")
    if 0 in shape:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran else "C")


def choose_arrays(arrays: Mapping[str, Array], path: Path, task: Task) -> dict[str, Array]:
    """One array for each input by its name; with a single input the only array there is."""
    names = [one.name for one in task.inputs]
    derived = [name for one in task.inputs for name in (getattr(one, "mask", ""), getattr(one, "segments", "")) if name]
    if len(names) == 1 and names[0] not in arrays and len(arrays) == 1:
        return {names[0]: next(iter(arrays.values()))}
    if missing := [name for name in names if name not in arrays]:
        raise DataError(
            f"{path} lacks the input '{missing[0]}'",
            f"it has {', '.join(arrays) or 'no arrays'} beside the labels",
            "name the arrays as the task names its inputs",
        )
    return {name: arrays[name] for name in (*names, *derived) if name in arrays}


def count_entries(arrays: Mapping[str, Array], labels: Array | None, path: Path) -> int:
    every = {**arrays, **({"labels": labels} if labels is not None else {})}
    counts = {name: len(array) if array.ndim else 0 for name, array in every.items()}
    if len(set(counts.values())) != 1:
        raise DataError(
            f"{path}: the arrays differ in length", ", ".join(f"{n} has {c}" for n, c in counts.items()), "align them"
        )
    return next(iter(counts.values()))


def check_labels(labels: Array, path: Path, task: Task) -> list[Label]:
    """Class numbers, numbers, token ids, or boxes [n, most, 5] filled up with a class of −1. DataError otherwise."""
    if isinstance(task.output, Regression | NextToken | Boxes):
        kept = labels if isinstance(task.output, NextToken) else labels.astype(np.float64)
        if isinstance(task.output, Boxes):
            return [rows[rows[:, 0] >= 0] for rows in kept]
        return list(kept.reshape(len(kept), -1))
    if not len(labels):
        return []
    flat = labels.reshape(len(labels), -1)
    if flat.shape[1:] != (1,):
        raise DataError(f"{path}: labels has shape {list(labels.shape)}", "a class number is one number", "argmax")
    values = flat[:, 0]
    if values.dtype.kind not in "iub" and not (values.dtype.kind == "f" and np.all(values == np.rint(values))):
        raise DataError(f"{path}: labels are {labels.dtype}", "class numbers are integers from 0", "astype(int64)")
    many = number_of_classes(task)
    numbers = [int(value) for value in values]
    for index, number in enumerate(numbers):
        if number < 0 or (many and number >= many):
            raise out_of_range(f"{path}, label {index}", number, many)
    return list(numbers)
