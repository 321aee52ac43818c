"""The answer of a benchmark in one sentence: its times, or how each run compares with the first."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgewright.bench.verdict import CONFIDENCE
from edgewright.schema.run import Comparison
from edgewright.schema.units import show_bounds, show_range, show_ratio, show_us

if TYPE_CHECKING:
    from edgewright.flows.benchmark.report import BenchmarkRow


def make_answer(rows: "Sequence[BenchmarkRow]", comparisons: Sequence[Comparison]) -> str:
    """Return the verdict of each comparison, or without one the median times with their intervals."""
    if not comparisons:
        return "; ".join(map(_describe_time, rows)) + "." if rows else ""
    where = len({row.device for row in rows}) > 1
    names = [f"{row.model} in {row.runtime}{f' on {row.device}' if where else ''}" for row in rows]
    named = {
        row.run_id: name if names.count(name) == 1 else f"{name} ({row.run_id})"
        for row, name in zip(rows, names, strict=True)
    }
    found = []
    for one in comparisons:
        a, b = named.get(one.a, one.a), named.get(one.b, one.b)
        found.append(f"{b} against {a}: {format_verdict(one)}")
    return "; ".join(found) + "."


def _describe_time(row: "BenchmarkRow") -> str:
    name, timing = f"{row.model} in {row.runtime}", row.latency_us
    if timing is None:
        return f"{name}: {row.error or row.state}"
    interval = ""
    if timing.p50_low is not None and timing.p50_confidence is not None:
        interval = f" ({timing.p50_confidence:.0%} interval {show_range(timing.p50_low, timing.p50_high)})"
    return f"{name} takes {show_us(timing.p50)}{interval} on {row.device}"


def format_verdict(comparison: Comparison) -> str:
    """Return a verdict with its ratio in the direction of the verdict: `1.69× faster (1.54–1.96)`."""
    ratio, low, high = comparison.ratio, comparison.low, comparison.high
    text = f"{comparison.verdict}{show_bounds(low, high)}"
    if comparison.verdict == "faster":
        text = f"{show_ratio(1 / ratio, None, None)} faster{show_bounds(high and 1 / high, low and 1 / low)}"
    if comparison.verdict == "slower":
        text = f"{show_ratio(ratio, None, None)} slower{show_bounds(low, high)}"
    return text + format_confidence(comparison)


def format_confidence(comparison: Comparison) -> str:
    """Return the confidence if too few processes keep it below 99 %, else an empty text."""
    short = comparison.low is not None and comparison.confidence < CONFIDENCE
    return f" at {comparison.confidence:.0%}" if short else ""
