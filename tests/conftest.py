"""What holds for every test: a home of its own, and nothing of Edgewright's settings from outside."""

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty EDGEWRIGHT_HOME, and no config of the user's."""
    for name in [name for name in os.environ if name.startswith("EDGEWRIGHT_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "own-home"
    monkeypatch.setenv("EDGEWRIGHT_HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "own-config"))
    return home
