"""A policy as a table of states and rules, and the one state machine that runs it.

The table is data in a language-neutral file (edgewright.policy/1): apps in other languages run the same table, and are
tested with the same traces. A rule moves from one state to another once all its conditions have held for a time.
States are listed from the fullest to the lightest. A condition on an unknown value never moves to a lighter state, and
does not keep a policy from returning to a fuller one: a device without a sensor is not slowed down for it.
"""

import operator
from collections.abc import Callable
from typing import Literal

import msgspec
from msgspec import Struct

from edgewright.adaptive.signals import SIGNALS, SignalReading
from edgewright.errors import ConfigError

SCHEMA = "edgewright.policy/1"
Sign = Literal["<", "<=", ">", ">="]
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Condition(Struct, frozen=True, forbid_unknown_fields=True):
    """A signal compared with a number."""

    signal: str
    op: Sign
    value: float

    def __str__(self) -> str:
        return f"{self.signal} {self.op} {self.value:g}"


class Action(Struct, frozen=True, forbid_unknown_fields=True):
    """What runs in a state.

    Attributes:
        variant: `full` or `lite`; None if nothing runs.
        duty: share of the offered inputs that are run.
    """

    variant: Literal["full", "lite"] | None
    duty: float = 1.0


class Rule(Struct, frozen=True, forbid_unknown_fields=True, rename={"origin": "from", "target": "to"}):
    """A change of the state: from `origin` to `target` once all conditions have held for `for_s` seconds."""

    origin: str
    target: str
    when: tuple[Condition, ...]
    for_s: float = 0.0

    def describe(self) -> str:
        """Return the conditions as one line."""
        held = f" for {self.for_s:g} s" if self.for_s else ""
        return " and ".join(map(str, self.when)) + held


class Policy(Struct, frozen=True, kw_only=True):
    """States from the fullest to the lightest with what runs in each, and rules; of two that apply the first counts."""

    schema: str = SCHEMA
    name: str
    states: tuple[str, ...]
    actions: dict[str, Action]
    rules: tuple[Rule, ...]

    def find_order(self, rule: Rule) -> bool:
        """Return whether a rule goes to a lighter state."""
        return self.states.index(rule.target) > self.states.index(rule.origin)


def read_policy(content: bytes, name: str) -> Policy:
    """Return the policy of a file; raise ConfigError naming what is wrong with it."""
    try:
        policy = msgspec.json.decode(content, type=Policy)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name} is not a policy", str(error), _ADVICE) from None
    problem = next(iter(_list_problems(policy)), "")
    if problem:
        raise ConfigError(f"{name} is not a usable policy", problem, _ADVICE)
    return policy


_ADVICE = "start from one that is built in: edgewright policy show governor --json > policy.json"


def _list_problems(policy: Policy) -> list[str]:
    found = []
    if policy.schema != SCHEMA:
        found.append(f"its schema is {policy.schema}, not {SCHEMA}")
    if not policy.states or len(set(policy.states)) < len(policy.states):
        found.append("states must be names that differ, the fullest first")
    found += [f"actions has no entry for the state {one}" for one in policy.states if one not in policy.actions]
    found += [
        f"the duty of {name} is {one.duty:g}, not 0 to 1"
        for name, one in policy.actions.items()
        if not 0 <= one.duty <= 1
    ]
    for number, rule in enumerate(policy.rules, 1):
        where = f"rule {number} ({rule.origin} to {rule.target})"
        found += [f"{where}: there is no state {one}" for one in (rule.origin, rule.target) if one not in policy.states]
        if rule.origin == rule.target:
            found.append(f"{where} leads to its own state")
        if not rule.when or not 0 <= rule.for_s < float("inf"):
            found.append(f"{where} needs a condition, and a time of 0 s or more")
        unknown = [one.signal for one in rule.when if one.signal not in SIGNALS]
        found += [f"{where}: the signal {one} is unknown; known: {', '.join(SIGNALS)}" for one in unknown]
    return found


class StateMachine:
    """The state of one policy over time."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.state = policy.states[0]
        self.why = "start"
        self._held: dict[int, float] = {}  # rule number → since when its conditions hold

    @property
    def action(self) -> Action:
        return self.policy.actions[self.state]

    def update(self, reading: SignalReading) -> str:
        """Advance to a reading, and return the state. `why` is the rule that led to it."""
        for number, rule in enumerate(self.policy.rules):
            if rule.origin != self.state:
                continue
            if not self._holds(rule, reading):
                self._held.pop(number, None)
                continue
            if reading.t_s - self._held.setdefault(number, reading.t_s) >= rule.for_s:
                self.state, self.why = rule.target, rule.describe()
                self._held.clear()
                break
        return self.state

    def _holds(self, rule: Rule, reading: SignalReading) -> bool:
        unknown = not self.policy.find_order(rule)
        values = [(one, getattr(reading, one.signal)) for one in rule.when]
        return all(unknown if value is None else _COMPARE[one.op](value, one.value) for one, value in values)
