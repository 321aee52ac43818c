"""Each goal of a gate with its value, its interval and its state."""

from math import isfinite
from typing import Any, NamedTuple

from edgewright.bench.statistics import Interval, combine_intervals, make_exact
from edgewright.bench.verdict import MIN_CONFIDENCE, estimate_ratio
from edgewright.errors import UsageError
from edgewright.flows.evaluate.report import EvaluationRow
from edgewright.flows.gate.baseline import Baseline, BaselineFigure, make_figure
from edgewright.flows.gate.figures import (
    TIMED,
    compare_rounds,
    compute_drop,
    estimate,
    read_metric,
    read_paired_difference,
)
from edgewright.flows.gate.report import GateCheck
from edgewright.schema.goals import GOAL_METRICS, Goal
from edgewright.schema.metrics import is_share
from edgewright.schema.run import Run


class MeasuredModel(NamedTuple):
    """What was measured of one model; None where it was not."""

    run: Run | None
    row: EvaluationRow | None
    bytes: float


class GateMeasurement(NamedTuple):
    """All measurements of a gate.

    Attributes:
        model: of the model under test.
        reference: of the baseline's model, in the same session; None if it was not at hand.
        is_same: whether the model is the baseline's, in the same runtime with the same options.
        device: facts of the device now.
        metric: of the task, with the fingerprint of its data; empty without an evaluation.
        differing: options of the measurement that differ from the baseline's.
    """

    model: MeasuredModel
    reference: MeasuredModel | None
    baseline: Baseline
    is_same: bool
    device: dict[str, Any]
    metric: str = ""
    data_fingerprint: str = ""
    differing: tuple[str, ...] = ()


class GoalValue(NamedTuple):
    """The interval of a goal's value in the metric's first unit, and how it was obtained; or why there is none."""

    interval: Interval | None
    method: str
    reason: str = ""


def make_figures(measured: MeasuredModel) -> dict[str, BaselineFigure]:
    """Return the figures that a baseline keeps."""
    found: dict[str, Interval | None] = {"bytes": make_exact(measured.bytes)}
    if measured.run is not None:
        found |= {metric: estimate(measured.run, metric) for metric in TIMED}
    if measured.row is not None:
        found["metric"] = read_metric(measured.row)
    return {
        name: make_figure(interval, next(iter(GOAL_METRICS[name])))
        for name, interval in found.items()
        if interval is not None and isfinite(interval.value)
    }


def check_units(goals: tuple[Goal, ...], metric: str) -> None:
    """Raise UsageError for a drop in percent of a metric that is not a share."""
    for goal in goals:
        if goal.metric == "drop" and goal.unit == "%" and not is_share(metric):
            why = f"{metric} is not a share; its drop is in its own unit"
            raise UsageError(f"the goal '{goal}' cannot be checked", why, f"write drop{goal.sign}{goal.number:g}")


def check_goal(goal: Goal, found: GateMeasurement) -> GateCheck:
    """Return the state of one goal."""
    answer = _find_value(goal, found)
    interval, reason = answer.interval, answer.reason
    if interval is None or not isfinite(interval.value):
        reason = reason or "it has no value"
        return _make_check(goal, GoalValue(None, "", reason), "not shown")
    low, high = (
        None if one is None else one if goal.is_relative else goal.convert(one) for one in (interval.low, interval.high)
    )
    if interval.confidence < MIN_CONFIDENCE:
        reason = f"its interval has only {interval.confidence:.0%} confidence: measure at least 6 processes"
        return _make_check(goal, answer._replace(reason=reason), "not shown")
    state = goal.decide(low, high)
    reason = "the goal is inside the interval" if state == "not shown" else ""
    return _make_check(goal, answer._replace(reason=reason), state)


def _make_check(goal: Goal, answer: GoalValue, state: Any) -> GateCheck:
    interval = answer.interval
    value, low, high = (
        None if one is None else one if goal.is_relative else goal.convert(one)
        for one in ((None,) * 3 if interval is None else (interval.value, interval.low, interval.high))
    )
    return GateCheck(
        goal=str(goal),
        metric=goal.metric,
        state=state,
        value=value,
        low=low,
        high=high,
        unit=goal.unit,
        confidence=None if interval is None or low is None else interval.confidence,
        method=answer.method,
        reason=answer.reason,
    )


def _find_value(goal: Goal, found: GateMeasurement) -> GoalValue:
    if goal.metric == "drop":
        return _find_drop(found)
    if goal.metric == "bytes":
        known = found.baseline.figures.get("bytes")
        old = found.reference.bytes if found.reference else known.value if known else None
        if not goal.is_relative:
            return GoalValue(make_exact(found.model.bytes), "exact")
        return GoalValue(make_exact(found.model.bytes / old) if old else None, "exact", "the baseline has no bytes")
    if goal.metric == "metric":
        return _find_metric(goal, found)
    return _find_timed(goal, found)


def _find_timed(goal: Goal, found: GateMeasurement) -> GoalValue:
    run, reference = found.model.run, found.reference
    now = None if run is None else estimate(run, goal.metric)
    if run is None or now is None:
        return GoalValue(None, "", f"{goal.metric} was not measured")
    if not goal.is_relative:
        return GoalValue(now, "processes")
    if reference is not None and reference.run is not None:
        return GoalValue(compare_rounds(reference.run, run, goal.metric), "interleaved")
    old = found.baseline.figures.get(goal.metric)
    if old is None:
        return GoalValue(None, "", f"the baseline has no {goal.metric}")
    if found.device != found.baseline.device:
        return GoalValue(None, "", "the baseline is of another device, and its model is not at hand")
    if found.differing:
        options = ", ".join(f"--{one}" for one in found.differing)
        return GoalValue(None, "", f"{options} differs from the baseline's, and its model is not at hand")
    return GoalValue(estimate_ratio(old.to_interval(), now), "sessions")


def _find_metric(goal: Goal, found: GateMeasurement) -> GoalValue:
    now = read_metric(found.model.row) if found.model.row else None
    if now is None or not goal.is_relative:
        return GoalValue(now, "samples")
    old, reason = _find_old_metric(found)
    return GoalValue(estimate_ratio(old, now, drift=0.0) if old else None, "samples", reason)


def _find_drop(found: GateMeasurement) -> GoalValue:
    row, reference = found.model.row, found.reference
    if row is None or row.metric is None:
        return GoalValue(None, "", "the metric was not evaluated")
    if found.is_same:
        return GoalValue(make_exact(0.0), "same model")
    if reference is not None:
        method, difference, reason = "paired samples", read_paired_difference(row), ""
    else:
        old, reason = _find_old_metric(found)
        now = read_metric(row)
        method, difference = "samples", combine_intervals(old, now) if old and now else None
    drop = compute_drop(difference, found.metric, row.metric.better) if difference else None
    return GoalValue(drop, method, reason)


def _find_old_metric(found: GateMeasurement) -> tuple[Interval | None, str]:
    """Return the metric of the baseline's model; None with the reason if it is not comparable."""
    if found.reference is not None:
        return (read_metric(found.reference.row) if found.reference.row else None), ""
    old = found.baseline.figures.get("metric")
    if old is None:
        return None, "the baseline has no metric"
    same = (found.baseline.metric, found.baseline.data_fingerprint) == (found.metric, found.data_fingerprint)
    return (old.to_interval(), "") if same else (None, "the baseline was evaluated with another metric or other data")
