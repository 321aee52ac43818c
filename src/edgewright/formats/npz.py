"""Reader of .npz and .npy: every length is compared with the file's, every checksum with the bytes.

NumPy cannot map arrays of an archive, and does not check checksums of parts. This reader maps arrays
from the file, so that a dataset may be larger than memory, and still verifies them.
"""

import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import IO, Any, NamedTuple
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np

from edgewright.errors import OutputError
from edgewright.schema.arrays import Array
from edgewright.system.files import open_regular

MOST_RATIO = 200  # of a file's size to its bytes in the archive
SMALL_BYTES = 1 << 20  # smaller files cannot be zip bombs
LOCAL_HEADER = 30  # bytes of a member's own header before its name and extra field (PKWARE's appnote, 4.3.7)
LOCAL_MAGIC = b"PK\x03\x04"
CHUNK = 1 << 20
_intact: set[tuple[object, ...]] = set()  # members whose checksum was compared in this process, by file and time


class NpzError(ValueError):
    """Raised for a file that is not an .npz of plain arrays, or is damaged; the text says why."""


class Npz(NamedTuple):
    """The arrays of a file by name, and an identity of its content (sizes and checksums)."""

    arrays: dict[str, Array]
    content: str


def find_expansion_problem(packed: int, unpacked: int) -> str:
    """Return why `packed` bytes must not be unpacked to `unpacked` bytes; empty if they may."""
    if unpacked <= SMALL_BYTES + MOST_RATIO * packed:
        return ""
    return (
        f"{packed:,} bytes would expand to {unpacked:,}, as in a zip bomb: the ratio is over "
        f"{MOST_RATIO}. Save it without compression (zip -0, numpy.savez), which has no such "
        "limit"
    )


def read_npz(path: Path, most: int) -> Npz:
    """Return all arrays of a file in memory. Raises FileNotFoundError and NpzError, also for over `most` bytes."""
    with _opened(path) as (file, archive, infos):
        if (total := sum(info.file_size for info in infos.values())) > most:
            raise NpzError(f"its arrays have {total:,} bytes, and at most {most:,} are read")
        arrays = {}
        for name, info in infos.items():
            _member_start(file, info)
            with archive.open(info) as member:  # zipfile compares the checksum
                arrays[name] = _parse(member.read(info.file_size + 1), info.filename)
        return Npz(arrays, _content(infos))


def map_npz(path: Path) -> Npz:
    """Return the arrays of a file, whose pages are read on access.

    A compressed one is unpacked into a file of the temporary folder that vanishes with it.

    Raises FileNotFoundError and NpzError.
    """
    with _opened(path) as (file, archive, infos):
        return Npz({name: _map(file, archive, info) for name, info in infos.items()}, _content(infos))


def parse_npy(data: bytes) -> Array:
    """Return the array in the bytes of a .npy. Raises NpzError for other bytes."""
    try:
        return _parse(data, "the file")
    except NpzError:
        raise
    except Exception as error:  # NumPy's header reader raises many classes
        raise NpzError(_describe_error(error)) from None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], ZipFile, dict[str, ZipInfo]]]:
    """Open the file as an archive; yield it with its members by array name."""
    try:
        with open_regular(path) as file:
            _check_archive(file)
            with ZipFile(file) as archive:
                yield file, archive, _members(archive, _size(file))
    except (NpzError, FileNotFoundError):
        raise
    except Exception as error:  # zipfile, zlib and NumPy's header reader raise many classes
        raise NpzError(_describe_error(error)) from None


def _check_archive(file: IO[bytes]) -> None:
    if file.read(6) == b"\x93NUMPY":
        raise NpzError("it holds a single array, which has no name")


def _describe_error(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).partition("\n")[0][:200] or type(error).__name__


def _members(archive: ZipFile, size: int) -> dict[str, ZipInfo]:
    infos = archive.infolist()
    named = {info.filename.removesuffix(".npy"): info for info in infos}
    if len(named) < len(infos):
        raise NpzError("two of its arrays have the same name")
    if strange := next((info.filename for info in infos if not info.filename.endswith(".npy")), None):
        raise NpzError(f"'{strange[:200]}' in it is not an array (.npy)")
    for info in infos:
        if problem := find_expansion_problem(info.compress_size, info.file_size):
            raise NpzError(f"{info.filename[:200]}: {problem}")
    if problem := find_expansion_problem(size, sum(info.file_size for info in infos)):  # members may share their bytes
        raise NpzError(problem)
    return named


def _content(infos: dict[str, ZipInfo]) -> str:
    return "\n".join(f"{name} {info.file_size} {info.CRC}" for name, info in sorted(infos.items()))


def _member_start(file: IO[bytes], info: ZipInfo) -> int:
    """Return the position of a member's bytes. Raises NpzError if they are not in the file, or lengths contradict."""
    file.seek(info.header_offset)
    head = file.read(LOCAL_HEADER)
    if len(head) < LOCAL_HEADER or not head.startswith(LOCAL_MAGIC):
        raise NpzError(f"{info.filename[:200]} does not begin at the offset that the archive gives")
    start = file.tell() + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    stored = info.compress_type == ZIP_STORED
    if (stored and info.compress_size != info.file_size) or start + info.compress_size > _size(file):
        raise NpzError(
            f"{info.filename[:200]} is incomplete: its lengths contradict each other, or the file ends early"
        )
    return start


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def _map(file: IO[bytes], archive: ZipFile, info: ZipInfo) -> Array:
    archive.open(info).close()  # zipfile compares the member's own header with the archive's list
    start = _member_start(file, info)
    if info.compress_type == ZIP_STORED and not info.flag_bits & 1:
        _check_sum(file, start, info)
        file.seek(start)
        return _map_array(file, info.file_size, info.filename)
    if info.file_size > (free := shutil.disk_usage(gettempdir()).free):
        why = f"{info.filename} has {info.file_size:,} bytes unpacked, but {gettempdir()} has only {free:,} free"
        raise OutputError("the disk is full", why, "free some space, or set TMPDIR to another temporary folder")
    with TemporaryFile(prefix="edgewright-", suffix=".npy") as unpacked, archive.open(info) as member:
        shutil.copyfileobj(member, unpacked, CHUNK)
        unpacked.flush()
        unpacked.seek(0)
        return _map_array(unpacked, info.file_size, info.filename)


def _check_sum(file: IO[bytes], start: int, info: ZipInfo) -> None:
    """Compare the checksum, once for each member of an unchanged file. Raises NpzError if it does not match."""
    status = os.fstat(file.fileno())
    known = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, start, info.file_size, info.CRC)
    if known in _intact:
        return
    file.seek(start)
    left, found = info.file_size, 0
    while left and (chunk := file.read(min(CHUNK, left))):
        found, left = zlib.crc32(chunk, found), left - len(chunk)
    if left or found != info.CRC:
        raise NpzError(f"{info.filename} is damaged: its checksum does not match")
    _intact.add(known)


def _map_array(file: IO[bytes], size: int, title: str) -> Array:
    shape, fortran, dtype = _read_header(file, size, title)
    if 0 in shape:
        return np.zeros(shape, dtype)
    return np.memmap(file, dtype, "r", file.tell(), shape, "F" if fortran else "C")


def _parse(data: bytes, title: str) -> Array:
    file = BytesIO(data)
    shape, fortran, dtype = _read_header(file, len(data), title)
    return np.ndarray(shape, dtype, bytearray(memoryview(data)[file.tell() :]), order="F" if fortran else "C")


def _read_header(file: IO[bytes], size: int, title: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of a .npy of `size` bytes at the file's position. Raises NpzError if the data does not fit it."""
    began = file.tell()
    if file.read(6) != b"\x93NUMPY":
        raise NpzError(f"{title} is not an array (.npy)")
    file.seek(began)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise NpzError(f"{title} has .npy format version {version[0]}.{version[1]}, which is not supported")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise NpzError(f"{title} holds Python objects, which are never loaded")
    if any(isinstance(one, bool) or one < 0 for one in shape) or not dtype.itemsize:
        raise NpzError(f"{title} has the shape {list(shape)} of {dtype}, which is impossible")
    expected = dtype.itemsize
    for one in shape:
        expected *= one
    if expected != size - (file.tell() - began):
        raise NpzError(
            f"{title} has {size - (file.tell() - began):,} bytes after its header, which requires {expected:,}"
        )
    return shape, fortran, dtype
