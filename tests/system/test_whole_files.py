"""Files that are written whole or not at all."""

import os
import stat
import threading
from pathlib import Path

import pytest

from edgewright.errors import OutputError
from edgewright.system.files import open_regular, read_regular, replace_atomically, write_atomically
from edgewright.training.loop import checkpoint


def test_a_full_disk_leaves_the_old_file(tiny_disk: Path) -> None:
    report = tiny_disk / "report.html"
    report.write_text("of yesterday")
    with pytest.raises(OutputError, match="cannot be written") as caught:
        write_atomically(report, "x" * 100_000)
    assert "No space left" in caught.value.why
    assert caught.value.exit_code == 1
    assert [path.name for path in tiny_disk.iterdir()] == ["report.html"]
    assert report.read_text() == "of yesterday"


def test_a_failure_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("of yesterday")
    with pytest.raises(ZeroDivisionError), replace_atomically(report) as part:
        part.write_text("half")
        _ = 1 / 0
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert report.read_text() == "of yesterday"


def test_mode_and_link_stay(tmp_path: Path) -> None:
    report, link = tmp_path / "report.html", tmp_path / "link"
    report.write_text("old")
    report.chmod(0o640)
    link.symlink_to(report)
    write_atomically(link, "new", follow=True)
    assert link.is_symlink()
    assert report.read_text() == "new"
    assert stat.S_IMODE(report.stat().st_mode) == 0o640
    write_atomically(report, "newer")
    assert stat.S_IMODE(report.stat().st_mode) == 0o640


@pytest.mark.parametrize("target", ["elsewhere/precious", "nothing", "loop"])
def test_a_link_in_a_folder_is_replaced(tmp_path: Path, target: str) -> None:
    out, precious = tmp_path / "out", tmp_path / "elsewhere" / "precious"
    out.mkdir()
    precious.parent.mkdir()
    precious.write_text("precious")
    (out / "loop").symlink_to(tmp_path / target if target != "loop" else out / "loop")
    write_atomically(out / "loop", "new")
    assert not (out / "loop").is_symlink()
    assert (out / "loop").read_text() == "new"
    assert precious.read_text() == "precious"
    assert not (tmp_path / "nothing").exists()


def test_a_pipe_in_a_folder_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "report.json")
    write_atomically(tmp_path / "report.json", "new")
    assert stat.S_ISREG((tmp_path / "report.json").lstat().st_mode)


def test_a_new_file_has_the_users_mode(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_atomically(tmp_path / "new", b"")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", list[str]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_atomically(pipe, "words", follow=True)
    reader.join()
    assert read == ["words"]


@pytest.mark.parametrize("name", ["folder", "absent/file"])
def test_places_where_no_file_can_be(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError):
        write_atomically(tmp_path / name, "words")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_only_regular_files_of_a_size_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1234")
    os.mkfifo(tmp_path / "pipe")
    assert read_regular(tmp_path / "file", 4) == b"1234"
    for path, most in ((tmp_path / "file", 3), (tmp_path / "pipe", 9), (Path("/dev/zero"), 9), (tmp_path, 9)):
        with pytest.raises(OSError, match=str(path)):
            read_regular(path, most)


def test_a_regular_file(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    (tmp_path / "link").symlink_to(file)
    assert read_regular(tmp_path / "link", 3) == b"abc"
    with pytest.raises(OSError, match="it has over 2 bytes"):
        read_regular(file, 2)


def test_what_never_ends_or_never_begins(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    for name in ("fifo", "link", ".", "/dev/zero"):
        with pytest.raises(OSError, match="not a regular file"):
            open_regular(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "absent")
    with pytest.raises(OSError, match="null"):
        open_regular(Path("a\0b"))


def test_the_file_of_a_training_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "report.json.part").symlink_to(tmp_path / "precious")
    checkpoint.write_atomically(tmp_path / "report.json", lambda file: file.write(b"new"))
    assert (tmp_path / "report.json").read_text() == "new"
    assert (tmp_path / "precious").read_text() == "precious"
