"""Parts that the reports of prune and distill share: networks, seeds and differences."""

from collections.abc import Iterable, Iterator, Sequence
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Literal, TypedDict

from msgspec import Struct, field

from edgewright.flows.evaluate.report import EvaluationRow, MetricRow, PairedRow
from edgewright.flows.quantize.report import Speedup
from edgewright.formats.costs import ModelCosts
from edgewright.formats.files import read_model
from edgewright.pruning.magnitude import measure_packed_bytes
from edgewright.schema.metrics import is_share
from edgewright.schema.run import Metric, Series
from edgewright.training.job import Curve, TrainReport

# Two-sided 95 % quantiles of Student's t (Student 1908), by degrees of freedom; others use the next smaller entry.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)


class SeedRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One training.

    Attributes:
        metric: on the test data; `held_out`: on the validation part of the training data.
        steps: that were taken; fewer than planned after early stopping.
        threads: of the training; None in older reports.
        resumed: number of resumptions from a checkpoint.
    """

    seed: int
    metric: float | None
    held_out: float | None
    steps: int
    seconds: float
    precision: str
    threads: int | None = None
    resumed: int


class NetworkReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One network of the comparison.

    Attributes:
        name: `source`, `pruned`, `control`, `teacher` or `student`.
        packed_bytes: of the file after deflate, as app packages and zips store it.
        parameters, macs: None for a file whose operators are not counted.
        zeros: number of parameters that are zero.
        latency_us: median time of an inference; None if it was not timed.
        metric: of the first seed, with the 95 % interval over samples.
        mean: over the seeds.
    """

    name: str
    parameters: int | None
    zeros: int
    macs: int | None
    bytes: int
    packed_bytes: int
    latency_us: float | None
    metric: MetricRow | None
    mean: float | None
    seeds: tuple[SeedRow, ...] = ()


class MetricDelta(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The metric of a network minus that of another; positive if it is greater.

    Attributes:
        over: `seeds`: mean of the differences per seed, with Student's 95 % interval; `samples`: of one seed, with the
            paired 95 % interval over the evaluated samples, which does not cover the variation between seeds.
        n: number of seeds.
        unit: `points` of a share, or the metric's own.
    """

    against: str
    value: float
    low: float | None
    high: float | None
    over: Literal["seeds", "samples"]
    n: int
    unit: str


class WidthRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Coupled channels, heads or neurons.

    Attributes:
        name: of the first layer that produces them; `layers` are all whose weights shrink with them.
        before, after: their number.
    """

    name: str
    kind: str
    before: int
    after: int
    layers: tuple[str, ...]


class ExperimentReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields that the reports of prune and distill have in common.

    Attributes:
        model: path of the made ONNX model; None if a gate rejected it.
        module, weights: of a torch source, `FILE.py:FACTORY` and its weights, which can be trained, pruned, distilled
            and quantized further.
        trained_on, held_out, evaluated_on: numbers of samples.
        networks: the original (`source` or `teacher`), the control (if trained) and the made network.
        against: the made network's metric minus that of the control, and of the original.
        speedup: time of the original over that of the made network, measured interleaved.
        widths: of structured pruning, or of a student made by `auto:Nx`.
        curves: of the first seed, by network.
        state: `ok`, or `refused` with the `reason`.
        answer: what changed, in one line (`flows.experiment.answer`).
    """

    runtime: str
    model: str | None = None
    module: str | None = None
    weights: str | None = None
    trained_on: int
    held_out: int
    evaluated_on: int
    networks: tuple[NetworkReport, ...] = field(name="sides")
    against: tuple[MetricDelta, ...]
    speedup: Speedup | None
    widths: tuple[WidthRow, ...]
    curves: dict[str, tuple[Curve, ...]]
    notes: tuple[str, ...]
    state: str = "ok"
    reason: str = ""
    seconds: float = 0.0
    run_id: str | None = None
    answer: str = ""


class Measured(TypedDict):
    """The fields of `ExperimentReport` that were measured."""

    runtime: str
    trained_on: int
    held_out: int
    evaluated_on: int
    networks: tuple[NetworkReport, ...]
    against: tuple[MetricDelta, ...]
    speedup: Speedup | None
    curves: dict[str, tuple[Curve, ...]]


def make_network_report(
    name: str,
    path: Path,
    costs: ModelCosts | None,
    rows: Sequence[EvaluationRow],
    reports: Sequence[TrainReport],
    first_seed: int,
) -> NetworkReport:
    """Return the report of a network from its ONNX file, its evaluations and trainings, one for each seed."""
    values = [row.metric.value if row.metric else None for row in rows]
    known = [one for one in values if one is not None]
    return NetworkReport(
        name=name,
        parameters=costs.parameters if costs else None,
        zeros=reports[0].zeros if reports else 0,
        macs=costs.macs if costs else None,
        bytes=read_model(path).bytes,
        packed_bytes=measure_packed_bytes(path),
        latency_us=None,
        metric=rows[0].metric if rows else None,
        mean=mean(known) if known else None,
        seeds=tuple(
            SeedRow(
                seed=first_seed + index,
                metric=value,
                held_out=report.metric,
                steps=report.steps,
                seconds=report.seconds,
                precision=report.precision,
                threads=report.threads,
                resumed=report.resumed,
            )
            for index, (value, report) in enumerate(zip(values, reports, strict=False))
        ),
    )


def compare_networks(one: NetworkReport, other: NetworkReport, paired: PairedRow | None) -> MetricDelta | None:
    """Return `one` minus `other`: over seeds if both have several, otherwise over samples, from `paired`."""
    if one.metric is None or other.metric is None:
        return None
    factor, unit = get_metric_scale(one.metric.name)
    theirs = [row.metric for row in other.seeds] or [other.mean] * len(one.seeds)
    both = [(row.metric, metric) for row, metric in zip(one.seeds, theirs, strict=False)]
    differences = [factor * (a - b) for a, b in both if a is not None and b is not None]
    if len(differences) > 1:
        value, reach = mean(differences), compute_t_half_width(differences)
        return MetricDelta(
            against=other.name, value=value, low=value - reach, high=value + reach, over="seeds",
            n=len(differences), unit=unit,
        )  # fmt: skip
    if paired is None:
        return MetricDelta(
            against=other.name, value=factor * (one.metric.value - other.metric.value), low=None, high=None,
            over="samples", n=1, unit=unit,
        )  # fmt: skip
    value, low, high = (factor * number for number in (paired.difference, paired.low, paired.high))
    return MetricDelta(against=other.name, value=value, low=low, high=high, over="samples", n=1, unit=unit)


def get_metric_scale(metric: str) -> tuple[float, str]:
    return (100.0, "points") if is_share(metric) else (1.0, metric)


def compute_t_half_width(values: Sequence[float]) -> float:
    """Return half of Student's 95 % interval of the mean of two or more values."""
    return T95[min(len(values) - 1, len(T95)) - 1] * stdev(values) / sqrt(len(values))


def compute_mean_drop(network: NetworkReport, other: NetworkReport) -> float:
    """Return the drop of the mean metric, in points of a share or in the metric's unit; 0 if unknown."""
    if network.metric is None or network.mean is None or other.mean is None:
        return 0.0
    worse = other.mean - network.mean if network.metric.better == "higher" else network.mean - other.mean
    return worse * get_metric_scale(network.metric.name)[0]


def make_curve_series(name: str, reports: Sequence[TrainReport], first_seed: int) -> Iterator[Series]:
    """Return every curve as a series of the run, as `pruned.seed0.loss`, each with its steps."""
    for index, report in enumerate(reports):
        for curve in report.curves:
            yield from make_curve_pair(f"{name}.seed{first_seed + index}.{curve.name}", curve)


def make_curve_pair(title: str, curve: Curve) -> tuple[Series, Series]:
    """Return a curve's values and their steps."""
    steps = Series(name=f"{title}.steps", unit="1", data=tuple(map(float, curve.steps)))
    return Series(name=title, unit=curve.unit, data=curve.values), steps


def make_network_metrics(network: NetworkReport) -> Iterator[Metric]:
    """Return the stored metrics of a network."""
    yield Metric(name=f"{network.name}.bytes", unit="bytes", value=float(network.bytes))
    if network.parameters is not None:
        yield Metric(name=f"{network.name}.parameters", unit="1", value=float(network.parameters))
    if network.macs is not None:
        yield Metric(name=f"{network.name}.macs", unit="1", value=float(network.macs))
    if network.metric is not None:
        one = network.metric
        yield Metric(name=f"{network.name}.{one.name}", unit="1", value=one.value, low=one.low, high=one.high, n=one.n)


def collect_training_notes(reports: Iterable[TrainReport]) -> tuple[str, ...]:
    """Return the distinct notes of the trainings."""
    return tuple(dict.fromkeys(note for report in reports for note in report.notes))


def get_first_curves(reports: Sequence[TrainReport]) -> tuple[Curve, ...]:
    return reports[0].curves if reports else ()
