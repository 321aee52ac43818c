"""The budgets of pruning: bytes and multiply-accumulates, which are counted, and time, which is measured in the chosen
runtime: what each width of each group saves alone, and then each network as a whole.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.compress.pruning.cut import cut_graph
from edgewright.compress.pruning.groups import Group, Groups
from edgewright.compress.pruning.importance import Scores
from edgewright.compress.pruning.widths import keep_widths, widths_of
from edgewright.errors import UsageError
from edgewright.flows.benchmark import Outcome
from edgewright.flows.contest import Court, time_models

UNITS = {"": 1.0, "b": 1.0, "kb": 1e3, "k": 1e3, "mb": 1e6, "m": 1e6, "gb": 1e9, "g": 1e9}
MOST_TIMED = 40  # networks that are timed one group at a time
AT_ONCE = 5
PROCESSES, SECONDS = 3, 0.05  # with two processes, two searches of three ended in another network


def parse_amount(text: str, whole: float, flag: str) -> float:
    """`800kB` or `15M` as a number; `2x` as the whole over two. UsageError."""
    word = text.strip().lower().replace(" ", "")
    number = word.rstrip("abcdefghijklmnopqrstuvwxyz×")
    unit = word[len(number) :]
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if value <= 0 or (unit not in UNITS and unit not in ("x", "×")):
        raise UsageError(
            f"{flag} {text} is no amount", "a number with k, M or kB, MB, or how many times less", f"{flag} 2x"
        )
    return whole / value if unit in ("x", "×") else value * UNITS[unit]


def tabulate_times(
    model: Any,
    groups: Groups,
    free: Sequence[Group],
    scores: Scores,
    multiple: int,
    clock: "Clock",
    now: float = 1.0,
) -> dict[str, dict[int, float]]:
    """Share of the network's time that each width of each group saves alone; measured at some widths where there are
    many, straight lines between them. `now` is the share that `model` takes as it is."""
    asked = [(group, width) for group in free for width in timed_widths(group, multiple, len(free))]
    cuts = [keep_widths(groups, scores, {group.name: width}) for group, width in asked]
    shares = clock.shares([cut_graph(model, groups, keep) for keep in cuts])
    table: dict[str, dict[int, float]] = {}
    for group in free:
        known = [
            (width, max(0.0, now - share)) for (one, width), share in zip(asked, shares, strict=True) if one is group
        ]
        known.append((group.size, 0.0))
        known.sort()
        xs, ys = zip(*known, strict=True)
        table[group.name] = {width: float(np.interp(width, xs, ys)) for width in widths_of(group, multiple)}
    return table


def timed_widths(group: Group, multiple: int, groups: int) -> Sequence[int]:
    """As many as there is time for, the narrowest and a middle one first."""
    widths = widths_of(group, multiple)
    most = max(1, MOST_TIMED // max(groups, 1))
    if len(widths) <= most:
        return widths
    places = np.unique(np.linspace(0, len(widths) - 1, most + 1).round().astype(int)[1:])
    return [widths[place] for place in places]


class Clock:
    """Times cut networks against the whole one, in the runtime, without a trace in the user's record.

    Args:
        ready: brings an ONNX file into the form that the runtime takes.
    """

    def __init__(self, whole: Path, court: Court, folder: Path, ready: Callable[[Path], Path]) -> None:
        self._court, self._folder, self._ready = court, folder, ready
        folder.mkdir(parents=True, exist_ok=True)
        self._whole = ready(whole)
        self._made = 0

    def shares(self, models: Sequence[Any], *, processes: int = PROCESSES) -> list[float]:
        """Time of each over that of the whole network."""
        found: list[float] = []
        for start in range(0, len(models), AT_ONCE):
            batch = [self._ready(self._write(model)) for model in models[start : start + AT_ONCE]]
            outcome = time_models((self._whole, *batch), self._court, {}, processes=processes, seconds=SECONDS)
            if outcome.error is not None:
                raise outcome.error
            found += [self._share(outcome, place) for place in range(1, len(outcome.runs))]
            self._court.tell(f"timing what each width saves: {len(found)} of {len(models)}")
        return found

    def _share(self, outcome: Outcome, place: int) -> float:
        """By processor time where one thread computes: a machine with other work to do hardly changes it."""
        if self._court.threads == 1:
            cpu = [
                next((one.value for one in outcome.runs[at].metrics if one.name == "cpu.p50"), None)
                for at in (0, place)
            ]
            if cpu[0] and cpu[1]:
                return cpu[1] / cpu[0]
        return outcome.comparisons[place - 1].ratio

    def _write(self, model: Any) -> Path:
        import onnx

        self._made += 1
        path = self._folder / f"cut{self._made}.onnx"
        onnx.save(model, str(path))
        return path
