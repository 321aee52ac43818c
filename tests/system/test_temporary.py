"""Temporary folders that do not stay behind."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from edgewright.system.locks import try_lock
from edgewright.system.temporary import (
    NEW,
    TemporaryFolder,
    create_sibling,
    remove_stale_folders,
    remove_stale_folders_once,
)

KILLED = """
import os, signal, sys
from pathlib import Path
from edgewright.system.temporary import TemporaryFolder, create_sibling
folder = TemporaryFolder("job")
(folder.path / "file").write_text("left")
with create_sibling(Path(sys.argv[1])) as part:
    part.mkdir()
    (part / "file").write_text("left")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_what_a_killed_process_left_is_removed(temporary: Path, tmp_path: Path) -> None:
    with TemporaryFolder() as living:
        subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "export")], check=False)
        assert len(list(temporary.iterdir())) == 3
        (left,) = tmp_path.glob(".edgewright-*")
        remove_stale_folders()
        assert list(temporary.iterdir()) == [living.parent]
        assert list(living.iterdir()) == []
        assert not left.exists()
    assert list(temporary.iterdir()) == []


def test_what_is_not_known_to_be_ours_stays(temporary: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("of the user")
    for name in ("edgewright-unsaved-01M00000000000000000000000.json", "edgewright-abcdefgh"):
        (temporary / name).write_text("a file")
    (temporary / "edgewright-aaaaaaaa").mkdir()  # without a mark
    (temporary / "edgewright-cccccccc").symlink_to(tmp_path)
    (temporary / f"{NEW}dddddddd").mkdir()  # just being made
    foreign = temporary / "edgewright-eeeeeeee"
    foreign.mkdir()
    (foreign / "in-use").touch()
    (foreign / "elsewhere").write_bytes(os.fsencode(kept))
    (temporary / "another-ffffffff").mkdir()
    (temporary / "another-ffffffff" / "in-use").touch()
    before = {path.name for path in temporary.iterdir()}
    remove_stale_folders()
    assert {path.name for path in temporary.iterdir()} == before - {"edgewright-eeeeeeee"}
    assert kept.read_text() == "of the user"
    remove_stale_folders(now=(temporary / f"{NEW}dddddddd").stat().st_mtime + 1e5)
    assert not (temporary / f"{NEW}dddddddd").exists()


def test_a_folder_of_the_users_that_is_named_like_a_new_one_stays(temporary: Path) -> None:
    folder = temporary / f"{NEW}features"
    folder.mkdir()
    (folder / "work.txt").write_text("of the user")
    remove_stale_folders(now=folder.stat().st_mtime + 1e5)
    assert (folder / "work.txt").read_text() == "of the user"


def test_a_new_folder_whose_mark_is_held_stays(temporary: Path) -> None:
    """Windows renames no folder with an open file in it, so that a folder in use keeps the name of a new one."""
    folder = temporary / f"{NEW}ffffffff"
    folder.mkdir()
    with (folder / "in-use").open("wb") as mark:
        assert try_lock(mark)
        remove_stale_folders(now=folder.stat().st_mtime + 1e5)
        assert folder.exists()
    remove_stale_folders(now=folder.stat().st_mtime + 1e5)
    assert not folder.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a folder away")
def test_what_is_another_users_stays(temporary: Path) -> None:
    folder = temporary / "edgewright-aaaaaaaa"
    folder.mkdir()
    (folder / "in-use").touch()
    os.chown(folder, 12345, 12345)
    remove_stale_folders()
    assert folder.exists()


def test_nothing_stays_beside_a_target(temporary: Path, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), create_sibling(tmp_path / "x.html") as part:
        assert part.suffix == ".html"
        part.write_text("half")
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == [temporary]
    assert list(temporary.iterdir()) == []


def test_the_end_of_the_block_removes_a_folder_that_is_still_known(temporary: Path) -> None:
    folder = TemporaryFolder("job")
    with folder as path:
        assert path.is_dir()
    assert list(temporary.iterdir()) == []
    folder.close()


def test_a_new_folder_removes_what_was_left_once(temporary: Path) -> None:
    for _ in range(2):
        left = temporary / "edgewright-eeeeeeee"
        left.mkdir()
        (left / "in-use").touch()
        remove_stale_folders_once.cache_clear()
        TemporaryFolder().close()
        assert not left.exists()
    left.mkdir()
    (left / "in-use").touch()
    TemporaryFolder().close()
    assert left.exists()


def test_a_folder_that_cannot_get_its_name_is_an_error_and_does_not_stay(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="No space left"):
        TemporaryFolder()
    assert list(temporary.iterdir()) == []


def test_a_long_suffix_is_cut(temporary: Path, tmp_path: Path) -> None:
    with create_sibling(tmp_path / f"x.{'y' * 99}") as part:
        assert part.suffix == f".{'y' * 19}"
