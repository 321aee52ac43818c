"""Raw samples of a dataset: files of a folder or zip, arrays of an .npz, or a function's items."""

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile, ZipInfo

from edgewright.errors import DataError
from edgewright.formats.npz import NpzError, find_expansion_problem, parse_npy
from edgewright.schema.arrays import Array
from edgewright.system.files import read_regular
from edgewright.tasks.data import images
from edgewright.tasks.data.images import UnreadableSample
from edgewright.tasks.data.labels import LABELS_FILE, MAX_TABLE_BYTES, Label, is_integer_text, read_labels
from edgewright.tasks.spec.task import AudioInput, ImageInput, Task, count_classes, read_label_names

MAX_FILE_BYTES = 1 << 28
LAYOUT = "give a folder or zip with labels.csv (file,label), or with one folder for each class"


def _close_nothing() -> None:
    """Do nothing: the `close` of datasets without open files."""


class RawSamples(NamedTuple):
    """A dataset before decoding.

    Attributes:
        names: of the samples, to show.
        label: returns the label of sample i, or None.
        labeled: whether there are labels.
        fetch: returns sample i: bytes of a file, an array, or arrays by input. Raises UnreadableSample.
        fingerprint: hash of the content as far as it is known without reading all of it; empty if unknown.
        notes: notes for the user.
        close: closes open files.
        labels_are_slow: whether reading a label computes the whole sample.
    """

    names: Sequence[str]
    label: Callable[[int], Label]
    labeled: bool
    fetch: Callable[[int], Any]
    fingerprint: str
    notes: tuple[str, ...] = ()
    close: Callable[[], None] = _close_nothing
    labels_are_slow: bool = False


def open_folder(path: Path, task: Task) -> RawSamples:
    """Open a folder with class folders, with labels.csv, or without labels."""
    found = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
    sizes = {file.relative_to(path).as_posix(): file.stat().st_size for file in found if file.is_file()}
    _check_names(path, sizes)
    table = _read_labels_file(path / LABELS_FILE)
    names, labels, notes = _label_files(sizes, table, str(path), task)
    known = sha256("\n".join(f"{name} {sizes.get(name, 0)}" for name in sorted(sizes)).encode())
    known.update(table or b"")

    def fetch(index: int) -> bytes:
        return read_sample(path / names[index])

    return RawSamples(names, labels.__getitem__, _has_labels(labels), fetch, known.hexdigest(), notes)


def _check_names(path: Path, names: Iterable[str]) -> None:
    """Raise DataError for a name that is not UTF-8, because names are stored and shown in reports."""
    try:
        "\n".join(names).encode()
    except UnicodeEncodeError:
        strange = next(name for name in names if not name.isascii() and "\ufffd" in _to_printable(name))
        raise DataError(
            f"{path} has a file whose name is not UTF-8", _to_printable(strange)[:200], "rename the file"
        ) from None


def _to_printable(name: str) -> str:
    """Return the name with a replacement character for each byte that is not UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")


def _read_labels_file(table: Path) -> bytes | None:
    """Return the bytes of a labels.csv; None if there is none."""
    try:
        return read_regular(table, MAX_TABLE_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{table} cannot be read", error.strerror or str(error), LAYOUT) from None


def read_sample(file: Path) -> bytes:
    """Return the bytes of one sample's file. Raises UnreadableSample."""
    try:
        return read_regular(file, MAX_FILE_BYTES)
    except OSError as error:
        raise UnreadableSample(error.strerror or str(error)) from None


def open_zip(path: Path, task: Task) -> RawSamples:
    """Open an archive like a folder, without unpacking it to disk."""
    try:
        archive = ZipFile(path)
    except Exception as error:  # zipfile raises various errors for contradictory lengths and offsets
        why = str(error) or type(error).__name__
        raise DataError(f"{path} is not a complete zip file", why, "copy it or create it again") from None
    infos = {info.filename: info for info in archive.infolist() if not info.filename.endswith("/")}
    for name, info in infos.items():
        _check_member(path, name, info)
    root = _find_common_root(infos, _get_suffixes(task))
    inside = {name.removeprefix(root): info for name, info in infos.items()}
    table = inside.get(LABELS_FILE)
    data = _read_table(archive, table, path) if table else None
    sizes = {name: info.file_size for name, info in inside.items()}
    names, labels, notes = _label_files(sizes, data, str(path), task)
    known = "\n".join(f"{name} {info.file_size} {info.CRC}" for name, info in sorted(inside.items()))

    def fetch(index: int) -> bytes:
        info = inside.get(names[index])
        if info is None:
            raise UnreadableSample("it is not in the archive")
        return _read_member(archive, info, MAX_FILE_BYTES)

    return RawSamples(
        names, labels.__getitem__, _has_labels(labels), fetch, sha256(known.encode()).hexdigest(), notes, archive.close
    )


def _has_labels(labels: Sequence[Label]) -> bool:
    return any(label is not None for label in labels[:1])


def _check_member(path: Path, name: str, info: ZipInfo) -> None:
    """Raise DataError for a path outside the archive, or a member with a password."""
    if name.startswith("/") or ".." in name.replace("\\", "/").split("/") or ":" in name.partition("/")[0]:
        raise DataError(
            f"{path} has an entry whose path is outside the archive", name[:200], "create it again with relative paths"
        )
    if info.flag_bits & 1:
        raise DataError(f"{path} is encrypted", f"{name[:200]} needs a password", "create it again without a password")


def _read_member(archive: ZipFile, info: ZipInfo, most: int) -> bytes:
    """Return the bytes of a member, at most `most`. Raises UnreadableSample."""
    if info.file_size > most:
        raise UnreadableSample(f"it has {info.file_size:,} bytes when unpacked; the limit is {most:,}")
    if problem := find_expansion_problem(info.compress_size, info.file_size):
        raise UnreadableSample(problem)
    try:
        with archive.open(info) as member:
            return member.read(info.file_size + 1)
    except Exception as error:  # errors of zipfile, zlib, bz2 and lzma have no common class
        raise UnreadableSample(str(error) or type(error).__name__) from None


def _read_table(archive: ZipFile, table: ZipInfo, path: Path) -> bytes:
    try:
        return _read_member(archive, table, MAX_TABLE_BYTES)
    except UnreadableSample as error:
        raise DataError(f"{path}/{LABELS_FILE} cannot be read", str(error), "create the archive again") from None


def _find_common_root(names: Collection[str], suffixes: tuple[str, ...]) -> str:
    """Return the common root folder of an archive with `/`; empty if there is none."""
    real = [name for name in names if _is_wanted(name)]
    if LABELS_FILE in real or not real:
        return ""
    first = real[0].partition("/")[0] + "/"
    below = all(name.startswith(first) for name in real)
    samples = [name for name in real if name.lower().endswith(suffixes)]
    deep = f"{first}{LABELS_FILE}" in real or all(name.count("/") >= 2 for name in samples)
    return first if below and deep else ""


def _is_wanted(name: str) -> bool:
    """Return whether a file is neither hidden nor added by macOS."""
    return not any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _label_files(
    sizes: Collection[str], table: bytes | None, title: str, task: Task
) -> tuple[list[str], list[Label], tuple[str, ...]]:
    """Return the samples of a folder or archive, their labels, and notes."""
    suffixes = _get_suffixes(task)
    files = sorted(name for name in sizes if _is_wanted(name) and name.lower().endswith(suffixes))
    if table is not None:
        known = frozenset(sizes)
        names, labels = read_labels(table, f"{title}/{LABELS_FILE}", known, task)
        if not any(name in known for name in names):
            raise DataError(
                f"{title}/{LABELS_FILE} lists no file of the dataset",
                f"its first file is {names[0][:100]}; the dataset has {', '.join(files[:3]) or 'no files'}",
                "write paths relative to labels.csv",
            )
        left_out = len(set(files) - set(names))
        return names, labels, (f"{left_out} files have no row in labels.csv and are ignored",) if left_out else ()
    if not files:
        raise DataError(f"{title} has no samples", f"no file in it ends with {', '.join(suffixes[:6])}", LAYOUT)
    classes = sorted({name.partition("/")[0] for name in files if "/" in name})
    if not classes:
        return files, [None] * len(files), ("there are no labels",)
    inside = [name for name in files if "/" in name]
    numbers = _number_folders(classes, title, task)
    notes = (f"{len(files) - len(inside)} files are outside the class folders and are ignored",)
    return inside, [numbers[name.partition("/")[0]] for name in inside], notes if len(inside) < len(files) else ()


def _get_suffixes(task: Task) -> tuple[str, ...]:
    if any(isinstance(one, ImageInput) for one in task.inputs):
        return images.SUFFIXES
    return (".wav", ".npy") if any(isinstance(one, AudioInput) for one in task.inputs) else (".npy",)


def _number_folders(folders: Sequence[str], title: str, task: Task) -> dict[str, int]:
    """Return each folder's class: its index in the labels file, its number, or its index in the sorted names."""
    names = {name: number for number, name in enumerate(read_label_names(task))}
    if names and all(folder in names for folder in folders):
        return {folder: names[folder] for folder in folders}
    class_count = count_classes(task)
    if all(is_integer_text(folder) for folder in folders):
        numbers = {folder: int(folder) for folder in folders}
        if min(numbers.values()) < 0 or (class_count and max(numbers.values()) >= class_count):
            raise DataError(
                f"{title}: a folder is not a class", f"the task has {class_count} classes, numbered from 0", LAYOUT
            )
        return numbers
    if class_count > 1 and len(folders) == 1:
        raise DataError(
            f"{title} has no labels",
            f"it has no {LABELS_FILE}, and its only folder '{folders[0]}' is one class, the task has {class_count}",
            f"add {LABELS_FILE}, or a folder for each class",
        )
    if names:
        unknown = next(folder for folder in folders if folder not in names)
        raise DataError(
            f"{title}: the folder '{unknown}' is not a class",
            f"the labels file lists {', '.join(list(names)[:5])} …",
            "give the folders the names in the labels file",
        )
    if class_count and len(folders) != class_count:
        raise DataError(
            f"{title} has {len(folders)} class folders",
            f"the task has {class_count} classes, and the missing ones are unknown",
            "add a labels file to the task that lists the folders' names in order",
        )
    return {folder: number for number, folder in enumerate(folders)}


def parse_array(data: bytes) -> Array:
    """Parse an array from a .npy file's bytes. Raises UnreadableSample."""
    try:
        return parse_npy(data)
    except NpzError as error:
        raise UnreadableSample(str(error)) from None
