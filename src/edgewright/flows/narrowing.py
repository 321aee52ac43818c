"""How narrow each group of channels becomes, so that a budget is met at the least loss.

Bytes and multiply-accumulates are counted (`compress.pruning.widths`). Time is measured: what each width of each group
saves alone, as time of the cut network in the chosen runtime. The next step taken is always the one that loses least
for what it saves. Since savings do not add up (a convolution between two groups is cut from both sides), the network as
a whole is measured again, and the steps go on until the budget is really met. Steps beyond what it needs are undone.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewright.bench.session import Tell
from edgewright.compress.pruning.cut import cut_graph
from edgewright.compress.pruning.groups import Group, Groups
from edgewright.errors import GateFailed, UsageError
from edgewright.flows.benchmark import Outcome
from edgewright.flows.contest import Court, time_models

Array = NDArray[Any]
Keep = dict[str, Array]
UNITS = {"": 1.0, "b": 1.0, "kb": 1e3, "k": 1e3, "mb": 1e6, "m": 1e6, "gb": 1e9, "g": 1e9}
MOST_TIMED = 40  # networks that are timed one group at a time
AT_ONCE = 5
PROCESSES, SECONDS = 3, 0.05
MOST_CORRECTIONS = 30
MOST_GIVEN = 12  # steps that are tried to be undone
LEAST_SHARE = 8  # a group keeps an eighth of its units at least


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


def widths_of(size: int, multiple: int) -> tuple[int, ...]:
    """The widths below `size` that a group may take, widest first: multiples, smaller ones where it is narrow."""
    step = multiple
    while step > 1 and size < 2 * step:
        step //= 2
    least = max(step, -(-size // (LEAST_SHARE * step)) * step)
    return tuple(range((size - 1) // step * step, least - 1, -step)) if size > 1 else ()


class Table(NamedTuple):
    """By group and width: what is lost, and what is saved by this group alone."""

    loss: dict[str, dict[int, float]]
    saved: dict[str, dict[int, float]]


def lowest_first(groups: Groups, scores: Mapping[str, Array]) -> dict[str, Array]:
    """Units of each group, the least important first."""
    return {group.name: np.argsort(scores[group.name], kind="stable") for group in groups.groups}


def keep_widths(groups: Groups, order: Mapping[str, Array], widths: Mapping[str, int]) -> Keep:
    """Units that are kept at these widths, for the groups that lose some."""
    return {
        group.name: np.sort(order[group.name][group.size - widths[group.name] :])
        for group in groups.groups
        if widths.get(group.name, group.size) < group.size
    }


def tabulate_losses(
    free: Sequence[Group], scores: Mapping[str, Array], order: Mapping[str, Array], multiple: int
) -> dict[str, dict[int, float]]:
    table = {}
    for group in free:
        sums = np.cumsum(scores[group.name][order[group.name]])
        table[group.name] = {
            width: dearer(float(sums[group.size - width - 1]), float(sums[-1]))
            for width in widths_of(group.size, multiple)
        }
    return table


def dearer(lost: float, total: float) -> float:
    """The emptier a group is, the dearer its units: what goes, times the whole over what stays."""
    return lost * total / (total - lost) if total > lost else lost


def tabulate_times(
    model: Any,
    groups: Groups,
    free: Sequence[Group],
    order: Mapping[str, Array],
    multiple: int,
    clock: "Clock",
    now: float = 1.0,
) -> dict[str, dict[int, float]]:
    """Share of the network's time that each width of each group saves alone; measured at some widths where there are
    many, straight lines between them. `now` is the share that `model` takes as it is."""
    asked = [(group, width) for group in free for width in timed_widths(group, multiple, len(free))]
    cuts = [keep_widths(groups, order, {group.name: width}) for group, width in asked]
    shares = clock.shares([cut_graph(model, groups, keep) for keep in cuts])
    table: dict[str, dict[int, float]] = {}
    for group in free:
        known = [
            (width, max(0.0, now - share)) for (one, width), share in zip(asked, shares, strict=True) if one is group
        ]
        known.append((group.size, 0.0))
        known.sort()
        xs, ys = zip(*known, strict=True)
        table[group.name] = {width: float(np.interp(width, xs, ys)) for width in widths_of(group.size, multiple)}
    return table


def timed_widths(group: Group, multiple: int, groups: int) -> Sequence[int]:
    """As many as there is time for, the narrowest and a middle one first."""
    widths = widths_of(group.size, multiple)
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


def narrow(
    groups: Groups, order: Mapping[str, Array], table: Table, share: float, most: float,
    measure: Callable[[Keep], float], tell: Tell,
) -> Keep:  # fmt: skip
    """Cut until the network takes no more than `most` of the whole one's time, by measurement.

    Args:
        share: of the whole network's time that it takes as it is.
        measure: the same of a network of which these units are kept.

    GateFailed where the narrowest network takes more; with the best that was found.
    """
    widths = {group.name: group.size for group in groups.groups}
    reached, goal, best, estimated = share, most, share, share
    for _ in range(MOST_CORRECTIONS):
        if reached <= most:
            break
        before = dict(widths)
        while (estimated > goal or widths == before) and (step := cheapest(widths, table)) is not None:
            name, width = step
            estimated -= table.saved[name][width] - table.saved[name].get(widths[name], 0.0)
            widths[name] = width
        if widths == before:
            break
        reached = measure(keep_widths(groups, order, widths))
        best = min(best, reached)
        tell(f"{1 / most:.2f} × as fast: at {1 / reached:.2f} ×")
        goal = estimated - (reached - most)
    if reached > most:
        raise GateFailed(
            f"{1 / most:.2f} × as fast cannot be met",
            f"the best found is {1 / best:.2f} ×",
            "ask for less, or for a smaller --multiple",
        )
    return keep_widths(groups, order, give_back(groups, order, widths, table, most, measure))


def give_back(
    groups: Groups, order: Mapping[str, Array], widths: Mapping[str, int], table: Table, most: float,
    measure: Callable[[Keep], float],
) -> dict[str, int]:  # fmt: skip
    """The widths, with every step undone that the budget does not need: those that lost most are tried first."""
    found = dict(widths)
    sizes = {group.name: group.size for group in groups.groups}
    needed: set[str] = set()
    for _ in range(MOST_GIVEN):
        wider = {
            name: min(width for width in (*table.loss[name], sizes[name]) if width > found[name])
            for name in table.loss
            if found[name] < sizes[name] and name not in needed
        }
        if not wider:
            break
        gains = {
            name: table.loss[name][found[name]] - table.loss[name].get(width, 0.0) for name, width in wider.items()
        }
        name = max(gains, key=lambda one: gains[one])
        if measure(keep_widths(groups, order, {**found, name: wider[name]})) <= most:
            found[name] = wider[name]
        else:
            needed.add(name)
    return found


def cheapest(widths: Mapping[str, int], table: Table) -> tuple[str, int] | None:
    """The next step, of a group to a width, that loses least for what it saves."""
    best, found = float("inf"), None
    for name, losses in table.loss.items():
        now = widths[name]
        for width, loss in losses.items():
            saved = table.saved[name][width] - table.saved[name].get(now, 0.0)
            if width >= now or saved <= 0:
                continue
            price = (loss - losses.get(now, 0.0)) / saved
            if price < best:
                best, found = price, (name, width)
    return found
