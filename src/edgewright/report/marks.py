"""When a figure of one run is called better or worse than that of another: only where the difference is shown."""

from typing import Literal

from msgspec import Struct

from edgewright.bench.statistics import Interval, make_exact
from edgewright.bench.verdict import MIN_CONFIDENCE, SESSION_DRIFT, find_difference
from edgewright.schema.metrics import get_metric_info
from edgewright.schema.ranks import compute_binomial_coverage, compute_binomial_cut
from edgewright.schema.run import Comparison, Metric

Mark = Literal["faster", "slower", "unsure", ""]
MANY = 1_000  # values whose interval has at least 95 %, without counting ranks of more
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

    A median latency has the mark of its verdict, other figures that of `bench.verdict.find_difference`; `unsure` if
    only the confidence is missing. Figures that compare with another run's outputs (agreement, SQNR) have none.
    """
    if metric is None or reference is None or metric is reference:
        return ""
    info = get_metric_info(metric.name)
    if metric.name == "latency.p50":
        verdict = pair.verdict.verdict if pair.verdict else ""
        return verdict if verdict == "faster" or verdict == "slower" else ""
    if not info.better or info.basis == "outputs" or metric.value is None or reference.value is None:
        return ""
    drift = 0.0 if pair.one_session or info.basis or metric.name in EXACT else SESSION_DRIFT
    found = find_difference(_read_interval(reference, pair), _read_interval(metric, pair), drift)
    return found if found in ("unsure", "") else "faster" if found == info.better else "slower"


def _read_interval(metric: Metric, pair: Pair) -> Interval:
    value = metric.value or 0.0
    if metric.name in EXACT:
        return make_exact(value)
    return Interval(value=value, low=metric.low, high=metric.high, confidence=_get_confidence(metric, pair))


def _get_confidence(metric: Metric, pair: Pair) -> float:
    """Return the confidence of the interval: of a task's metric 95 %, of a figure per process that of its number."""
    if get_metric_info(metric.name).basis:
        return MIN_CONFIDENCE
    if metric.name.endswith(".p50"):
        return pair.confidence.get(metric.name, 0.0)
    if metric.low is None or metric.n < 2:
        return 0.0
    count = min(metric.n, MANY)
    return compute_binomial_coverage(count, compute_binomial_cut(count, MIN_CONFIDENCE))
