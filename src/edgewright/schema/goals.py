"""Goals such as `latency<=1.05x, drop<0.5`: their grammar and their three states, for every command that has goals.

    GOALS = GOAL {"," GOAL}
    GOAL  = METRIC ("<" | "<=" | ">" | ">=") NUMBER [UNIT | "x" | "%"]

`x` means times the reference. A goal is met or missed only if the whole confidence interval is on one side of its
limit; if the limit lies inside the interval, the goal is not shown.
"""

import operator
import re
from collections.abc import Callable, Collection, Mapping
from math import isfinite
from typing import Literal

from msgspec import Struct

from edgewright.errors import UsageError
from edgewright.schema.text import find_close

GoalState = Literal["met", "missed", "not shown"]
TIMES = "x"
_SECONDS = {"us": 1.0, "ms": 1e3, "s": 1e6, TIMES: 1.0}
_SIZES = {
    "B": 1.0,
    "kB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "KiB": 2.0**10,
    "MiB": 2.0**20,
    "GiB": 2.0**30,
    TIMES: 1.0,
}
_SHARES = {"": 1.0, "%": 0.01}
# Units of each metric with their size in the first one; "" is a number without a unit.
GOAL_METRICS: Mapping[str, Mapping[str, float]] = {
    "latency": _SECONDS,
    "p90": _SECONDS,
    "p95": _SECONDS,
    "drop": {"": 1.0, "%": 1.0},  # in points of a share, else in the metric's own unit
    "metric": {**_SHARES, TIMES: 1.0},
    "bytes": {**_SIZES, "": 1.0},
    "memory": _SIZES,
    "energy": {"uJ": 1.0, "mJ": 1e3, "J": 1e6, TIMES: 1.0},
    "offload": _SHARES,
    "share": _SHARES,
    "p99": _SECONDS,
}
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_GOAL = re.compile(
    r"(?P<metric>[a-z][\w.-]*)\s*(?P<sign>[<>]=?)\s*(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*(?P<unit>\S*)",
    re.IGNORECASE | re.ASCII,
)
_SPELLINGS = str.maketrans({"µ": "u", "μ": "u", "×": TIMES})


class Goal(Struct, frozen=True, kw_only=True):
    """One goal. `number` is in `unit`."""

    metric: str
    sign: str
    number: float
    unit: str

    def __str__(self) -> str:
        return f"{self.metric}{self.sign}{self.number:g}{self.unit}"

    @property
    def is_relative(self) -> bool:
        """Whether the limit is a multiple of the reference's value."""
        return self.unit == TIMES

    def convert(self, value: float) -> float:
        """Return a value of the metric's first unit in the goal's unit."""
        return value / GOAL_METRICS[self.metric][self.unit]

    def decide(self, low: float | None, high: float | None) -> GoalState:
        """Return the state for an interval in the goal's unit; of an exact value, both bounds are the value."""
        if low is None or high is None or not (isfinite(low) and isfinite(high)):
            return "not shown"
        is_met = [_COMPARE[self.sign](bound, self.number) for bound in (low, high)]
        return "met" if all(is_met) else "not shown" if any(is_met) else "missed"


def parse_goals(text: str, known: Collection[str] = tuple(GOAL_METRICS)) -> tuple[Goal, ...]:
    """Return the goals of a text.

    Args:
        known: metrics that the command produces. Any other one is an error, as one that does not exist.

    Raises UsageError that lists the known metrics or units.
    """
    return tuple(_parse_goal(one.strip(), known) for one in text.translate(_SPELLINGS).split(","))


def _parse_goal(text: str, known: Collection[str]) -> Goal:
    found = _GOAL.fullmatch(text)
    if found is None:
        what = f"the goal '{text}' cannot be read" if text else "a goal is empty"
        form = "a goal is METRIC(<|<=|>|>=)NUMBER[UNIT|x|%], and goals are separated by commas"
        raise UsageError(what, form, 'write it like "latency<=1.05x, drop<0.5, bytes<5MB"')
    metric = found["metric"].lower()
    if metric not in known:
        raise _make_metric_error(text, metric, known)
    number = float(found["number"])
    if not isfinite(number):
        raise UsageError(f"the goal '{text}' cannot be read", f"{found['number']} is too large", "use a smaller number")
    units = GOAL_METRICS[metric]
    if (unit := found["unit"]) not in units:
        names = ", ".join(f"{one} (times the reference)" if one == TIMES else one for one in units if one)
        what = f"the goal '{text}' has the unknown unit '{unit}'" if unit else f"the goal '{text}' has no unit"
        usual = TIMES if TIMES in units and unit in ("", "%") else next(iter(filter(None, units)))
        better = next((one for one in units if one.lower() == unit.lower()), usual)
        hint = f"write {metric}{found['sign']}{found['number']}{better}"
        raise UsageError(what, f"the units of {metric} are {names}", hint)
    return Goal(metric=metric, sign=found["sign"], number=number, unit=unit)


def _make_metric_error(text: str, metric: str, known: Collection[str]) -> UsageError:
    if metric in GOAL_METRICS:
        what = f"the goal '{text}' has the metric {metric}, which this command cannot produce here"
    else:
        what = f"the goal '{text}' has the unknown metric '{metric}'"
    close = find_close(metric, known)
    hint = f"write {close}{text[len(metric) :]}" if close else "use one of these metrics"
    return UsageError(what, f"the known metrics are {', '.join(known)}", hint)
