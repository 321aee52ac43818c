"""`place`: which unit of a device runs which operator."""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from msgspec import Struct

from edgewright.errors import DataError
from edgewright.placement.costs import read_costs
from edgewright.placement.problem import Problem, make_problem, place_greedily
from edgewright.placement.solve import find_placement
from edgewright.system.files import read_regular

LARGEST_FILE = 500_000_000


class Crossing(Struct, frozen=True, kw_only=True, rename={"source": "from", "target": "to"}):
    """A tensor that moves from one unit to another."""

    node: str
    source: str
    target: str
    ms: float


class PlacementReport(Struct, frozen=True, kw_only=True):
    """The best assignment (edgewright.place/1); what is not possible is None.

    Attributes:
        bound_ms: no assignment is faster. optimal: whether this one is as fast.
        crossings: number of tensors that change their unit; `transfers` lists them.
        greedy_ms: with the cheapest unit for one operator after the other, as a delegate places them.
        single: with all operators on one unit.
    """

    schema: str = "edgewright.place/1"
    total_ms: float
    optimal: bool
    bound_ms: float
    gap: float
    assignment: dict[str, str]
    crossings: int
    transfers: tuple[Crossing, ...]
    greedy_ms: float | None
    single: dict[str, float | None]
    answer: str


def place_operators(
    profile: Path, units: Sequence[str] = (), *, prove: bool = False, seconds: float = 60.0
) -> PlacementReport:
    """Return the best placement of a profile's operators. Raises DataError, LimitReached or RuntimeMissing."""
    try:
        content = read_regular(profile, LARGEST_FILE)
    except OSError as error:
        raise DataError(f"{profile} cannot be read", error.strerror or str(error), "check the path") from None
    problem = make_problem(read_costs(content, str(profile)), units)
    found = find_placement(problem, prove=prove, seconds=seconds)
    greedy = place_greedily(problem)
    single = {
        name: _round(problem.compute_total([unit] * len(problem.nodes))) for unit, name in enumerate(problem.units)
    }
    return PlacementReport(
        total_ms=round(found.total_ms, 6),
        optimal=found.is_optimal,
        bound_ms=round(found.total_ms if found.is_optimal else found.bound_ms, 6),
        gap=0.0 if found.is_optimal else (found.total_ms - found.bound_ms) / found.total_ms,
        assignment={name: problem.units[unit] for name, unit in zip(problem.nodes, found.placed, strict=True)},
        crossings=len(problem.list_crossings(found.placed)),
        transfers=_list_transfers(problem, found.placed),
        greedy_ms=None if greedy is None else _round(problem.compute_total(greedy)),
        single=single,
        answer=_answer(found.total_ms, found.is_optimal, single),
    )


def _list_transfers(problem: Problem, placed: Sequence[int]) -> tuple[Crossing, ...]:
    return tuple(
        Crossing(node=problem.nodes[one.source], source=problem.units[a], target=problem.units[b], ms=round(ms, 6))
        for one, a, b, ms in problem.list_crossings(placed)
    )


def _round(value: float) -> float | None:
    return round(value, 6) if isfinite(value) else None


def _answer(total: float, is_optimal: bool, single: dict[str, float | None]) -> str:
    known = {name: value for name, value in single.items() if value}
    best = min(known, key=lambda name: known[name], default=None)
    beside = f", {known[best] / total:.2f} times as fast as {best} alone" if best and total else ""
    return f"{total:g} ms{beside}; {'proven to be the optimum' if is_optimal else 'not proven to be the optimum'}."
