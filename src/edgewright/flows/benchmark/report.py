"""The documented JSON object of a benchmark, created from stored runs."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

from edgewright.bench.slowdown import LayerProfile, SlowdownCause, explain_slowdown
from edgewright.bench.sustained import (
    FrameDeadlines,
    SustainedLoad,
    read_windows,
    summarize_frames,
    summarize_load,
)
from edgewright.bench.trust import TrustLevel, judge_trust
from edgewright.flows.benchmark.answer import make_answer
from edgewright.schema.devices import FailedDevice
from edgewright.schema.run import Comparison, Layer, Metric, OutputCheck, Run, RunWarning
from edgewright.schema.vocabulary import PHASES

SCHEMA = "edgewright.benchmark/1"
MAX_INTEGER = 2**53
Number = float | None


class Timing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times in microseconds. `p50` is the median of the process medians; its interval has the confidence
    `p50_confidence`.
    """

    n: int
    p50: Number
    p50_low: Number
    p50_high: Number
    p50_confidence: Number
    p90: Number
    p99: Number
    mean: Number
    stdev: Number
    min: Number
    max: Number


class ColdStart(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times in microseconds: `import` is interpreter and import, the cold start is `load` plus `first_inference`."""

    import_: Number = field(name="import")
    load: Number
    first_inference: Number


class MemoryBytes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Resident bytes of the worker; `file` is the model on disk with its external data."""

    before_load: Number
    after_load: Number
    peak: Number
    file: Number


class LayerRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`schema.run.Layer` with its share of the layers' sum."""

    position: int
    name: str
    op: str
    source_nodes: tuple[str, ...]
    unit: str
    backend: str
    evidence: str
    start_us: Number
    median_us: float
    p90_us: float
    share: float
    memory_bytes: int | None
    low_us: Number = None
    high_us: Number = None


class LayerTotals(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sums over the layers, and the time of the whole profiled inference."""

    via: str
    sum_us: float
    whole_us: Number
    partitions: int
    fallbacks: int


class EnergyRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Energy of one inference in microjoules."""

    uj_per_inference: float
    evidence: str
    source: str


class PhaseTime(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Median time of a phase over the samples in microseconds, with its 95 % interval."""

    p50: Number
    low: Number
    high: Number
    n: int


class BenchmarkRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run. `path` is the share of layer time per unit, `backends` per backend; `findings` explain slow layers.

    `trust` is how far the latency can be trusted (`high`, `medium`, `low`), with its causes; None without a latency.
    """

    run_id: str
    state: str
    error: str | None
    model: str
    model_sha256: str
    runtime: str
    precision: str
    device: str
    threads: int
    processes: int
    latency_us: Timing | None
    cpu_time_us: Timing | None
    cold_start_us: ColdStart
    memory_bytes: MemoryBytes
    layers: tuple[LayerRow, ...]
    layer_totals: LayerTotals | None
    path: dict[str, float]
    backends: dict[str, float]
    energy: EnergyRow | None
    energy_source: str
    warnings: tuple[RunWarning, ...]
    findings: tuple[SlowdownCause, ...] = ()
    trust: TrustLevel | None = None
    trust_causes: tuple[str, ...] = ()
    device_kind: str = ""
    check: OutputCheck | None = None
    sustained: SustainedLoad | None = None
    deadlines: FrameDeadlines | None = None
    phases: dict[str, PhaseTime] | None = None


class RelativeTime(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The median time of a run on a device over that of the same model in the same runtime on the first device."""

    device: str
    reference: str
    run_id: str
    reference_id: str
    ratio: Number


class HotRanking(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Run ids of one device from the fastest to the slowest, in the first and in the last minute of a load."""

    device: str
    first: tuple[str, ...]
    last: tuple[str, ...]
    changes: bool


class BenchmarkReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON of `edgewright benchmark --json`; `answer` is its result in one sentence."""

    schema: str = SCHEMA
    answer: str = ""
    runs: tuple[BenchmarkRow, ...]
    comparisons: tuple[Comparison, ...]
    relative: tuple[RelativeTime, ...] = ()
    hot_rankings: tuple[HotRanking, ...] = ()
    failed_devices: tuple[FailedDevice, ...] = ()


def make_report(
    runs: Iterable[Run], comparisons: Iterable[Comparison], failed: Sequence[FailedDevice] = ()
) -> BenchmarkReport:
    rows, compared = tuple(map(make_row, runs)), tuple(comparisons)
    answer = " ".join([make_answer(rows, compared), *(f"Nothing was measured on {one.name}." for one in failed)])
    return BenchmarkReport(
        answer=answer.strip(),
        runs=rows,
        comparisons=compared,
        relative=tuple(_relate_devices(rows)),
        hot_rankings=tuple(_rank_hot(rows)),
        failed_devices=tuple(failed),
    )


def _rank_hot(rows: Sequence[BenchmarkRow]) -> Iterator[HotRanking]:
    """Yield the ranking of each device with several candidates under sustained load."""
    for device in dict.fromkeys(row.device for row in rows):
        loads = {row.run_id: row.sustained.minutes for row in rows if row.device == device and row.sustained}
        if len(loads) > 1:
            first, last = (tuple(sorted(loads, key=lambda one: loads[one][end].p50_us)) for end in (0, -1))
            yield HotRanking(device=device, first=first, last=last, changes=first != last)


def _relate_devices(rows: Sequence[BenchmarkRow]) -> Iterator[RelativeTime]:
    """Yield each run of a further device with the run of the same model and runtime on the first device."""
    first: dict[tuple[str, str, int], BenchmarkRow] = {}
    seen: Counter[tuple[str, str, str]] = Counter()  # a model may be measured with several options
    for row in rows:
        same = (row.device, row.model_sha256, row.runtime)
        reference = first.setdefault((*same[1:], seen[same]), row)
        seen[same] += 1
        if reference.device != row.device:
            own, other = row.latency_us, reference.latency_us
            ratio = own.p50 / other.p50 if own and other and own.p50 and other.p50 else None
            yield RelativeTime(
                device=row.device,
                reference=reference.device,
                run_id=row.run_id,
                reference_id=reference.run_id,
                ratio=ratio,
            )


def make_row(run: Run) -> BenchmarkRow:
    """Return the report's row for one run."""
    metrics = {metric.name: metric for metric in run.metrics}
    windows = read_windows({one.name: one for one in run.series})
    rate = run.plan.get("rate")
    trust = judge_trust(metrics, {warning.code for warning in run.warnings})
    return BenchmarkRow(
        run_id=run.id,
        state=run.state,
        error=run.error,
        model=run.model.name if run.model else "",
        model_sha256=run.model.sha256 if run.model else "",
        runtime=run.runtime,
        precision=run.model.precision if run.model else "",
        device=run.device.name if run.device else "",
        threads=_to_integer(_read_threads(run.plan), 1),
        processes=max((metric.n for metric in run.metrics if metric.name == "load"), default=0),
        latency_us=_make_timing("latency", metrics),
        cpu_time_us=_make_timing("cpu", metrics),
        cold_start_us=ColdStart(
            import_=_get_value(metrics, "start"),
            load=_get_value(metrics, "load"),
            first_inference=_get_value(metrics, "first_inference"),
        ),
        memory_bytes=MemoryBytes(
            before_load=_get_value(metrics, "memory.before_load"),
            after_load=_get_value(metrics, "memory.after_load"),
            peak=_get_value(metrics, "memory.peak"),
            file=_get_value(metrics, "model.file"),
        ),
        layers=_make_layer_rows(run.layers),
        layer_totals=_make_layer_totals(run, metrics),
        path=_get_shares(metrics, "share.unit."),
        backends=_get_shares(metrics, "share.backend."),
        energy=_make_energy_row(run, metrics),
        energy_source=run.tags.get("energy-source", ""),
        warnings=run.warnings,
        findings=_find_causes(run, metrics),
        trust=trust.level if trust else None,
        trust_causes=trust.causes if trust else (),
        device_kind=run.device.kind if run.device else "",
        check=_read_check(run, metrics),
        sustained=summarize_load(windows),
        deadlines=summarize_frames(windows, rate if isinstance(rate, int | float) else None),
        phases=_read_phases(metrics),
    )


def _read_phases(metrics: Mapping[str, Metric]) -> dict[str, PhaseTime] | None:
    """Return the phases in their order; None if they were not timed."""
    found = {name: metrics[f"phase.{name}"] for name in PHASES if f"phase.{name}" in metrics}
    return {name: PhaseTime(p50=one.value, low=one.low, high=one.high, n=one.n) for name, one in found.items()} or None


def _read_threads(plan: Mapping[str, Any]) -> object:
    """Return the candidate's threads, else the plan's."""
    candidates = plan.get("candidates")
    first = candidates[0] if isinstance(candidates, list | tuple) and candidates else {}
    own = first.get("threads") if isinstance(first, dict) else None
    return plan.get("threads") if own is None else own


def _read_check(run: Run, metrics: Mapping[str, Metric]) -> OutputCheck | None:
    state, why = run.tags.get("check"), run.tags.get("check-why", "")
    if state not in ("ok", "failed", "unknown"):
        return None
    return msgspec.convert({"state": state, "sqnr_db": _get_value(metrics, "check.sqnr"), "why": why}, OutputCheck)


def _to_integer(value: object, unknown: int = 0) -> int:
    """Return a whole number from a record whose values are not trusted."""
    return int(value) if isinstance(value, int | float) and abs(value) < MAX_INTEGER else unknown


def _find_causes(run: Run, metrics: Mapping[str, Metric]) -> tuple[SlowdownCause, ...]:
    if not run.layers or run.model is None:
        return ()
    facts = run.device.facts if run.device else {}
    profile = LayerProfile(
        layers=run.layers,
        precision=run.model.precision,
        partitions=_to_integer(_get_value(metrics, "layers.partitions")),
        machine=str(facts.get("machine", "")),
        features=facts.get("features"),
    )
    return explain_slowdown(profile)


def _get_value(metrics: Mapping[str, Metric], name: str) -> Number:
    metric = metrics.get(name)
    return metric.value if metric else None


def _make_timing(name: str, metrics: Mapping[str, Metric]) -> Timing | None:
    p50 = metrics.get(f"{name}.p50")
    if p50 is None:
        return None
    rest = {key: _get_value(metrics, f"{name}.{key}") for key in ("p90", "p99", "mean", "stdev", "min", "max")}
    confidence = _get_value(metrics, f"{name}.p50_confidence")
    return Timing(n=p50.n, p50=p50.value, p50_low=p50.low, p50_high=p50.high, p50_confidence=confidence, **rest)


def _make_layer_rows(layers: Sequence[Layer]) -> tuple[LayerRow, ...]:
    total = sum(layer.median_us for layer in layers)
    return tuple(
        LayerRow(
            position=layer.position,
            name=layer.name,
            op=layer.op,
            source_nodes=layer.source_nodes,
            unit=layer.unit,
            backend=layer.backend,
            evidence=layer.evidence,
            start_us=layer.start_us,
            median_us=layer.median_us,
            p90_us=layer.p90_us,
            share=layer.median_us / total if total else 0.0,
            memory_bytes=layer.memory_bytes,
            low_us=layer.low_us,
            high_us=layer.high_us,
        )
        for layer in layers
    )


def _make_layer_totals(run: Run, metrics: Mapping[str, Metric]) -> LayerTotals | None:
    if not run.layers:
        return None
    return LayerTotals(
        via=run.tags.get("layers-via", ""),
        sum_us=_get_value(metrics, "layers.sum") or 0.0,
        whole_us=_get_value(metrics, "layers.whole"),
        partitions=_to_integer(_get_value(metrics, "layers.partitions")),
        fallbacks=_to_integer(_get_value(metrics, "layers.fallbacks")),
    )


def _get_shares(metrics: Mapping[str, Metric], prefix: str) -> dict[str, float]:
    return {
        name.removeprefix(prefix): metric.value or 0.0 for name, metric in metrics.items() if name.startswith(prefix)
    }


def _make_energy_row(run: Run, metrics: Mapping[str, Metric]) -> EnergyRow | None:
    joules = _get_value(metrics, "energy")
    if joules is None:
        return None
    return EnergyRow(
        uj_per_inference=joules,
        evidence=run.tags.get("energy-evidence", ""),
        source=run.tags.get("energy-source", ""),
    )
