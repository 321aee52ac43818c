"""Comparison of two runs and its verdict: the only rule by which one is called faster, slower, better or worse.

The ratio is time of b over time of a, computed from one median per process, on a logarithmic scale:

- runs of one session were interleaved: in round k the chunks of b's process alternate with those of a's, so the
    difference of the round is the median of the differences of its chunks, and the rounds are the pairs
    (`paired_interval`). This cancels drift that both share;
- runs of different sessions are not paired, and the drift between sessions is not visible within them, so the whole
    interval must lie beyond `SESSION_DRIFT`.

A verdict requires that the interval excludes 1 (or that drift), and that the ratio differs from 1 by more than the
threshold. The verdict is `no difference` only if the whole interval lies within the threshold, otherwise
`inconclusive`.

A figure of which only an interval is known is compared by `find_difference`: both intervals must have `MIN_CONFIDENCE`,
and that of the ratio must exclude 1, between sessions by more than `SESSION_DRIFT`.
"""

from collections.abc import Sequence
from math import exp, log
from statistics import median
from typing import Literal

from edgewright.bench.statistics import Interval, combine_intervals, map_interval, paired_interval, shift_interval
from edgewright.schema.run import Comparison
from edgewright.schema.vocabulary import Verdict

CONFIDENCE = 0.99
MIN_CONFIDENCE = 0.95
SESSION_DRIFT = 0.05
MAX_LOGARITHM = 700.0

SMALLEST, LARGEST = 1e-100, 1e100  # of values whose ratios are finite

Processes = Sequence[Sequence[float]]
Difference = Literal["higher", "lower", "unsure", ""]


def compare_paired(a: str, b: str, a_us: Processes, b_us: Processes, threshold: float) -> Comparison:
    """Compare run b with run a of the same session, from chunk medians per process in round order."""
    pairs = list(zip(a_us, b_us, strict=False))  # the last round of an interrupted session may be incomplete
    if not pairs:
        return _make_inconclusive(a, b)
    interval = paired_interval([_compute_round_difference(before, after) for before, after in pairs], CONFIDENCE)
    return _make_comparison(a, b, interval, threshold)


def _compute_round_difference(a_us: Sequence[float], b_us: Sequence[float]) -> float:
    """Return the logarithm of b over a in one round, whose chunks are paired by index."""
    return median(log(after / before) for before, after in zip(a_us, b_us, strict=False))


def compare_sessions(a: str, b: str, a_us: Processes, b_us: Processes, threshold: float) -> Comparison:
    """Compare run b with run a of another session, from chunk medians per process."""
    if not a_us or not b_us:
        return _make_inconclusive(a, b)
    interval = shift_interval([log(median(x)) for x in a_us], [log(median(x)) for x in b_us], CONFIDENCE)
    return _make_comparison(a, b, interval, max(threshold, SESSION_DRIFT), SESSION_DRIFT)


def _make_inconclusive(a: str, b: str) -> Comparison:
    return Comparison(a=a, b=b, ratio=float("nan"), low=None, high=None, confidence=0.0, verdict="inconclusive")


def _make_comparison(a: str, b: str, interval: Interval, threshold: float, drift: float = 0.0) -> Comparison:
    low = None if interval.low is None else _compute_ratio(interval.low)
    high = None if interval.high is None else _compute_ratio(interval.high)
    ratio = _compute_ratio(interval.value)
    sure = interval.confidence >= MIN_CONFIDENCE
    verdict = decide_verdict(ratio, low, high, threshold, drift) if sure else "inconclusive"
    return Comparison(a=a, b=b, ratio=ratio, low=low, high=high, confidence=interval.confidence, verdict=verdict)


def _compute_ratio(logarithm: float) -> float:
    """Return the ratio of a logarithm, clamped so that a float holds it and its reciprocal."""
    return exp(min(max(logarithm, -MAX_LOGARITHM), MAX_LOGARITHM))


def decide_verdict(
    ratio: float, low: float | None, high: float | None, threshold: float, drift: float = 0.0
) -> Verdict:
    """Return the verdict for a ratio with its interval; `drift` is the minimum distance of the interval from 1."""
    if low is None or high is None:
        return "inconclusive"
    if low > 1 + drift and ratio > 1 + threshold:
        return "slower"
    if high < 1 / (1 + drift) and ratio < 1 / (1 + threshold):
        return "faster"
    if low >= 1 / (1 + threshold) and high <= 1 + threshold:
        return "no difference"
    return "inconclusive"


def estimate_ratio(a: Interval, b: Interval, drift: float = SESSION_DRIFT) -> Interval:
    """Return the ratio b over a of two independent estimates; its interval is wider by the drift between sessions."""
    if any(one is not None and not SMALLEST <= one <= LARGEST for one in (a.value, a.low, b.value, b.low)):
        return Interval(value=float("nan"), low=None, high=None, confidence=0.0)
    ratio = map_interval(combine_intervals(map_interval(a, log), map_interval(b, log)), exp)
    low = None if ratio.low is None else ratio.low / (1 + drift)
    high = None if ratio.high is None else ratio.high * (1 + drift)
    return Interval(value=ratio.value, low=low, high=high, confidence=ratio.confidence)


def find_difference(a: Interval, b: Interval, drift: float = 0.0) -> Difference:
    """Return whether b is shown to be higher or lower than a; `unsure` if only the confidence is missing.

    Args:
        drift: relative difference between two sessions that is not shown: `SESSION_DRIFT`, or 0 for figures of one
            session and for those that do not depend on the session.
    """
    found, equal = estimate_ratio(a, b, drift), 1.0
    if found.low is None:  # a value that is not positive has no ratio
        found, equal = combine_intervals(a, b), 0.0
    if found.low is None or found.high is None or found.low <= equal <= found.high:
        return ""
    if found.confidence < MIN_CONFIDENCE:
        return "unsure"
    return "higher" if found.low > equal else "lower"
