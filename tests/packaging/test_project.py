"""A project's folder: files of the user stay, all else is replaced."""

from pathlib import Path

import pytest

from edgewright.errors import OutputError
from edgewright.packaging.project import FILES_FILE, check_folder, read_generated, write_project


def write(folder: Path, **files: bytes) -> tuple[str, ...]:
    names = {name.replace("_", "/"): content for name, content in files.items()}
    return write_project(folder, "native", names, check_folder(folder, "native")).kept


def test_a_changed_file_stays_and_is_named_each_time(tmp_path: Path) -> None:
    folder = tmp_path / "app"
    assert write(folder, a=b"1", src_b=b"1") == ()
    (folder / "src/b").write_text("mine")
    (folder / "own").write_text("mine")
    for content in (b"1", b"2", b"3"):
        assert write(folder, a=content, src_b=content) == ("src/b",)
        assert (folder / "a").read_bytes() == content
    assert (folder / "src/b").read_text() == (folder / "own").read_text() == "mine"


def test_a_file_that_is_no_longer_generated_is_removed_unless_it_was_changed(tmp_path: Path) -> None:
    write(tmp_path, a=b"1", old_b=b"1", old_c=b"1")
    (tmp_path / "old/c").write_text("mine")
    write(tmp_path, a=b"1")
    assert not (tmp_path / "old/b").exists()
    assert (tmp_path / "old/c").exists()


def test_a_file_of_the_user_in_the_place_of_a_new_one_stays(tmp_path: Path) -> None:
    write(tmp_path, a=b"1")
    (tmp_path / "b").write_text("mine")
    assert write(tmp_path, a=b"1", b=b"2") == ("b",)
    assert (tmp_path / "b").read_text() == "mine"


def test_a_removed_file_is_generated_again(tmp_path: Path) -> None:
    write(tmp_path, a=b"1")
    (tmp_path / "a").unlink()
    assert write(tmp_path, a=b"1") == ()
    assert (tmp_path / "a").read_bytes() == b"1"


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    folder = tmp_path / "app"
    write(folder, a=b"1")
    (folder / "a").unlink()
    (folder / "a").symlink_to(outside)
    assert write(folder, a=b"2") == ("a",)
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("listed", [None, "no JSON", '{"target":"native","files":{"../x":"1"}}'])
def test_a_folder_of_others_is_left_alone(tmp_path: Path, listed: str | None) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    if listed is not None:
        (tmp_path / FILES_FILE).write_text(listed)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(OutputError, match="not a generated project"):
        check_folder(tmp_path, "native")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_project_for_another_target_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path, a=b"1")
    with pytest.raises(OutputError, match="not a project for web"):
        check_folder(tmp_path, "web")


def test_after_an_interrupted_write_all_files_are_known(tmp_path: Path) -> None:
    write(tmp_path, a=b"1")
    (tmp_path / "b").write_bytes(b"a file where a folder should be")
    with pytest.raises(OutputError):
        write_project(tmp_path, "native", {"c": b"2", "b/d": b"2"}, read_generated(tmp_path))
    found = read_generated(tmp_path)
    assert found is not None
    assert set(found.files) == {"a", "c", "b/d"}
    (tmp_path / "b").unlink()
    assert write(tmp_path, c=b"3", b_d=b"3") == ()
    assert not (tmp_path / "a").exists()
