"""What holds for every test of generated apps: a home of its own."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty EDGEWRIGHT_HOME, and a time limit that a busy machine does not reach."""
    home = tmp_path / "own-home"
    monkeypatch.setenv("EDGEWRIGHT_HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "own-config"))
    monkeypatch.setenv("EDGEWRIGHT_TIME_LIMIT", "150")
    return home
