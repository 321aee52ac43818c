"""`route`: fit a rule on one dataset, test it on another, and write it."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgewright.errors import DataError, GateFailed, UsageError
from edgewright.flows.candidates import check_runs_here, choose_runtime, read_models
from edgewright.flows.route.scores import Level, TestedLevels, collect_scores
from edgewright.flows.workspace import Workspace
from edgewright.schema.goals import Goal, GoalState, parse_goals
from edgewright.serving.routing import (
    Floats,
    RoutingRule,
    assign_levels,
    compute_calibration_error,
    fit_rule,
)
from edgewright.system.files import write_atomically
from edgewright.tasks.metrics.intervals import mcnemar, wilson
from edgewright.tasks.spec.task import Task

ROUTER_SCHEMA = "edgewright.router/1"
METRICS = ("offload", "drop", "metric")
DEFAULT_GOAL = "offload<=0.4"
GRID = 201
Integers = NDArray[np.int64]


class RouteRequest(Struct, frozen=True, kw_only=True):
    """What is routed.

    Attributes:
        levels: models from the device outward. tasks: one for all, or one for each level.
        data, eval_data: labeled samples to fit the rule on, and to test it on.
        code: functions that the user allowed to run.
    """

    levels: tuple[str, ...]
    tasks: tuple[Task, ...]
    data: str
    eval_data: str
    goal: str = DEFAULT_GOAL
    runtime: str = ""
    seed: int = 0
    code: tuple[str, ...] = ()


class RouteLevel(Struct, frozen=True, kw_only=True):
    """One level: its accuracy alone on the test data, and the share of the samples that it answered."""

    path: str
    sha256: str
    runtime: str
    metric: float
    share: float
    temperature: float | None = None
    calibration_error: float | None = None
    calibrated_error: float | None = None


class RouterFile(Struct, frozen=True, kw_only=True):
    """The rule for programs (edgewright.router/1): a level answers if its predicted gain is at most its threshold."""

    schema: str = ROUTER_SCHEMA
    levels: tuple[RouteLevel, ...]
    rules: tuple[RoutingRule, ...]
    thresholds: tuple[float, ...]
    goal: str
    tasks: tuple[Task, ...]


class RouteGoal(Struct, frozen=True, kw_only=True):
    """A goal with its value on the test data, the 95 % interval, and the state: met, missed or not shown."""

    goal: str
    value: float
    low: float
    high: float
    state: GoalState


class RouteReport(Struct, frozen=True, kw_only=True):
    """How the rule does on samples that it was not fitted on (edgewright.route/1).

    Attributes:
        metric: accuracy of the whole, with its 95 % interval `low` to `high`.
        offload: share of the samples that left the first level.
        gap_closed: (metric − first level) / (last level − first level); None if the last level is no better.
        random: accuracy of sending the same share at random, and `random_gap_closed`, its share of the gap.
        samples, fit_samples: number of test samples, and of those that the rule was fitted on.
    """

    schema: str = "edgewright.route/1"
    metric: float
    low: float
    high: float
    offload: float
    gap_closed: float | None
    random: float
    random_gap_closed: float | None
    drop: float
    method: tuple[str, ...]
    samples: int
    fit_samples: int
    levels: tuple[RouteLevel, ...]
    goal: str
    checks: tuple[RouteGoal, ...]
    output: str | None
    answer: str


def fit_route(
    request: RouteRequest, workspace: Workspace, output: Path | None
) -> tuple[RouteReport, GateFailed | None]:
    """Fit and test; write the router file if a path is given.

    Returns:
        The report, and the error if a goal is missed on the test data.

    Raises UsageError, ConfigError, DataError, ModelError, or an error of a worker.
    """
    goals = _read_goals(request)
    models = read_models(list(request.levels), sets=True)
    runtimes = [choose_runtime(Path(one), request.runtime) for one in request.levels]
    for info in runtimes:
        check_runs_here(info)
    tasks = request.tasks * len(request.levels) if len(request.tasks) == 1 else request.tasks
    levels = [
        Level(models[one], info.name, task) for one, info, task in zip(request.levels, runtimes, tasks, strict=True)
    ]
    fit = collect_scores(levels, request.data, request.code, workspace)
    held = collect_scores(levels, request.eval_data, request.code, workspace)
    if fit.fingerprint == held.fingerprint:
        why = "a rule tested on the samples that it was fitted on looks better than it is"
        raise DataError("--data and --eval-data are the same samples", why, "give other samples as --eval-data")
    share = next((one.number for one in goals if one.metric == "offload"), 0.4)
    last = fit.levels[-1].right
    rules = tuple(fit_rule(one.scores, fit.labels, one.right, last, share) for one in fit.levels[:-1])
    thresholds = _choose_thresholds(rules, fit, goals)
    names = [(one, models[one].sha256, info.name) for one, info in zip(request.levels, runtimes, strict=True)]
    report = _test(rules, thresholds, held, goals, names)
    report = msgspec.structs.replace(report, fit_samples=len(fit.labels), output=str(output) if output else None)
    if output is not None:
        router = RouterFile(
            levels=report.levels, rules=rules, thresholds=thresholds, goal=report.goal, tasks=request.tasks
        )
        write_atomically(output, msgspec.json.encode(router), follow=True)
    missed = [f"{one.goal}: it is {one.value:.4g}" for one in report.checks if one.state == "missed"]
    if not missed:
        return report, None
    why = f"{'; '.join(missed)} (on {report.samples} samples that the rule was not fitted on)"
    return report, GateFailed(
        "a goal of the routing is missed", why, "allow more samples to go on, or use a better level"
    )


def _read_goals(request: RouteRequest) -> tuple[Goal, ...]:
    if len(request.levels) < 2:
        example = "--levels small.onnx,big.onnx"
        raise UsageError("routing needs at least two levels", f"{len(request.levels)} is given", example)
    if len(request.tasks) not in (1, len(request.levels)):
        why = f"there are {len(request.tasks)} tasks and {len(request.levels)} levels"
        raise UsageError(
            "the number of tasks does not fit", why, "give one task, or one for each level: --task A --task B"
        )
    goals = parse_goals(request.goal, METRICS)
    for one in goals:
        if one.is_relative:
            raise UsageError(f"the goal {one} has no reference here", "x means times the reference", "give a number")
    return goals


def _choose_thresholds(rules: Sequence[RoutingRule], fit: TestedLevels, goals: Sequence[Goal]) -> tuple[float, ...]:
    """Return the thresholds that meet the goals on the fitting samples with the best accuracy.

    All levels let the same share of their samples go on; shares from 0 to 1 are tried. If no share meets all goals, the
    one with the most accuracy within the limit of the offload is taken.
    """
    gains = [rule.predict_gain(one.scores) for rule, one in zip(rules, fit.levels, strict=False)]
    best: tuple[bool, float, float] | None = None
    chosen: tuple[float, ...] = ()
    for share in np.linspace(0, 1, GRID):
        thresholds = tuple(_find_threshold(gain, float(share)) for gain in gains)
        level = assign_levels(rules, thresholds, [one.scores for one in fit.levels])
        figures = _compute_figures(level, fit)
        limited = [one for one in goals if one.metric == "offload"]
        if any(_misses(one, figures) for one in limited):
            continue
        rank = (not any(_misses(one, figures) for one in goals), figures["metric"], -figures["offload"])
        if best is None or rank > best:
            best, chosen = rank, thresholds
    return chosen or tuple(_find_threshold(gain, 0.0) for gain in gains)


def _find_threshold(gain: Floats, share: float) -> float:
    """Return the value above which that share of the samples is."""
    return float(np.quantile(gain, 1 - share)) if share > 0 else float(gain.max())


def _compute_figures(level: Integers, tested: TestedLevels) -> dict[str, float]:
    right = np.stack([one.right for one in tested.levels])[level, np.arange(len(level))]
    metric, last = float(right.mean()), float(tested.levels[-1].right.mean())
    return {"metric": metric, "offload": float((level > 0).mean()), "drop": (last - metric) * 100}


def _misses(goal: Goal, figures: dict[str, float]) -> bool:
    value = goal.convert(figures[goal.metric])
    return goal.decide(value, value) == "missed"


def _test(
    rules: tuple[RoutingRule, ...],
    thresholds: tuple[float, ...],
    held: TestedLevels,
    goals: Sequence[Goal],
    names: Sequence[tuple[str, str, str]],
) -> RouteReport:
    level = assign_levels(rules, thresholds, [one.scores for one in held.levels])
    figures = _compute_figures(level, held)
    right = np.stack([one.right for one in held.levels])[level, np.arange(len(level))]
    first, last = float(held.levels[0].right.mean()), float(held.levels[-1].right.mean())
    low, high = wilson(int(right.sum()), len(right))
    intervals = {"metric": (low, high), "offload": wilson(int((level > 0).sum()), len(level))}
    drop = mcnemar(right, held.levels[-1].right)
    intervals["drop"] = (drop.low * 100, drop.high * 100)
    random = _compute_random(level, held)
    levels = tuple(_describe(number, one, level, held, rules) for number, one in enumerate(names))
    closed = (figures["metric"] - first) / (last - first) if last > first else None
    return RouteReport(
        metric=round(figures["metric"], 6),
        low=low,
        high=high,
        offload=round(figures["offload"], 6),
        gap_closed=None if closed is None else round(closed, 4),
        random=round(random, 6),
        random_gap_closed=round((random - first) / (last - first), 4) if last > first else None,
        drop=round(figures["drop"], 4),
        method=tuple(one.method for one in rules),
        samples=len(level),
        fit_samples=0,
        levels=levels,
        goal=", ".join(map(str, goals)),
        checks=tuple(_check(one, figures, intervals) for one in goals),
        output=None,
        answer=_answer(figures, closed, random, first, last),
    )


def _check(goal: Goal, figures: dict[str, float], intervals: dict[str, tuple[float, float]]) -> RouteGoal:
    value = goal.convert(figures[goal.metric])
    low, high = (goal.convert(one) for one in intervals[goal.metric])
    return RouteGoal(goal=str(goal), value=value, low=low, high=high, state=goal.decide(low, high))


def _compute_random(level: Integers, held: TestedLevels) -> float:
    """Return the expected accuracy if each level answers the same share of the samples, chosen at random."""
    return sum(float((level == number).mean()) * float(one.right.mean()) for number, one in enumerate(held.levels))


def _describe(
    number: int,
    name: tuple[str, str, str],
    level: Integers,
    held: TestedLevels,
    rules: Sequence[RoutingRule],
) -> RouteLevel:
    own, (path, sha256, runtime) = held.levels[number], name
    rule = rules[number] if number < len(rules) else None
    return RouteLevel(
        path=path,
        sha256=sha256,
        runtime=runtime,
        metric=round(float(own.right.mean()), 6),
        share=round(float((level == number).mean()), 6),
        temperature=round(rule.temperature, 4) if rule else None,
        calibration_error=round(compute_calibration_error(own.scores, own.right, 1.0), 4) if rule else None,
        calibrated_error=round(compute_calibration_error(own.scores, own.right, rule.temperature), 4) if rule else None,
    )


def _answer(figures: dict[str, float], closed: float | None, random: float, first: float, last: float) -> str:
    gap = "the last level is no better than the first" if closed is None else f"{closed:.0%} of the gap is closed"
    return (
        f"{figures['metric']:.1%} right at {figures['offload']:.0%} offload: {gap} "
        f"(first level {first:.1%}, last {last:.1%}, random routing {random:.1%})."
    )
