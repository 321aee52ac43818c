"""When a figure of one run is called better or worse than that of another: only where the difference is shown."""

from typing import Literal

from msgspec import Struct

from edgewright.bench.verdict import MIN_CONFIDENCE, SESSION_DRIFT
from edgewright.schema.metrics import get_metric_info
from edgewright.schema.ranks import compute_binomial_coverage, compute_binomial_cut
from edgewright.schema.run import Comparison, Metric

Mark = Literal["faster", "slower", "unsure", ""]
EXACT = ("model.file", "artifact.bytes")  # sizes of files have no interval and need none


class Pair(Struct, frozen=True, kw_only=True):
    """What is known about two runs beside their figures.

    Attributes:
        verdict: of their latencies; None without samples.
        one_session: whether they were measured together.
        confidence: of the intervals of `latency.p50` and `cpu.p50` in both runs, by name; the lower one.
    """

    verdict: Comparison | None
    one_session: bool
    confidence: dict[str, float]


def choose_mark(metric: Metric | None, reference: Metric | None, pair: Pair) -> Mark:
    """Return `faster` or `slower` (better or worse) if the difference from the reference is shown.

    A median latency has the mark of its verdict. Other figures have one if both intervals have 95 % confidence and do
    not overlap, in different sessions by more than 5 % (`SESSION_DRIFT`). `unsure` if only the confidence is missing.
    Figures that compare with another run's outputs (agreement, SQNR) have none.
    """
    if metric is None or reference is None or metric is reference:
        return ""
    info = get_metric_info(metric.name)
    if metric.name == "latency.p50":
        verdict = pair.verdict.verdict if pair.verdict else ""
        return verdict if verdict == "faster" or verdict == "slower" else ""
    if not info.better or info.basis == "outputs":
        return ""
    bounds = _get_bounds(metric), _get_bounds(reference)
    if bounds[0] is None or bounds[1] is None:
        return ""
    drift = 1.0 if pair.one_session or info.basis or metric.name in EXACT else 1 + SESSION_DRIFT
    below, above = bounds[0][1] * drift < bounds[1][0], bounds[0][0] > bounds[1][1] * drift
    if not (below or above):
        return ""
    if min(_get_confidence(one, pair) for one in (metric, reference)) < MIN_CONFIDENCE:
        return "unsure"
    return "faster" if below == (info.better == "lower") else "slower"


def _get_bounds(metric: Metric) -> tuple[float, float] | None:
    if metric.name in EXACT and metric.value is not None:
        return metric.value, metric.value
    return None if metric.low is None or metric.high is None else (metric.low, metric.high)


def _get_confidence(metric: Metric, pair: Pair) -> float:
    """Return the confidence of the interval: of a task's metric 95 %, of a figure per process that of its number."""
    if metric.name in EXACT or get_metric_info(metric.name).basis:
        return MIN_CONFIDENCE
    if metric.name.endswith(".p50"):
        return pair.confidence.get(metric.name, 0.0)
    return compute_binomial_coverage(metric.n, compute_binomial_cut(metric.n, MIN_CONFIDENCE)) if metric.n > 1 else 0.0
