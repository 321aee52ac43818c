"""Figures of a gate by the metrics of `schema.goals`, each with its interval, and their comparison."""

from math import exp, log

from msgspec.structs import replace

from edgewright.bench.statistics import Interval, map_interval, median_interval, paired_interval
from edgewright.bench.summary import is_processor_bound, read_chunk_medians, read_process_values
from edgewright.bench.verdict import CONFIDENCE, compare_paired
from edgewright.flows.evaluate.report import EvaluationRow
from edgewright.schema.metrics import is_share
from edgewright.schema.run import Run

# Timed metrics with their values per process in `bench.summary.read_process_values`.
TIMED = {"latency": "latency", "p90": "p90", "p95": "p95", "memory": "memory.peak", "energy": "energy"}
POINTS = 100.0
EVALUATION_CONFIDENCE = 0.95


def estimate(run: Run, metric: str) -> Interval | None:
    """Return the median over the processes of a benchmark's run; None without values."""
    values = read_process_values(run, TIMED[metric])
    return median_interval(values, CONFIDENCE) if values else None


def compare_rounds(a: Run, b: Run, metric: str) -> Interval | None:
    """Return the ratio b over a of two runs of one session, paired round by round; None without values.

    The latency is compared by CPU time if that is the time of an undisturbed inference in both runs.
    """
    if metric == "latency":
        times = "cpu" if is_processor_bound(a) and is_processor_bound(b) else "wall"
        found = compare_paired(a.id, b.id, read_chunk_medians(a, times), read_chunk_medians(b, times), 0.0)
        return Interval(value=found.ratio, low=found.low, high=found.high, confidence=found.confidence)
    pairs = list(zip(*(read_process_values(run, TIMED[metric]) for run in (a, b)), strict=False))
    if not pairs:
        return None
    return map_interval(paired_interval([log(after / before) for before, after in pairs], CONFIDENCE), exp)


def join_runs(first: Run, second: Run) -> Run:
    """Return the first run with the processes of the second after its own, as if one session had measured both."""
    more = {series.name: series.data for series in second.series}
    series = tuple(replace(own, data=(*own.data, *more.get(own.name, ()))) for own in first.series)
    return replace(first, series=series)


def read_metric(row: EvaluationRow) -> Interval | None:
    """Return the task's metric of an evaluation; None if it could not be computed."""
    found = row.metric
    if found is None:
        return None
    return Interval(value=found.value, low=found.low, high=found.high, confidence=EVALUATION_CONFIDENCE)


def compute_drop(difference: Interval, metric: str, better: str) -> Interval:
    """Return how much worse the metric became, in points of a share, else in its own unit.

    Args:
        difference: of the metric, new minus old.
    """
    scale = POINTS if is_share(metric) else 1.0
    low, high = difference.low, difference.high
    if better == "higher":
        difference = Interval(
            value=0.0 - difference.value,
            low=None if high is None else 0.0 - high,
            high=None if low is None else 0.0 - low,
            confidence=difference.confidence,
        )
    return map_interval(difference, lambda value: value * scale)


def read_paired_difference(row: EvaluationRow) -> Interval | None:
    """Return the metric minus that of the reference, on the same samples; None without one."""
    found = row.paired
    if found is None:
        return None
    return Interval(value=found.difference, low=found.low, high=found.high, confidence=EVALUATION_CONFIDENCE)
