"""An empty folder to work in, with a model that measures in no time."""

from pathlib import Path

import pytest

from tests.cli.calling import Call, make_call


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    place = tmp_path / "work"
    place.mkdir()
    (place / "m.pretend").write_bytes(b"pretend")
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def call(folder: Path, capfd: pytest.CaptureFixture[str]) -> Call:
    """Calls `edgewright` with these words in `folder`."""
    return make_call(capfd)
