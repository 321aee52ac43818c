"""How far a measured latency can be trusted: `high`, `medium` or `low`, with the causes.

`high`: half of the 95 % interval of p50 is at most 3 % of it, and no warning concerns the times. `medium`: at most
10 %, or such a warning. `low`: more than 10 %, fewer than six processes (no 95 % interval), or a drift.
"""

from collections.abc import Collection, Mapping
from typing import Literal

from msgspec import Struct

from edgewright.schema.run import Metric

TrustLevel = Literal["high", "medium", "low"]
LATENCY_METRICS = ("latency.p50", "latency.p50_confidence")
SMALL, LARGE = 0.03, 0.10  # half of the interval, as a share of p50
MIN_CONFIDENCE = 0.95
# Warnings that concern the times, with the words of a cause; `drift` alone makes the trust low.
CAUSES = {
    "drift": "the machine drifted",
    "throttling": "the processor was slowed down",
    "background-load": "the machine was busy",
    "swap": "the machine was swapping",
    "not-steady": "the times were not steady",
    "timer-resolution": "the clock is coarse",
}


class Trust(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The level, the half of the interval as a share of p50 (None without one), and the causes of a lower level."""

    level: TrustLevel
    spread: float | None
    causes: tuple[str, ...]


def judge_trust(metrics: Mapping[str, Metric], warnings: Collection[str]) -> Trust | None:
    """Return the trust in `latency.p50`; None if it was not measured.

    Args:
        metrics: of a run, by name; `LATENCY_METRICS` are used.
        warnings: codes of the run's warnings.
    """
    p50, confidence = metrics.get("latency.p50"), metrics.get("latency.p50_confidence")
    if p50 is None or not p50.value:
        return None
    causes = [text for code, text in CAUSES.items() if code in warnings]
    if p50.low is None or p50.high is None or confidence is None or (confidence.value or 0) < MIN_CONFIDENCE:
        count = confidence.n if confidence else 1
        return Trust(level="low", spread=None, causes=(f"only {count} process{'es' * (count > 1)}", *causes))
    spread = (p50.high - p50.low) / 2 / p50.value
    if spread > SMALL:
        causes.insert(0, f"known to ±{spread:.0%}")
    low = spread > LARGE or "drift" in warnings
    return Trust(level="low" if low else "medium" if causes else "high", spread=spread, causes=tuple(causes))
