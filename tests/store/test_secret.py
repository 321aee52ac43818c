"""The secret in the names of folders with unfinished work."""

import os
import stat
from pathlib import Path

import pytest

from edgewright.errors import StoreError
from edgewright.store.secret import load_folder_key


def test_it_stays_and_differs_from_home_to_home(tmp_path: Path) -> None:
    key = load_folder_key(tmp_path / "one")
    assert len(key) == 64
    assert load_folder_key(tmp_path / "one") == key
    assert load_folder_key(tmp_path / "two") != key
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "one" / "folder-key").stat().st_mode) == 0o600


def test_a_damaged_one_is_made_again(tmp_path: Path) -> None:
    key = load_folder_key(tmp_path)
    (tmp_path / "folder-key").write_text("")
    assert len(load_folder_key(tmp_path)) == 64
    assert load_folder_key(tmp_path) != key


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(StoreError, match="the key of unfinished work cannot be stored"):
        load_folder_key(tmp_path / "home")
