"""The answer of a benchmark in one sentence: its times, or how each run compares with the first."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgewright.bench.verdict import CONFIDENCE
from edgewright.report.numbers import join_words
from edgewright.report.outcome import Difference, describe_difference, name_runtime
from edgewright.schema.metrics import get_metric_info, is_share
from edgewright.schema.run import Comparison, Run
from edgewright.schema.units import show_bounds, show_range, show_ratio, show_us

if TYPE_CHECKING:
    from edgewright.flows.benchmark.comparison import EvaluationComparison
    from edgewright.flows.benchmark.report import BenchmarkRow

AGAINST = "{name} against {reference}: {verdict}."
GROUPED = "Against {reference}: {verdicts}."
IS, SAME = "{name} is {verdict}", "no difference is shown to {names}"
PAIRED = "{name} against {reference}: {change}, on {n} samples."


def make_answer(rows: "Sequence[BenchmarkRow]", comparisons: Sequence[Comparison]) -> str:
    """Return the verdict of each comparison, or without one the median times with their intervals."""
    if not comparisons:
        return "; ".join(map(_describe_time, rows)) + "." if rows else ""
    names = _name_fully(rows)
    named = {
        row.run_id: name if names.count(name) == 1 else f"{name} ({row.run_id})"
        for row, name in zip(rows, names, strict=True)
    }
    if len(comparisons) > 1:
        own = _name_rows(rows)
        references = dict.fromkeys(one.a for one in comparisons)  # one on each device
        groups = [[one for one in comparisons if one.a == first] for first in references]
        return " ".join(_group_verdicts(own, group) for group in groups)
    (one,) = comparisons
    return AGAINST.format(name=named.get(one.b, one.b), reference=named.get(one.a, one.a), verdict=format_verdict(one))


def _name_fully(rows: "Sequence[BenchmarkRow]") -> list[str]:
    """Return model and runtime of each run, and the device if there are several."""
    where = len({row.device for row in rows}) > 1
    return [f"{row.model} in {row.runtime}{f' on {row.device}' if where else ''}" for row in rows]


def _name_rows(rows: "Sequence[BenchmarkRow]") -> dict[str, str]:
    """Return a short name for each run: what differs between them, the runtime or the model; with the id if neither."""
    runtimes, models = [row.runtime for row in rows], [f"{row.model} {row.precision}" for row in rows]
    if len(set(runtimes)) == len(rows):
        names = [f"{name_runtime(row.runtime)} {row.precision}".strip() for row in rows]
    elif len(set(models)) == len(rows):
        names = [row.model for row in rows]
    else:
        names = _name_fully(rows)
    return {
        row.run_id: name if names.count(name) == 1 else f"{name} ({row.run_id})"
        for row, name in zip(rows, names, strict=True)
    }


def _group_verdicts(named: dict[str, str], comparisons: Sequence[Comparison]) -> str:
    """Return the faster runs, those without a shown difference, and the slower ones, against their reference."""
    order = sorted(comparisons, key=lambda one: one.ratio)
    unsure = [named.get(one.b, one.b) for one in order if one.verdict not in ("faster", "slower")]
    shown = [
        *_describe_all("faster", order, named),
        *([SAME.format(names=join_words(unsure))] if unsure else []),
        *_describe_all("slower", order, named),
    ]
    first = comparisons[0].a
    return GROUPED.format(reference=named.get(first, first), verdicts="; ".join(shown))


def _describe_all(verdict: str, comparisons: Sequence[Comparison], named: dict[str, str]) -> list[str]:
    return [
        IS.format(name=named.get(one.b, one.b), verdict=format_verdict(one))
        for one in comparisons
        if one.verdict == verdict
    ]


def answer_evaluations(runs: Sequence[Run], evaluations: "Sequence[EvaluationComparison]") -> str:
    """Return the differences of the metric, sample by sample, from the first run."""
    named = {run.id: f"{run.model.name if run.model else run.id} in {run.runtime}" for run in runs}
    return " ".join(
        PAIRED.format(name=named[one.b], reference=named[one.a], change=_describe_change(one), n=one.n)
        for one in evaluations
    )


def _describe_change(one: "EvaluationComparison") -> str:
    share = is_share(one.metric)
    factor, better = (100.0 if share else 1.0), get_metric_info(one.metric).better or "higher"
    numbers = factor * one.difference, factor * one.low, factor * one.high
    return describe_difference(Difference(one.metric, *numbers, better, "points" if share else "")).text


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
