"""Fixtures: an empty working directory, with a model that is measured quickly."""

from pathlib import Path

import pytest

from tests.cli.calling import Call, make_call


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory."""
    place = tmp_path / "work"
    place.mkdir()
    (place / "m.pretend").write_bytes(b"pretend")
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def call(folder: Path, capfd: pytest.CaptureFixture[str]) -> Call:
    """Return a function that calls `edgewright` in `folder`."""
    return make_call(capfd)
