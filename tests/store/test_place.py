"""Where the record lies."""

from pathlib import Path

import pytest

from edgewright.store.location import find_home

USER = Path("/home/ada")


@pytest.mark.parametrize(
    ("environ", "platform", "expected"),
    [
        ({"EDGEWRIGHT_HOME": "/data/ew", "XDG_DATA_HOME": "/x"}, "linux", "/data/ew"),
        ({}, "linux", "/home/ada/.local/share/edgewright"),
        ({"EDGEWRIGHT_HOME": " ", "XDG_DATA_HOME": "/x"}, "linux", "/x/edgewright"),
        ({"XDG_DATA_HOME": "relative"}, "linux", "/home/ada/.local/share/edgewright"),
        ({"XDG_DATA_HOME": "/x"}, "darwin", "/home/ada/Library/Application Support/edgewright"),
        ({"LOCALAPPDATA": "/local"}, "win32", "/local/edgewright"),
        ({}, "win32", "/home/ada/AppData/Local/edgewright"),
    ],
)
def test_home(environ: dict[str, str], platform: str, expected: str) -> None:
    assert find_home(environ, platform, USER) == Path(expected)


def test_relative_home_is_made_absolute() -> None:
    assert find_home({"EDGEWRIGHT_HOME": "runs"}) == Path.cwd() / "runs"
    assert find_home({"EDGEWRIGHT_HOME": "~/runs"}) == Path("~/runs").expanduser()
