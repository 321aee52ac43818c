"""Facts by psutil, compared with those of /proc where both are there."""

import platform
import sys
from pathlib import Path

import pytest

from edgewright.devices.cpu import read_cpu_facts
from edgewright.devices.environment import read_environment_facts
from edgewright.devices.local import LocalDevice
from edgewright.devices.portable import read_portable_facts, read_portable_state
from edgewright.devices.system_state import read_system_state

ROOT = Path("/")


@pytest.mark.skipif(sys.platform != "linux", reason="compares with /proc")
def test_facts_are_those_of_proc() -> None:
    facts = read_portable_facts()
    assert facts["memory_bytes"] == read_environment_facts(ROOT, [], {})["memory_bytes"]
    assert facts["logical_cores"] == read_cpu_facts(ROOT)["logical_cores"]


@pytest.mark.skipif(sys.platform != "linux", reason="compares with /proc")
def test_state_has_the_keys_and_units_of_proc() -> None:
    portable, read = read_portable_state(), read_system_state(ROOT)
    assert portable.keys() <= read.keys()
    assert 0.5 < portable["memory_available_bytes"] / read["memory_available_bytes"] < 2


def test_another_system_than_linux_has_cores_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    device = LocalDevice()
    try:
        assert device.facts().facts["logical_cores"] >= 1
        assert device.environment()["memory_bytes"] > 1 << 28
        assert device.system_state()["memory_available_bytes"] > 0
    finally:
        device.close()
