"""The board of the tests of SSH: one sshd for all of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.devices.ssh_server import SshServer, find_obstacle, write_wheels


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels") / "files"
    write_wheels(folder)
    return folder


@pytest.fixture(scope="session")
def bundle_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of user data that keeps what was resolved for the board."""
    return tmp_path_factory.mktemp("bundle-home")


@pytest.fixture
def offline_pip(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pip finds the packages of this Python, and no network."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """A board that keeps what is installed on it."""
    if obstacle := find_obstacle():
        pytest.skip(obstacle)
    server = SshServer(tmp_path_factory.mktemp("ssh"))
    yield server
    server.cut()
    server.stop()


@pytest.fixture
def server(shared_server: SshServer, offline_pip: None) -> Iterator[SshServer]:
    """The board, and after each test nothing of it is left running."""
    yield shared_server
    shared_server.cut()
