"""Where a plan is carried out: the device, the store of runs, and where progress is reported."""

from typing import NamedTuple, Unpack

from msgspec import Struct

from edgewright.bench.session import Progress
from edgewright.devices.protocol import Device
from edgewright.store.recording import Recording, RunStart
from edgewright.store.store import Store


class Workspace(NamedTuple):
    """Device, store and progress of one plan; a plan that consists of others passes its own on.

    Attributes:
        device: that measures, and runs the models.
        store: to which the runs are written.
        progress: called with one line of text at each step.
    """

    device: Device
    store: Store
    progress: Progress

    def recording(self, kind: str, plan: Struct, **start: Unpack[RunStart]) -> Recording:
        """Begin a run on the device. StoreError if it cannot be recorded."""
        return self.store.recording(kind, plan, **(self.describe_device() | start))

    def describe_device(self) -> RunStart:
        """Return the device and its environment, as a run stores them."""
        return {"device": self.device.facts(), "environment": self.device.environment()}
