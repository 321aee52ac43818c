"""Folders that come from a board: it may send anything."""

import io
import tarfile
from pathlib import Path

import pytest

from edgewright.devices.remote import device
from edgewright.errors import DeviceUnreachable

Entries = dict[str, bytes | str | None]  # a file's bytes, a link's target, or None for a folder


def pull(folder: Path, entries: Entries) -> Path:
    part, to = folder / "part", folder / "to"
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, value in entries.items():
            info = tarfile.TarInfo(name)
            if isinstance(value, bytes):
                info.size = len(value)
            else:
                info.type = tarfile.DIRTYPE if value is None else tarfile.SYMTYPE
                info.linkname = value or ""
            archive.addfile(info, io.BytesIO(value if isinstance(value, bytes) else b""))
    part.write_bytes(b"d" + content.getvalue())
    device._unpack_pulled(part, to)
    return to


def test_files_and_folders(tmp_path: Path) -> None:
    to = pull(tmp_path, {".": None, "./a": b"1", "./deep/b": b"22", "./empty": None})
    assert {one.relative_to(to).as_posix(): one.is_dir() for one in to.rglob("*")} == {
        "a": False,
        "deep": True,
        "deep/b": False,
        "empty": True,
    }
    assert (to / "deep" / "b").read_bytes() == b"22"


def test_an_empty_folder(tmp_path: Path) -> None:
    assert list(pull(tmp_path, {}).iterdir()) == []


@pytest.mark.parametrize(
    "entries", [{"../out": b"1"}, {"/tmp/out": b"1"}, {"a": "/etc/passwd"}, {"a": "..", "a/out": b"1"}]
)
def test_what_is_no_file_in_the_folder(tmp_path: Path, entries: Entries) -> None:
    with pytest.raises(DeviceUnreachable, match="no file in the folder"):
        pull(tmp_path, entries)
    assert not (tmp_path / "out").exists()


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"d" + b"x" * 2000)
    with pytest.raises(DeviceUnreachable, match="not a folder"):
        device._unpack_pulled(tmp_path / "part", tmp_path / "to")
