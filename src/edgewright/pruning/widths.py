"""Search for the number of units that each group keeps to meet every budget at the least loss.

The next step is the one with the least loss per saving of the budgets that are still exceeded. Savings of single groups
are known, but do not add up (two groups share a convolution between them). So the whole network is measured again, and
steps continue until it meets every budget. If the sum of single savings is much less than that of the whole network
(timings have the same error in every group), it is scaled and the search restarts. Finally, steps that no budget
requires are undone.
"""

from collections.abc import Callable, Mapping, Sequence
from math import ceil, gcd
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgewright.errors import GateFailed
from edgewright.formats.macs import count_macs
from edgewright.formats.neighbors import find_producers
from edgewright.formats.typed_graph import TypedGraph
from edgewright.pruning.graph_pruner import mark_kept_units
from edgewright.pruning.groups import PruningGroup, PruningGroups
from edgewright.pruning.importance import UnitScores

KeptUnits = dict[str, NDArray[np.int64]]
WidthTable = Mapping[str, Mapping[int, float]]  # by group and width
MIN_KEPT_SHARE = 0.125  # minimum share of a group's units
MAX_CORRECTIONS = 30
MAX_UNDO_ATTEMPTS = 24  # number of steps that are tried to undo
UNDERESTIMATE_RATIO, MAX_RESCALES = (
    1.15,
    3,
)  # measured / estimated saving that causes a rescale; maximum number of rescales


class PruningBudget(NamedTuple):
    """A limit of the pruned network.

    Attributes:
        now: amount of the original network.
        most: maximum amount.
        target: target of the search: `most`, or slightly less for a noisy measure.
        saved: saving of each width of each group alone.
        measure: returns the amount of the network with only these units.
        words: formats an amount.
    """

    now: float
    most: float
    target: float
    saved: WidthTable
    measure: Callable[[KeptUnits], float]
    words: Callable[[float], str]


def list_widths(group: PruningGroup, multiple: int) -> tuple[int, ...]:
    """Return the smaller widths of a group, widest first, in multiples of `multiple` channels (heads count by their
    channels), or less for narrow groups."""
    channels = next((member.indices.shape[1] for member in group.members if member.role == "out"), 1)
    step = multiple // gcd(multiple, channels)
    while step > 1 and group.size < 2 * step:
        step //= 2
    least = max(step, ceil(MIN_KEPT_SHARE * group.size / step) * step)
    return tuple(range((group.size - 1) // step * step, least - 1, -step)) if group.size > 1 else ()


def select_units(groups: PruningGroups, scores: UnitScores, widths: Mapping[str, int]) -> KeptUnits:
    """Return the units with the highest scores, for groups that lose some."""
    return {
        group.name: np.sort(np.argsort(scores[group.name], kind="stable")[group.size - widths[group.name] :])
        for group in groups.groups
        if widths.get(group.name, group.size) < group.size
    }


def tabulate_losses(free: Sequence[PruningGroup], scores: UnitScores, multiple: int) -> dict[str, dict[int, float]]:
    """Return the loss by width: the removed scores times the whole group's scores over the kept ones."""
    table = {}
    for group in free:
        sums = np.cumsum(np.sort(scores[group.name]))
        total = float(sums[-1])
        table[group.name] = {
            width: lost * total / (total - lost) if total > (lost := float(sums[group.size - width - 1])) else lost
            for width in list_widths(group, multiple)
        }
    return table


class BudgetState:
    """State of one budget: estimated and last measured amount."""

    def __init__(self, budget: PruningBudget) -> None:
        self.budget = budget
        self.length = budget.now - budget.target
        self.best = budget.now
        self._scale = 1.0
        self.restart()

    def restart(self) -> None:
        """Restart from the original network."""
        self.reached = self.estimated = self.budget.now
        self.goal = self.budget.target

    def saved(self, name: str, width: int) -> float:
        """Return the current estimate of the saving by that width of the group alone."""
        return self._scale * self.budget.saved[name].get(width, 0.0)

    def measure(self, keep: KeptUnits) -> None:
        """Measure the network and correct the estimate by its error."""
        self.reached = self.budget.measure(keep)
        self.best = min(self.best, self.reached)
        self.goal = self.estimated - (self.reached - self.budget.target)

    def rescale(self) -> bool:
        """Scale the estimates if they are much too low. Return whether they were scaled."""
        reckoned = self.budget.now - self.estimated
        times = (self.budget.now - self.reached) / reckoned if reckoned > 0 else 1.0
        if times > UNDERESTIMATE_RATIO:
            self._scale *= times
        return times > UNDERESTIMATE_RATIO


def search_widths(
    groups: PruningGroups,
    scores: UnitScores,
    losses: WidthTable,
    budgets: Sequence[PruningBudget],
    progress: Callable[[str], Any],
) -> KeptUnits:
    """Return the kept units by group; groups that lose none are absent.

    Args:
        losses: of the groups that may be pruned, from `tabulate_losses`.
        budgets: sorted by cost of measuring, cheapest first.

    Raises GateFailed, with the best result, if the narrowest network exceeds a budget.
    """
    widths = {group.name: group.size for group in groups.groups}
    states = [BudgetState(budget) for budget in budgets if budget.now > budget.target]
    scaled = 0
    for _ in range(MAX_CORRECTIONS):
        if not any(state.reached > state.budget.target for state in states):
            break
        if not _reduce_widths(widths, losses, states):
            break
        keep = select_units(groups, scores, widths)
        for state in states:
            state.measure(keep)
        progress(
            "; ".join(
                f"at {state.budget.words(state.reached)} of {state.budget.words(state.budget.most)}" for state in states
            )
        )
        if scaled < MAX_RESCALES and sum(state.rescale() for state in states):
            scaled += 1
            widths = {group.name: group.size for group in groups.groups}
            for state in states:
                state.restart()
    for state in states:
        if state.reached > state.budget.most:
            raise GateFailed(
                f"{state.budget.words(state.budget.most)} cannot be met",
                f"the best found is {state.budget.words(state.best)}",
                "relax the limit, give a smaller --multiple, or start from a smaller model",
            )
    return select_units(groups, scores, _undo_unneeded_steps(groups, scores, widths, losses, budgets))


def _reduce_widths(widths: dict[str, int], losses: WidthTable, states: Sequence[BudgetState]) -> bool:
    """Reduce `widths` until all estimates meet their targets. Return whether there was a step."""
    over = [state for state in states if state.estimated > state.goal]
    steps = {name: find_best_step(name, widths, losses, over) for name in losses}
    moved = False
    while over and steps and (width := steps[name := min(steps, key=lambda one: steps[one][0])][1]):
        for state in states:
            state.estimated -= state.saved(name, width) - state.saved(name, widths[name])
        widths[name], moved = width, True
        still = [state for state in over if state.estimated > state.goal]
        changed = steps if len(still) < len(over) else (name,)
        over = still
        steps |= {one: find_best_step(one, widths, losses, over) for one in changed}
    return moved


def find_best_step(
    name: str, widths: Mapping[str, int], losses: WidthTable, over: Sequence[BudgetState]
) -> tuple[float, int]:
    """Return loss per saving and width of a group's best step; infinity and 0 if no step saves anything."""
    now, own = widths[name], losses[name]
    best = float("inf"), 0
    for width, loss in own.items():
        if width >= now:
            continue
        saved = sum((state.saved(name, width) - state.saved(name, now)) / state.length for state in over)
        if saved > 0 and (price := (loss - own.get(now, 0.0)) / saved) < best[0]:
            best = price, width
    return best


def _undo_unneeded_steps(
    groups: PruningGroups,
    scores: UnitScores,
    widths: Mapping[str, int],
    losses: WidthTable,
    budgets: Sequence[PruningBudget],
) -> dict[str, int]:
    """Return the widths without steps that no budget requires; steps with the largest loss are tried first."""
    found = dict(widths)
    sizes = {group.name: group.size for group in groups.groups}
    needed: set[str] = set()
    for _ in range(MAX_UNDO_ATTEMPTS):
        wider = {
            name: min(width for width in (*losses[name], sizes[name]) if width > found[name])
            for name in losses
            if found[name] < sizes[name] and name not in needed
        }
        if not wider:
            break
        gains = {name: losses[name][found[name]] - losses[name].get(width, 0.0) for name, width in wider.items()}
        name = max(gains, key=lambda one: gains[one])
        keep = select_units(groups, scores, {**found, name: wider[name]})
        if all(budget.measure(keep) <= budget.target for budget in budgets):
            found[name] = wider[name]
        else:
            needed.add(name)
    return found


# Exact cost of a choice without pruning the graph


def shrink_graph(graph: TypedGraph, groups: PruningGroups, keep: Mapping[str, NDArray[np.int64]]) -> TypedGraph:
    """Return the typed graph of the pruned model, for `formats.costs.measure_costs`."""
    kept_mask = mark_kept_units(groups, keep)
    tensors = dict(graph.tensors)
    for name, axes in groups.units.items():
        if name in tensors:
            shape = tuple(int(kept_mask[axis].sum()) for axis in axes)
            tensors[name] = msgspec.structs.replace(tensors[name], shape=shape)
    return msgspec.structs.replace(graph, tensors=tensors)


def sum_macs(graph: TypedGraph) -> float:
    """Return the multiply-accumulates; nodes with unknown sizes count 0."""
    return float(sum(count_macs(graph, node) or 0 for node in graph.computing()))


def sum_constant_bytes(graph: TypedGraph) -> float:
    """Return the bytes of all stored constants."""
    return float(sum(kind.bytes() or 0 for kind in graph.tensors.values() if kind.stored))


def sum_folded_bytes(graph: TypedGraph) -> float:
    """Return `sum_constant_bytes` after batch normalizations are folded into the convolutions before them, as torch's
    exporter does: only a bias of each remains."""
    producers = find_producers(graph.nodes)
    gone: set[str] = set()
    for node in graph.nodes:
        producer = producers.get(node.inputs[0]) if node.op == "BatchNormalization" else None
        if producer is not None and producer.op in ("Conv", "ConvTranspose"):
            gone.update((node.inputs[1], *node.inputs[3:5], *producer.inputs[2:3]))
    return sum_constant_bytes(graph) - sum(
        graph.tensors[name].bytes() or 0 for name in gone if graph.tensors[name].stored
    )


def measure_gain_per_unit(
    graph: TypedGraph, groups: PruningGroups, total: Callable[[TypedGraph], float]
) -> dict[str, float]:
    """Return the average saving per unit by group, for removing half of its units."""
    whole = total(graph)
    gains = {}
    for group in groups.groups:
        half = np.arange(group.size - group.size // 2)
        gains[group.name] = (whole - total(shrink_graph(graph, groups, {group.name: half}))) / (group.size // 2)
    return gains
