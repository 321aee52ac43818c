"""Comparison of stored runs: benchmarks by their times, evaluations sample by sample."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from msgspec import Struct

from edgewright.bench.summary import parse_counts, read_chunk_medians
from edgewright.bench.verdict import compare_paired, compare_sessions
from edgewright.errors import UsageError
from edgewright.flows.candidates import check_number
from edgewright.schema.metrics import METRICS
from edgewright.schema.plan import THRESHOLD
from edgewright.schema.run import Comparison, Run
from edgewright.schema.vocabulary import Verdict
from edgewright.tasks.metrics.intervals import compare_paired_means, mcnemar


def compare_runs(runs: Sequence[Run], threshold: float | None = None) -> tuple[Comparison, ...]:
    """Compare every run with the first, see `compare_pair`.

    Raises UsageError for a run without samples, or a threshold out of bounds.
    """
    if threshold is not None:
        check_number("threshold", threshold)
    for run in runs:
        if not read_chunk_medians(run):
            raise UsageError(
                f"run {run.id} has no samples to compare", f"it is {run.state}", "choose a finished benchmark"
            )
    return tuple(compare_pair(runs[0], run, threshold) for run in runs[1:])


def compare_pair(a: Run, b: Run, threshold: float | None = None) -> Comparison:
    """Compare two benchmarks; every page, command and report has its verdict from here.

    Runs of one session are paired process by process. Other runs are not paired and need a larger difference for a
    verdict.

    Args:
        threshold: the smallest relative difference that is reported as one; by default that of their session, so that
            its verdict is repeated, else `THRESHOLD`.
    """
    is_paired = get_session_id(a) == get_session_id(b) and a.id != b.id
    if threshold is None:
        stored = a.plan.get("threshold") if is_paired else None
        threshold = stored if isinstance(stored, float) else THRESHOLD
    compare = compare_paired if is_paired else compare_sessions
    return compare(a.id, b.id, read_chunk_medians(a), read_chunk_medians(b), threshold)


def find_verdicts(runs: Sequence[Run]) -> dict[tuple[str, str], Verdict]:
    """Return the verdict of each pair of runs with samples, by the ids of the reference and of the compared run."""
    measured = [run for run in runs if read_chunk_medians(run)]
    return {(a.id, b.id): compare_pair(a, b).verdict for a, b in combinations(measured, 2)}


def get_session_id(run: Run) -> str:
    """Return the id of the session's first run."""
    return run.parent_id or run.id


def find_differences(a: Run, b: Run) -> dict[str, tuple[object, object]]:
    """Return the differences between the plans and environments of two runs, which may explain a difference in time."""
    found: dict[str, tuple[object, object]] = {}
    if get_options(a) != get_options(b):
        found["plan.options"] = (get_options(a), get_options(b))
    for prefix, one, other in (("plan", a.plan, b.plan), ("environment", a.environment, b.environment)):
        for key in sorted(one.keys() | other.keys()):
            if one.get(key) != other.get(key) and key not in ("candidates", "inputs"):
                found[f"{prefix}.{key}"] = (one.get(key), other.get(key))
    return found


def get_options(run: Run) -> dict[str, str]:
    """Return the runtime options that the run used."""
    candidates = run.plan.get("candidates")
    first = candidates[0] if isinstance(candidates, list | tuple) and candidates else {}
    options = first.get("options", {}) if isinstance(first, dict) else {}
    return dict(options) if isinstance(options, dict) else {}


class EvaluationComparison(Struct, frozen=True, kw_only=True):
    """Metric of run `b` minus that of run `a` on the `n` samples that both evaluated, with a 95 % interval.

    `better` is `higher` or `lower`: the direction in which the metric is better.
    """

    a: str
    b: str
    metric: str
    n: int
    difference: float
    low: float
    high: float
    p: float
    test: str
    better: str = "higher"


def are_evaluations(runs: Sequence[Run]) -> bool:
    return all(run.kind == "evaluate" for run in runs)


def compare_evaluations(runs: Sequence[Run]) -> tuple[EvaluationComparison, ...]:
    """Compare every evaluation with the first, sample by sample; they may belong to different sessions.

    Raises UsageError if metrics or data differ, if no sample is shared, or if the metric is not a mean over samples.
    """
    return tuple(_pair_runs(runs[0], run) for run in runs[1:])


def _pair_runs(a: Run, b: Run) -> EvaluationComparison:
    metric = _get_metric(a)
    if (info := METRICS.get(metric)) and not info.is_mean:
        raise UsageError(
            f"{metric} of two runs cannot be compared sample by sample",
            "this metric is not a mean over samples",
            "evaluate both models in one command",
        )
    for what, one, other in (
        ("metric", metric, _get_metric(b)),
        ("data", a.plan.get("data_fingerprint"), b.plan.get("data_fingerprint")),
    ):
        if not one or one != other:
            raise UsageError(
                f"runs {a.id} and {b.id} cannot be compared sample by sample",
                f"{what}: {one or 'unknown'} and {other or 'unknown'}",
                "evaluate both again with the same metric and data",
            )
    first, second = _map_values_by_index(a), _map_values_by_index(b)
    common = sorted(first.keys() & second.keys())
    if not common:
        raise UsageError(f"runs {a.id} and {b.id} share no sample", "", "evaluate both on the same samples")
    x, y = (np.array([values[index] for index in common]) for values in (first, second))
    share = bool(np.isin(np.concatenate([x, y]), (0.0, 1.0)).all())
    found = mcnemar(x > 0.5, y > 0.5) if share else compare_paired_means(x, y)
    return EvaluationComparison(
        a=a.id,
        b=b.id,
        metric=metric,
        n=found.n,
        difference=found.value,
        low=found.low,
        high=found.high,
        p=found.p,
        test=found.test,
        better=_get_direction(a, metric),
    )


def _get_direction(run: Run, metric: str) -> str:
    if metric in METRICS:
        return METRICS[metric].better or "higher"
    task = run.plan.get("task", {})
    return str(task.get("better", "higher")) if isinstance(task, dict) else "higher"


def _get_metric(run: Run) -> str:
    task = run.plan.get("task", {})
    return str(task.get("metric", "")) if isinstance(task, dict) else ""


def _map_values_by_index(run: Run) -> dict[int, float]:
    """Return the value of each sample by its index in the dataset; an index may have been requested twice."""
    series = {one.name: one.data for one in run.series}
    return dict(zip(parse_counts(series.get("sample.index", ())), series.get("sample.value", ()), strict=False))
