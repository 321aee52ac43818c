"""Devices by the words of `--on`."""

import pytest

from edgewright.errors import DeviceUnreachable
from edgewright.flows.devices.names import find_device, open_device, select_devices
from edgewright.schema.devices import RegisteredDevice
from edgewright.store.location import find_home
from edgewright.store.recording import utc_now
from edgewright.store.store import open_store


def test_names_are_those_of_the_store() -> None:
    with open_store(find_home()) as store:
        row = RegisteredDevice(name="pi", kind="ssh", address="ssh://pi", facts={"memory": 1}, added_at=utc_now())
        store.add_device(row)
        assert find_device("pi", store) == row
        assert select_devices("pi,host", store) == ("pi", "local")
        assert select_devices("memory>=1", store) == ("pi",)
        with pytest.raises(DeviceUnreachable, match="the devices are local, pi"):
            open_device("nowhere", store)
    with pytest.raises(DeviceUnreachable):
        open_device("pi")
