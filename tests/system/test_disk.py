"""A full disk as the cause of other failures."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edgewright.errors import (
    DataError,
    EdgewrightError,
    ModelNotConvertible,
    ModelNotFound,
    ModelUnreadable,
    OutputError,
    StoreFull,
    UsageError,
    WorkerCrashed,
    find_full_disk_error,
)
from edgewright.formats.files import read_model
from edgewright.formats.toml import MOST_BYTES, TomlError, read_toml
from edgewright.system import disk
from edgewright.system.disk import attribute_to_full_disk, count_free_bytes, preallocate


def test_errors_without_a_full_disk_stay() -> None:
    for error in (OSError(2, "No such file"), ValueError("4 requested"), KeyboardInterrupt("No space left on device")):
        assert find_full_disk_error(error) is None
    plain = WorkerCrashed("it died")
    assert attribute_to_full_disk(plain) is plain


def test_what_a_full_disk_was_made_into_says_so() -> None:
    error = DataError("the samples cannot be kept")
    error.__cause__ = OSError(28, "No space left on device", "x.npy")
    outcome = attribute_to_full_disk(error)
    assert isinstance(outcome, OutputError)
    assert outcome.why == "there is no space left for x.npy: the samples cannot be kept"
    error.__cause__.__cause__ = error  # a circle ends
    assert find_full_disk_error(error) is not None


@pytest.mark.parametrize(
    ("kind", "blamed"),
    [
        (ModelNotConvertible, True),
        (WorkerCrashed, True),
        (EdgewrightError, True),
        (ModelNotFound, False),
        (UsageError, False),
        (StoreFull, False),
    ],
)
def test_silent_failures_where_nothing_is_free(
    kind: Callable[[str], EdgewrightError], blamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "count_free_bytes", lambda folder: 4096 if folder == tmp_path else 1 << 40)
    error = kind("it failed")
    assert attribute_to_full_disk(error) is error
    outcome = attribute_to_full_disk(error, [tmp_path])
    assert isinstance(outcome, OutputError) == blamed
    if blamed:
        assert str(tmp_path) in outcome.why
        assert "it failed" in outcome.why


def test_free_space_of_a_folder_that_is_not_made_yet(tmp_path: Path) -> None:
    assert (count_free_bytes(tmp_path / "a" / "b") or 0) > 0


def test_a_file_without_space_is_an_error_and_no_signal(tiny_disk: Path) -> None:
    path = tiny_disk / "stack.npy"
    for size, fits in ((32 << 10, True), (1 << 20, False)):
        with path.open("wb") as file:
            file.truncate(size)
        if fits:
            preallocate(path)
            continue
        with pytest.raises(OSError, match=r"stack\.npy") as outcome:
            preallocate(path)
        assert find_full_disk_error(outcome.value) is not None


def test_a_name_in_an_error_is_no_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "disk is full.onnx"
    with pytest.raises(ModelNotFound) as missing:
        read_model(path)
    path.write_bytes(b"garbage")
    with pytest.raises(ModelUnreadable) as damaged:
        read_model(path)
    assert find_full_disk_error(missing.value) is None
    assert find_full_disk_error(damaged.value) is None


def test_a_text_file_that_is_too_large_is_no_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "task.toml"
    path.write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(TomlError, match="it has over") as large:
        read_toml(path)
    assert find_full_disk_error(large.value) is None
