"""A record of its own and this machine, for tests of flows; races that only have to come to an end."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edgewright.devices.protocol import Device
from edgewright.flows.devices.names import open_device
from edgewright.flows.experiment import control
from edgewright.store.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "record") as opened:
        yield opened


@pytest.fixture
def device() -> Iterator[Device]:
    with closing(open_device("local")) as opened:
        yield opened


@pytest.fixture
def quick_races(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not tested which network is faster."""
    monkeypatch.setattr(control, "PROCESSES", 2)
    monkeypatch.setattr(control, "SECONDS", 0.01)
