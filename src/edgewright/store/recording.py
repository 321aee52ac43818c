"""The record of one run while it is made: begun when it starts, completed by what it produces, written once."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

import msgspec
from msgspec import Struct

from edgewright.schema.model import Model
from edgewright.schema.plan import hash_plan
from edgewright.schema.run import DeviceRecord, Layer, Metric, Run, RunOutput, RunWarning, Series
from edgewright.schema.vocabulary import RunState
from edgewright.store.runs.ids import new_run_id

if TYPE_CHECKING:
    from edgewright.store.store import Store


def utc_now() -> str:
    """Return the current time in the store's format."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class RunStart(TypedDict, total=False):
    """Fields of a run that are known when it starts; `id` is a new one by default."""

    id: str
    model: Model | None
    device: DeviceRecord
    environment: dict[str, Any]
    runtime: str
    parent_id: str | None
    plan_hash: str
    started_at: str
    tags: dict[str, str]


class RunResults(TypedDict, total=False):
    """Fields of a run that are known when it ends."""

    metrics: tuple[Metric, ...]
    series: tuple[Series, ...]
    layers: tuple[Layer, ...]
    warnings: tuple[RunWarning, ...]
    tags: dict[str, str]


class Recording:
    """A run that the store knows as `running` until `finish`.

    As a context manager it writes the run when the block ends: `done`, `cancelled` after Ctrl-C, or `failed` with the
    text of the exception; `fail` chooses `failed` without an exception.
    """

    def __init__(self, store: "Store", kind: str, plan: Struct, start: RunStart) -> None:
        self._store = store
        start = {"id": new_run_id(), "started_at": utc_now(), **start}
        if "plan_hash" not in start:
            start["plan_hash"] = hash_plan(plan)
        self.run = Run(kind=kind, state="running", plan=msgspec.to_builtins(plan), **start)
        self._outputs: list[RunOutput] = []
        self._results: RunResults = {}
        self._error = ""
        store.begin(self.run)

    @property
    def id(self) -> str:
        return self.run.id

    def put_file(self, path: Path, *, role: str, model_id: str | None = None) -> RunOutput:
        """Store a file as an output of the run. StoreError if it cannot be read or changes meanwhile."""
        return self._keep(self._store.put_file(self.id, path, role=role, model_id=model_id))

    def put_bytes(self, data: bytes, *, role: str) -> RunOutput:
        """Store bytes as an output of the run."""
        return self._keep(self._store.put_bytes(self.id, data, role=role))

    def _keep(self, output: RunOutput) -> RunOutput:
        self._outputs.append(output)
        return output

    def extend(self, outputs: Sequence[RunOutput]) -> None:
        """Add outputs that are stored already."""
        self._outputs += outputs

    def add(self, **results: Unpack[RunResults]) -> None:
        """Set results of the run; tags are added to those it has."""
        if "tags" in results:
            results["tags"] = self.run.tags | self._results.get("tags", {}) | results["tags"]
        self._results |= results

    def fail(self, error: str) -> None:
        """Mark the run as failed with this error."""
        self._error = error

    def finish(self, state: RunState = "done", error: str = "") -> Run:
        """Write the run and return it. StoreError if it cannot be written; it is then saved to a file."""
        error = error or self._error
        state = "failed" if self._error and state == "done" else state
        outputs = (*self.run.outputs, *self._outputs)
        self.run = msgspec.structs.replace(
            self.run, state=state, error=error or None, finished_at=utc_now(), outputs=outputs, **self._results
        )
        self._store.finish(self.run)
        return self.run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        elif isinstance(error, KeyboardInterrupt):
            self.finish("cancelled")
        else:
            self.finish("failed", str(error) or type(error).__name__)
