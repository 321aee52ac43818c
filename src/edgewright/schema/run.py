"""A run is one execution of a plan: what was measured, where, and what came out."""

from typing import Any

from msgspec import Struct

from edgewright.schema.model import Model
from edgewright.schema.vocabulary import Evidence, RunState, Unit, Verdict

# Tags that the product puts on a run for itself; all others are the user's.
RESERVED_TAGS = ("energy-source", "energy-evidence", "layers-via")


class Series(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Raw samples of one quantity in one run, in the order they were taken."""

    name: str
    unit: str
    data: tuple[float, ...]


class Metric(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A summary derived from `n` samples; `low` and `high` bound it where a method for that exists.

    `value` is None for a quantity that is not known; a warning of the run says why.
    """

    name: str
    unit: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 1


class Layer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One operator as the runtime ran it, with the source graph's nodes that it stands for.

    Times are microseconds of one inference; `start_us` counts from the inference's begin. `low_us` and `high_us` bound
    the median over the profiled inferences of one process (`facts.ranks`, 95 %); None where they are too few.
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
    """What a profiling pass tells.

    Attributes:
        via: how the times were taken, in one word that the documentation explains
            (`profiler`, `c-api`, `cut-out`).
        whole_us: median time of a whole inference of the profiled passes.
        partitions: number of connected pieces that one backend ran in one go.
        asked: the backend that was asked for; a layer on any other one is a fallback.
        reason: why a lesser way was taken than the runtime's best one; empty where it was not.
    """

    layers: tuple[Layer, ...]
    via: str
    whole_us: float
    partitions: int
    asked: str
    reason: str = ""

    def fallbacks(self) -> tuple[Layer, ...]:
        """The layers that ran on a backend other than the one asked for."""
        return tuple(layer for layer in self.layers if layer.backend != self.asked)


class RunWarning(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that makes a result less certain, with advice that fits what the user did."""

    code: str
    text: str


class RunOutput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A blob that belongs to a run: `role` says what it is (`model`, `data:NAME`, `inputs`, `log`)."""

    role: str
    sha256: str
    bytes: int
    model_id: str | None = None


class DeviceRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A place where a runtime can be started. `id` is stable for the same device."""

    id: str
    name: str
    kind: str
    address: str
    facts: dict[str, Any]


class Comparison(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Run `b` against run `a`: `ratio` is time of b over time of a.

    `low` and `high` cover the true ratio with `confidence`: 0.99 or a little more from eight processes on, and less
    with fewer; None where there is no interval at all.
    """

    a: str
    b: str
    ratio: float
    low: float | None
    high: float | None
    confidence: float
    verdict: Verdict


class Run(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run, whole. Times are ISO 8601 in UTC; `plan` and `environment` are plain JSON values.

    The runs of one session share a `parent_id`: the id of the session's first run (which has None itself).
    `imported` is whether the run was made elsewhere and came in by `runs import`, at `imported_at`; None where it was
    recorded before that was written down.
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
