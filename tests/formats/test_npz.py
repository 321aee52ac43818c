"""Arrays from elsewhere: damaged ones are noticed, and no header of one ends in a traceback."""

import os
import struct
import zipfile
from collections.abc import Callable
from copy import copy
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.formats.npz import Npz, NpzError, map_npz, parse_npy, read_npz

MOST = 1 << 30
READERS: list[Callable[[Path], Npz]] = [map_npz, lambda path: read_npz(path, MOST)]


def npy(array: Any) -> bytes:
    made = BytesIO()
    np.save(made, array, allow_pickle=True)
    return made.getvalue()


def head(shape: str, kind: str = "'<f4'", behind: bytes = b"") -> bytes:
    """A .npy with any header."""
    text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + behind


def archive(path: Path, members: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return path


HEADERS = [
    head("(16, 1, 8, 8)"),
    head("(2**40,)"),
    head("(9223372036854775807,)"),
    head("(99999999999999999999,)"),
    head("(-1, 64)"),
    head("(16,)", "'V99999999999'"),
    head("(16,)", "'|S0'"),
    head("(16,)", "[('a','<f4'),('b','O')]"),
    head("(2,)", "'O'", b"\0" * 16),
    head("1"),
    head("'x'"),
    head("(True, 2)", behind=b"\0" * 8),
    head("(" + "1," * 70 + ")", behind=b"\0" * 4),
    head("(16,)", "__import__('os').getcwd()"),
    head("(16,)", "('<f4',(9999999999,))"),
    head("(1,)", behind=b"\0" * 8),
    b"\x93NUMPY\x09\x00" + b"\xff" * 100,
    b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{",
    b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65_535,
    b"\x93NUMPY\x01\x00\xe8\x03" + b"(" * 1_000,
    b"\x93NUMPY\x03\x00\x10\0\0\0" + b"{" * 16,
    b"",
    b"abc",
]


@pytest.mark.parametrize("number", range(len(HEADERS)))
def test_a_member_that_is_no_array(tmp_path: Path, number: int) -> None:
    for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = archive(tmp_path / "a.npz", {"x.npy": HEADERS[number]}, packing)
        for read in READERS:
            with pytest.raises(NpzError):
                read(path)
    with pytest.raises(NpzError):
        parse_npy(HEADERS[number])


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_whole_arrays(tmp_path: Path, packing: int) -> None:
    arrays: dict[str, Any] = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "f": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "none": np.zeros((0, 5)),
        "one": np.array(7),
        "words": np.array(["ab", "c"]),
    }
    path = archive(tmp_path / "a.npz", {f"{name}.npy": npy(array) for name, array in arrays.items()}, packing)
    for read in READERS:
        found = read(path)
        assert {name: array.tolist() for name, array in found.arrays.items()} == {
            name: array.tolist() for name, array in arrays.items()
        }
        assert found.content == map_npz(path).content
        assert str(zipfile.ZipFile(path).getinfo("a.npy").CRC) in found.content


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_one_byte_that_changed(tmp_path: Path, packing: int) -> None:
    array = np.random.default_rng(0).integers(0, 255, 4_000, np.uint8)
    path = archive(tmp_path / "a.npz", {"x.npy": npy(array)}, packing)
    for read in READERS:
        read(path)  # what is known of the whole file does not stand for the damaged one
    whole = bytearray(path.read_bytes())
    whole[2_000] ^= 0x40
    path.write_bytes(whole)
    os.utime(path, ns=(1, 1))
    for read in READERS:
        with pytest.raises(NpzError):
            read(path)


def test_a_member_that_reads_on_into_the_next(tmp_path: Path) -> None:
    raw = npy(np.ones((100, 8)))
    path = archive(tmp_path / "a.npz", {"x.npy": raw[: len(raw) // 10], "y.npy": npy(np.zeros(1_000))})
    for read in READERS:
        with pytest.raises(NpzError, match="bytes after its header"):
            read(path)


def test_a_member_with_another_name_in_its_own_header(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", {"images.npy": npy(np.ones(10))})
    path.write_bytes(path.read_bytes().replace(b"images.npy", b"labels.npy", 1))
    for read in READERS:
        with pytest.raises(NpzError):
            read(path)


def test_lengths_that_contradict_each_other(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", {"x.npy": npy(np.ones(100))})
    whole = path.read_bytes()
    place = whole.rindex(b"PK\x01\x02")
    for offset, number in ((20, 5), (24, 1 << 20), (42, 60), (42, len(whole) - 4)):  # sizes, and where it begins
        path.write_bytes(whole[: place + offset] + struct.pack("<I", number) + whole[place + offset + 4 :])
        for read in READERS:
            with pytest.raises(NpzError):
                read(path)


def test_few_bytes_that_become_many(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made, made.open("x.npy", "w") as member:
        member.write(head("(1024, 8192)"))
        for _ in range(32):
            member.write(b"\0" * (1 << 20))
    for read in READERS:
        with pytest.raises(NpzError, match=r"the ratio is over 200\. Save it without compression"):
            read(path)
    big = archive(tmp_path / "b.npz", {"x.npy": npy(np.zeros(1_000))})
    with pytest.raises(NpzError, match="at most 1,000 are read"):
        read_npz(big, 1_000)


def test_members_that_share_their_bytes(tmp_path: Path) -> None:
    """None of them is packed, and together they are far more than the file."""
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("x.npy", npy(np.zeros(25_000, np.float32)))
        for number in range(400):
            made.filelist.append(copy(made.filelist[0]))
            made.filelist[-1].filename = f"{number}.npy"
    for read in READERS:
        with pytest.raises(NpzError, match="the ratio is over 200"):
            read(path)


def test_files_that_are_no_archive_of_arrays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.npz")
    (tmp_path / "text.npz").write_text("abc")
    (tmp_path / "single.npz").write_bytes(npy(np.zeros(3)))
    archive(tmp_path / "mixed.npz", {"x.npy": npy(np.zeros(3)), "README": b"x"})
    archive(tmp_path / "twice.npz", {"x.npy": npy(np.zeros(3)), "x.npy.npy": npy(np.zeros(3))})
    with zipfile.ZipFile(tmp_path / "again.npz", "w") as made, pytest.warns(UserWarning, match="Duplicate"):
        made.writestr("x.npy", npy(np.zeros(3)))
        made.writestr("x.npy", npy(np.zeros(3)))
    for name, words in (
        ("fifo", "not a regular file"),
        ("text", "not a zip"),
        ("single", "a single array"),
        ("mixed", "'README' in it is not an array"),
        ("again", "the same name"),
    ):
        for read in READERS:
            with pytest.raises(NpzError, match=words):
                read(tmp_path / f"{name}.npz")
    assert list(map_npz(tmp_path / "twice.npz").arrays) == ["x", "x.npy"]
    with pytest.raises(FileNotFoundError):
        map_npz(tmp_path / "absent.npz")
