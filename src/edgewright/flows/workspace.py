"""Where a plan is carried out: the device, the store of runs, and where progress is reported."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple, Self, Unpack

from msgspec import Struct

from edgewright.bench.session import Progress
from edgewright.devices.protocol import Device
from edgewright.errors import Cancelled, EdgewrightError
from edgewright.flows.interrupts import defer_interrupts
from edgewright.schema.run import PART_OF
from edgewright.store.recording import Recording, RunStart
from edgewright.store.runs.ids import new_run_id
from edgewright.store.store import Store


class Workspace(NamedTuple):
    """Device, store and progress of one plan; a plan that consists of others passes its own on.

    Attributes:
        device: that measures, and runs the models.
        store: to which the runs are written.
        progress: called with one line of text at each step.
        part_of: id of the run that the recorded runs are steps of; empty for runs of their own.
        outer: the same for the run with the id `part_of`.
        judge: on which artifacts are run after their conversion; None for `device`.
    """

    device: Device
    store: Store
    progress: Progress
    part_of: str = ""
    outer: str = ""
    judge: Device | None = None

    def at_judge(self) -> Self:
        """Return the workspace for what runs an artifact."""
        return self if self.judge is None else self._replace(device=self.judge, judge=None)

    def with_steps(self) -> Self:
        """Return a workspace whose runs are steps of the run with the new id `part_of`, which is recorded later."""
        return self._replace(part_of=new_run_id(), outer=self.part_of)

    def recording(self, kind: str, plan: Struct, **start: Unpack[RunStart]) -> Recording:
        """Begin a run on the device. StoreError if it cannot be recorded."""
        described = {} if "device" in start else self.describe_device()
        whole = self.outer if start.get("id") == self.part_of else self.part_of
        start["tags"] = start.get("tags", {}) | ({PART_OF: whole} if whole else {})
        return Recording(self.store, kind, plan, described | start)

    @contextmanager
    def record_cancelled(self, kind: str, plan: Struct, started_at: str) -> Iterator[None]:
        """Record the run `part_of` as cancelled if Ctrl-C stops the block: the runs of its steps name it."""
        try:
            yield
        except (KeyboardInterrupt, Cancelled) as stopped:
            with defer_interrupts(), suppress(EdgewrightError):  # the interrupt says more than a store that is full
                run = self.recording(kind, plan, id=self.part_of, started_at=started_at)
                run.finish("cancelled", str(stopped))
            raise

    def describe_device(self) -> RunStart:
        """Return the device and its environment, as a run stores them."""
        return {"device": self.device.facts(), "environment": self.device.environment()}
