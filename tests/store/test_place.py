"""Where the record lies."""

from pathlib import Path

import pytest
from platformdirs.macos import MacOS
from platformdirs.unix import Unix

from edgewright.store.location import find_home


@pytest.fixture(autouse=True)
def _user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    for name in ("EDGEWRIGHT_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environ", "system", "expected"),
    [
        ({"EDGEWRIGHT_HOME": "/data/ew", "XDG_DATA_HOME": "/x"}, Unix, "/data/ew"),
        ({}, Unix, "/home/ada/.local/share/edgewright"),
        ({"EDGEWRIGHT_HOME": " ", "XDG_DATA_HOME": "/x"}, Unix, "/x/edgewright"),
        ({"XDG_DATA_HOME": "relative"}, Unix, "/home/ada/.local/share/edgewright"),
        ({}, MacOS, "/home/ada/Library/Application Support/edgewright"),
    ],
)
def test_home(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], system: type[Unix], expected: str) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("platformdirs.PlatformDirs", system)
    assert find_home() == Path(expected)


def test_relative_home_is_made_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWRIGHT_HOME", "runs")
    assert find_home() == Path.cwd() / "runs"
    monkeypatch.setenv("EDGEWRIGHT_HOME", "~/runs")
    assert find_home() == Path("/home/ada/runs")
