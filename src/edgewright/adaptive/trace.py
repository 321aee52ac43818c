"""Recorded signals, and what a policy does with them."""

import csv
import io
import math
from collections.abc import Iterable, Iterator

from msgspec import Struct

from edgewright.adaptive.policy import Policy, StateMachine
from edgewright.adaptive.signals import RANGES, SignalFilter, SignalReading
from edgewright.errors import DataError

TIME = "t_s"
_ADVICE = f"the columns are {TIME} and any of {', '.join(RANGES)}; an empty cell is an unknown value"


class ReplayedState(Struct, frozen=True):
    """The state at one row of a trace, and the rule that led to it."""

    t_s: float
    state: str
    why: str


def read_trace(text: str, name: str) -> Iterator[tuple[float, dict[str, float | None]]]:
    """Yield the rows of a CSV file: the time, and the signals. Raise DataError where one cannot be read."""
    rows = csv.DictReader(io.StringIO(text, newline=""))
    if TIME not in (rows.fieldnames or ()):
        raise DataError(f"{name} is not a trace", f"it has no column {TIME}", _ADVICE)
    known = [one for one in RANGES if one in (rows.fieldnames or ())]
    for row in rows:
        try:
            time = float(row[TIME])
            values = {one: float(row[one]) if (row[one] or "").strip() else None for one in known}
        except (TypeError, ValueError) as error:
            raise DataError(f"line {rows.line_num} of {name} cannot be read", str(error), _ADVICE) from None
        if not math.isfinite(time):
            raise DataError(f"line {rows.line_num} of {name} has no time", f"{TIME} is {row[TIME]}", _ADVICE)
        yield time, values


def replay_trace(policy: Policy, rows: Iterable[tuple[float, dict[str, float | None]]]) -> Iterator[ReplayedState]:
    """Yield the state after each row."""
    signals, machine = SignalFilter(), StateMachine(policy)
    for time, values in rows:
        reading: SignalReading = signals.read(time, values)
        machine.update(reading)
        yield ReplayedState(time, machine.state, machine.why)
