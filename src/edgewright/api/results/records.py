"""Results that show stored runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from edgewright.api.results.base import Result, Table
from edgewright.api.results.measurement import StoredRunsResult
from edgewright.flows.benchmark.report import make_row
from edgewright.flows.lineage import Lineage
from edgewright.schema.metrics import list_task_metrics
from edgewright.schema.run import RESERVED_TAGS, Metric, Run
from edgewright.schema.units import UNKNOWN, show_bytes, show_number, show_range, show_us
from edgewright.store.runs.queries import RunSummary

HEADERS = (
    "run",
    "started",
    "kind",
    "state",
    "model",
    "runtime",
    "precision",
    "device",
    "p50",
    "interval",
    "metric",
    "tags",
)
DROPPABLE = ("tags", "device", "kind", "interval", "precision", "started", "state", "metric")
RUNS_SCHEMA, RUN_SCHEMA, DEVICES_SCHEMA = "edgewright.runs/1", "edgewright.run/1", "edgewright.devices/1"


class RunsResult(Result):
    """A list of stored runs."""

    def __init__(self, rows: Sequence[RunSummary]) -> None:
        super().__init__({"schema": RUNS_SCHEMA, "runs": rows})

    @property
    def rows(self) -> Sequence[RunSummary]:
        found: Sequence[RunSummary] = self.report["runs"]
        return found

    @property
    def run_ids(self) -> tuple[str, ...]:
        return tuple(row.id for row in self.rows)

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Return the state of each run: `queued`, `running`, `done`, `failed` or `cancelled`."""
        return tuple(row.state for row in self.rows)

    @property
    def answer(self) -> str:
        count = len(self.rows)
        return f"The newest {count} stored runs that match." if count else "No stored run matches."

    def table(self) -> Table:
        return Table(HEADERS, list(map(_make_row, self.rows)), DROPPABLE)


class RunResult(StoredRunsResult):
    """One stored run.

    Attributes:
        lineage: models that it was made from, and those that were made from its outputs.
    """

    def __init__(self, run: Run, lineage: Lineage, answer: str) -> None:
        row = make_row(run)
        known = {"answer": answer, "trust": row.trust, "trust_causes": row.trust_causes}
        super().__init__({"schema": RUN_SCHEMA, **known, "run": run, "lineage": lineage}, [run])
        self.lineage = lineage

    @property
    def run(self) -> Run:
        return self.runs[0]

    @property
    def rows(self) -> Sequence[Metric]:
        """Return the metrics of the run."""
        return self.run.metrics

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Return the state of the run: `queued`, `running`, `done`, `failed` or `cancelled`."""
        return (self.run.state,)

    @property
    def answer(self) -> str:
        return str(self.report["answer"])

    def table(self) -> Table:
        return Table(("figure", "value", "low", "high", "n"), list(map(make_metric_row, self.run.metrics)))

    def _draw(self) -> Sequence[str]:
        """Draw the distribution of the samples."""
        from edgewright.web.pages.figures import draw_distribution

        return [draw_distribution(self.run)]


class ListedDevice(Struct, frozen=True, kw_only=True):
    """A device that `on` can name.

    Attributes:
        state: `ready`, or why it cannot be used now.
        facts: processor, architecture, cores and system, as the device reported them.
    """

    name: str
    kind: str
    state: str
    facts: dict[str, Any]


class DevicesResult(Result):
    """The devices that `on` can name."""

    def __init__(self, rows: Sequence[ListedDevice]) -> None:
        super().__init__({"schema": DEVICES_SCHEMA, "devices": tuple(rows)})

    @property
    def rows(self) -> Sequence[ListedDevice]:
        found: Sequence[ListedDevice] = self.report["devices"]
        return found

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Return the state of each device: `ready`, or why it cannot be used now."""
        return tuple(row.state for row in self.rows)

    @property
    def answer(self) -> str:
        return "; ".join(f"{row.name} ({row.kind}): {row.state}" for row in self.rows) + "."

    def table(self) -> Table:
        shown = ("model", "architecture", "logical_cores", "system")
        rows = [(row.name, row.kind, row.state, *(str(row.facts.get(key, "")) for key in shown)) for row in self.rows]
        return Table(("name", "kind", "state", "processor", "architecture", "cores", "system"), rows)


def _make_row(row: RunSummary) -> tuple[str, ...]:
    p50 = row.metrics.get("latency.p50")
    task_metric = next((row.metrics[name] for name in list_task_metrics() if name in row.metrics), None)
    return (
        row.id,
        row.started_at[:16].replace("T", " "),
        row.kind + (" (imported)" if row.imported else ""),
        row.state,
        row.model_name or UNKNOWN,
        row.runtime,
        row.precision or UNKNOWN,
        row.device_name or UNKNOWN,
        show_us(p50.value if p50 else None),
        show_range(p50.low, p50.high) if p50 else UNKNOWN,
        UNKNOWN if task_metric is None else f"{task_metric.name} {show_number(task_metric.value or 0.0)}",
        format_tags(row.tags),
    )


def format_tags(tags: Mapping[str, str]) -> str:
    """Return the user's tags as text, without the reserved tags."""
    return ", ".join(f"{name}={value}" for name, value in tags.items() if name not in RESERVED_TAGS)


def format_metric(metric: Metric) -> str:
    """Return the value of a metric in a readable unit."""
    return _format(metric.unit, metric.value)


def make_metric_row(metric: Metric) -> tuple[str, ...]:
    """Return name, value, interval and number of samples as text."""
    bounds = (_format(metric.unit, bound) for bound in (metric.low, metric.high))
    return (metric.name, format_metric(metric), *bounds, str(metric.n))


def _format(unit: str, value: float | None) -> str:
    formatters: dict[str, Any] = {"us": show_us, "bytes": show_bytes}
    if unit in formatters or value is None:
        return str(formatters.get(unit, lambda _: UNKNOWN)(value))
    return f"{value:.0f} ns" if unit == "ns" else f"{value:.3g} µJ" if unit == "uJ" else f"{value:g}"
