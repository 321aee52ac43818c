"""Files that are named by other files: opened only where they are ordinary, and read to a limit."""

import os
from pathlib import Path

import pytest

from edgewright.formats.ordinary import open_ordinary, read_ordinary


def test_an_ordinary_file(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    (tmp_path / "link").symlink_to(file)
    assert read_ordinary(tmp_path / "link", 3) == b"abc"
    with pytest.raises(OSError, match="it has over 2 bytes"):
        read_ordinary(file, 2)


def test_what_never_ends_or_never_begins(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    for name in ("fifo", "link", ".", "/dev/zero"):
        with pytest.raises(OSError, match="not an ordinary file"):
            open_ordinary(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        open_ordinary(tmp_path / "absent")
    with pytest.raises(OSError, match="null"):
        open_ordinary(Path("a\0b"))
