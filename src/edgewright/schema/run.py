"""Run records: one execution of a plan with its measurements, device and results."""

from typing import Any, Literal

from msgspec import Struct

from edgewright.schema.model import Model
from edgewright.schema.vocabulary import Evidence, RunState, Unit, Verdict

# Id of the run that a run is a step of: the compilations, evaluations and benchmarks of a quantization, for instance.
PART_OF = "part-of"
# Tags that Edgewright sets; all others are the user's.
RESERVED_TAGS = ("check", "check-why", "cooling", "energy-source", "energy-evidence", "layers-via", PART_OF)


class Series(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Raw samples of one quantity in one run, in order."""

    name: str
    unit: str
    data: tuple[float, ...]


class Metric(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A summary of `n` samples; `low` and `high` are its confidence interval, if a method for that exists.

    `value` is None for an unknown quantity; a warning of the run has the reason.
    """

    name: str
    unit: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 1


class Layer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One operator as the runtime ran it, with the source graph's nodes that it implements.

    Times are microseconds of one inference; `start_us` counts from the start of the inference. `low_us` and `high_us`
    bound the median over the profiled inferences of one process (`schema.ranks`, 95 %); None if there are too few.
    """

    position: int
    name: str
    op: str
    source_nodes: tuple[str, ...]
    unit: Unit
    backend: str
    evidence: Evidence
    start_us: float | None
    median_us: float
    p90_us: float
    memory_bytes: int | None = None
    low_us: float | None = None
    high_us: float | None = None


class LayerReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The result of a profiling pass.

    Attributes:
        via: profiling method, one of the documented words (`profiler`, `c-api`, `cut-out`).
        whole_us: median time of a whole inference of the profiled passes.
        partitions: number of connected subgraphs that one backend ran without interruption.
        asked: the requested backend; a layer on any other one is a fallback.
        reason: why the runtime's best profiling method was not used; empty if it was.
        inference: start and length in microseconds of each layer in one profiled inference, the one closest to the
            median; empty if the runtime does not report starts.
    """

    layers: tuple[Layer, ...]
    via: str
    whole_us: float
    partitions: int
    asked: str
    reason: str = ""
    inference: tuple[tuple[float, float], ...] = ()

    def fallbacks(self) -> tuple[Layer, ...]:
        """Return the layers that ran on a backend other than the requested one."""
        return tuple(layer for layer in self.layers if layer.backend != self.asked)


class OutputCheck(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Comparison of a model's outputs on a device with those on the machine that measures.

    `sqnr_db` is at most 200, which means equal bits; None if there is nothing to compare, or outputs differ in shape.
    `why` is the reason of a state that is not ok.
    """

    state: Literal["ok", "failed", "unknown"]
    sqnr_db: float | None = None
    why: str = ""


class RunWarning(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cause of uncertainty in a result, with advice that fits the user's options."""

    code: str
    text: str


class RunOutput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A blob of a run; `role` is its kind (`model`, `data:NAME`, `inputs`, `log`)."""

    role: str
    sha256: str
    bytes: int
    model_id: str | None = None


class DeviceRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine or device that can run a runtime. `id` is stable for the same device."""

    id: str
    name: str
    kind: str
    address: str
    facts: dict[str, Any]


class Comparison(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Comparison of run `b` with run `a`: `ratio` is the time of b over the time of a.

    `low` and `high` cover the true ratio with `confidence`: at least 0.99 from eight processes on, less with fewer;
    None if there is no interval.
    """

    a: str
    b: str
    ratio: float
    low: float | None
    high: float | None
    confidence: float
    verdict: Verdict


class Run(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One complete run. Times are ISO 8601 in UTC; `plan` and `environment` are plain JSON values.

    The runs of one session share a `parent_id`: the id of the session's first run (which has None itself). `imported`
    is whether the run came from another store by `runs import`, at `imported_at`; None for runs recorded before this
    was stored.
    """

    id: str
    kind: str
    state: RunState
    started_at: str
    finished_at: str | None = None
    parent_id: str | None = None
    model: Model | None = None
    device: DeviceRecord | None = None
    runtime: str = ""
    plan: dict[str, Any] = {}
    plan_hash: str = ""
    environment: dict[str, Any] = {}
    error: str | None = None
    note: str = ""
    metrics: tuple[Metric, ...] = ()
    series: tuple[Series, ...] = ()
    layers: tuple[Layer, ...] = ()
    warnings: tuple[RunWarning, ...] = ()
    outputs: tuple[RunOutput, ...] = ()
    tags: dict[str, str] = {}
    imported: bool | None = False
    imported_at: str | None = None
