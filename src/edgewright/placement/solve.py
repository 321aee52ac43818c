"""The best assignment of operators to units, with a proof or a bound.

The time of a sequential run is the sum of the operators' times and of the tensors' moves. It is a linear program over
the local polytope: a variable for each node and unit, and one for each pair of units of an edge. Its optimum is a lower
bound; if it is integral, it is the answer. Otherwise some nodes are decided by branch and bound (HiGHS).
"""

import os
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from edgewright.errors import DataError, LimitReached, RuntimeMissing
from edgewright.placement.problem import Floats, Problem, Transfer

TOLERANCE = 1e-6
NEIGHBORHOOD = 3  # nodes that are farther from a fractional one keep their unit
GAP = 1e-9


@dataclass
class _Program:
    """Rows and columns of the linear program; the first columns are node × unit."""

    cost: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    start: list[int] = field(default_factory=lambda: [0])
    index: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)

    def add_columns(self, costs: Iterable[float]) -> int:
        """Add columns of 0 to 1; a cost of inf fixes one at 0. Return the number of the first."""
        first = len(self.cost)
        for one in costs:
            self.cost.append(one if one < float("inf") else 0.0)
            self.upper.append(1.0 if one < float("inf") else 0.0)
        return first

    def add_row(self, terms: Collection[tuple[int, float]], low: float, high: float) -> None:
        self.index += [column for column, _ in terms]
        self.value += [factor for _, factor in terms]
        self.start.append(len(self.index))
        self.low.append(low)
        self.high.append(high)


@dataclass(frozen=True)
class FoundPlacement:
    """The best assignment that was found, and what is known about better ones.

    Attributes:
        bound_ms: no assignment is faster.
        is_optimal: whether that is the assignment's own time.
    """

    placed: tuple[int, ...]
    total_ms: float
    bound_ms: float

    @property
    def is_optimal(self) -> bool:
        return self.total_ms - self.bound_ms <= TOLERANCE * max(1.0, self.total_ms)


def find_placement(problem: Problem, *, prove: bool = False, seconds: float = 60.0) -> FoundPlacement:
    """Return the assignment with the smallest sum of times.

    Args:
        prove: with memory limits, search until the optimum is proven; otherwise a gap may be left, see `bound_ms`.
        seconds: limit for each of at most three searches.

    Raises:
        DataError: no assignment is possible.
        LimitReached: none was found in time.
        RuntimeMissing: HiGHS is not installed.
    """
    _check_nodes(problem)
    program = _make_program(problem)
    shares, bound = _solve(program, problem, seconds)
    if shares is None:
        raise _make_error(problem)
    if _is_integral(shares):
        return _finish(problem, shares, bound)
    found = (
        None if prove or not np.isfinite(problem.limits).any() else _search_nearby(program, problem, shares, seconds)
    )
    if found is not None:
        return _finish(problem, found, bound)
    shares, better = _solve(program, problem, seconds, integral=True)
    if shares is None:
        raise _make_error(problem)
    return _finish(problem, shares, max(bound, better))


def _finish(problem: Problem, shares: Floats, bound: float) -> FoundPlacement:
    placed = tuple(int(one) for one in shares.argmax(axis=1))
    total = problem.compute_total(placed)
    return FoundPlacement(placed, total, min(bound, total))


def _is_integral(shares: Floats) -> bool:
    return bool((shares.max(axis=1) > 1 - TOLERANCE).all())


def _check_nodes(problem: Problem) -> None:
    for number, name in enumerate(problem.nodes):
        if not np.isfinite(problem.ms[number]).any():
            units = ", ".join(problem.units)
            raise DataError(f"no unit supports {name}", f"the units are {units}", "add a unit that supports it")


def _make_error(problem: Problem) -> DataError:
    limited = [name for name, one in zip(problem.units, problem.limits, strict=True) if np.isfinite(one)]
    why = "each one needs a link that is missing"
    if limited:
        why += f", or more memory than {', '.join(limited)} has"
    return DataError("no assignment is possible", why, "add a link, a unit, or memory")


def _make_program(problem: Problem) -> _Program:
    program, units = _Program(), range(len(problem.units))
    program.add_columns(problem.ms.ravel())
    for node in range(len(problem.nodes)):
        program.add_row([(_column(problem, node, unit), 1.0) for unit in units], 1.0, 1.0)
    for one in problem.transfers:
        _add_transfer(program, problem, one)
    for unit in units:
        if np.isfinite(problem.limits[unit]):
            terms = [(_column(problem, node, unit), float(one)) for node, one in enumerate(problem.memory) if one]
            program.add_row(terms, 0.0, float(problem.limits[unit]))
    return program


def _column(problem: Problem, node: int, unit: int) -> int:
    return node * len(problem.units) + unit


def _add_transfer(program: _Program, problem: Problem, one: Transfer) -> None:
    """Add the pairs of units of each reader. Several readers share the cost of a move: it is paid once per unit."""
    count = len(problem.units)
    pairs = list(product(range(count), repeat=2))
    is_shared = len(one.targets) > 1
    moves = program.add_columns(one.ms.ravel()) if is_shared else 0
    for target in one.targets:
        costs = np.where(np.isfinite(one.ms), 0.0, np.inf) if is_shared else one.ms
        first = program.add_columns(costs.ravel())
        for unit in range(count):
            sent = [(first + unit * count + other, 1.0) for other in range(count)]
            program.add_row([*sent, (_column(problem, one.source, unit), -1.0)], 0.0, 0.0)
            got = [(first + other * count + unit, 1.0) for other in range(count)]
            program.add_row([*got, (_column(problem, target, unit), -1.0)], 0.0, 0.0)
        if is_shared:
            for number, (source, unit) in enumerate(pairs):
                if source != unit and np.isfinite(one.ms[source, unit]):
                    program.add_row([(moves + number, 1.0), (first + number, -1.0)], 0.0, float("inf"))


def _search_nearby(program: _Program, problem: Problem, shares: Floats, seconds: float) -> Floats | None:
    """Return the best assignment in which nodes far from a fractional one keep their unit; None if there is none."""
    near = set(np.flatnonzero(shares.max(axis=1) <= 1 - TOLERANCE).tolist())
    for _ in range(NEIGHBORHOOD):
        touched = [{one.source, *one.targets} for one in problem.transfers]
        near |= {node for nodes in touched if nodes & near for node in nodes}
    fixed = {node: int(shares[node].argmax()) for node in range(len(problem.nodes)) if node not in near}
    return _solve(program, problem, seconds, integral=True, fixed=fixed)[0]


def _solve(
    program: _Program,
    problem: Problem,
    seconds: float,
    *,
    integral: bool = False,
    fixed: dict[int, int] | None = None,
) -> tuple[Floats | None, float]:
    """Return the shares [node, unit] and the lower bound; None if no assignment is possible."""
    highspy = _import_highs()
    upper, lower = np.array(program.upper), np.zeros(len(program.upper))
    for node, unit in (fixed or {}).items():
        lower[_column(problem, node, unit)] = 1.0
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(upper), len(program.low)
    model.col_cost_, model.col_lower_, model.col_upper_ = np.array(program.cost), lower, upper
    model.row_lower_, model.row_upper_ = np.array(program.low), np.array(program.high)
    matrix = model.a_matrix_
    matrix.format_ = highspy.MatrixFormat.kRowwise
    matrix.start_, matrix.index_ = np.array(program.start, np.int32), np.array(program.index, np.int32)
    matrix.value_ = np.array(program.value)
    chosen = problem.ms.size
    if integral:
        kinds = highspy.HighsVarType
        model.integrality_ = [kinds.kInteger] * chosen + [kinds.kContinuous] * (len(upper) - chosen)
    with _hide_output():  # it prints its name and license when it is made, whatever its options say
        solver = highspy.Highs()
    solver.silent()
    for name, value in (("threads", 1), ("time_limit", seconds), ("mip_rel_gap", GAP)):
        solver.setOptionValue(name, value)
    solver.passModel(model)
    solver.run()
    return _read_solution(highspy, solver, problem, integral=integral)


def _read_solution(highspy: Any, solver: Any, problem: Problem, *, integral: bool) -> tuple[Floats | None, float]:
    status, facts = solver.getModelStatus(), solver.getInfo()
    known = highspy.HighsModelStatus
    if status == known.kInfeasible:
        return None, float("inf")
    shares = np.array(solver.getSolution().col_value)[: problem.ms.size].reshape(problem.ms.shape)
    if status == known.kOptimal:
        return shares, facts.mip_dual_bound if integral else facts.objective_function_value
    if integral and np.isfinite(facts.mip_dual_bound) and facts.primal_solution_status == 2:
        return shares, facts.mip_dual_bound
    why = f"the search ended with: {solver.modelStatusToString(status)}"
    raise LimitReached("no assignment was found in time", why, "allow more time: --seconds 600")


@contextmanager
def _hide_output() -> Iterator[None]:
    """Send what native code prints nowhere, so that the answer stands alone on stdout."""
    sys.stdout.flush()
    saved, null_device = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null_device, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(null_device)


def _import_highs() -> Any:
    try:
        import highspy
    except ImportError:
        what = "HiGHS is not installed"
        raise RuntimeMissing(what, "it solves the placement", "pip install 'edgewright[place]'") from None
    return highspy
