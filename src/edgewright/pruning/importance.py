"""Importance of units, from weights or gradients."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import UsageError
from edgewright.pruning.groups import GroupMember, PruningGroup, PruningGroups
from edgewright.schema.arrays import Array
from edgewright.schema.vocabulary import GRADIENT_CRITERIA, ImportanceCriterion

UnitScores = dict[str, NDArray[np.float64]]  # by group [size], not negative


def _mean_absolute(table: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.abs(table).mean(-1)
    return result


def _root_mean_square(table: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.sqrt(np.square(table).mean(-1))
    return result


# By criterion that depends on values: those of each unit [size, n] → [size].
REDUCTIONS: dict[ImportanceCriterion, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "l1": _mean_absolute,
    "l2": _root_mean_square,
    "bn-gamma": _root_mean_square,
    "taylor": _mean_absolute,  # its values are squared already
}


def score_units(groups: PruningGroups, arrays: Mapping[str, Array], method: ImportanceCriterion) -> UnitScores:
    """Return the importance of each unit, by group.

    Args:
        arrays: by name of an initializer (or of its parameter): its values for `l1` (mean of absolute values), `l2`
            (root of the mean square) and `bn-gamma` (scale of batch normalization, Liu et al. 2017,
            https://arxiv.org/abs/1708.06519); for `taylor` the square of weight × gradient (Molchanov et al. 2019,
            https://arxiv.org/abs/1906.10771). Members without values are ignored.
        method: each computes the unit's share of a tensor, summed over the weights that produce and read the units and
            the scales between (`taylor`: all parameters). A layer's whole width has the sum 1, so that a group of many
            layers is more important. `bn-gamma` uses `l2` for groups without scales. `latency` ignores the values: all
            units of a group are equal.

    Raises:
        UsageError: a group has no values, or no group has a scale.
    """
    if method == "latency":
        return {group.name: np.full(group.size, 1 / group.size) for group in groups.groups}
    if method == "bn-gamma" and not any(member.role == "scale" for group in groups.groups for member in group.members):
        why = "its batch normalizations are folded into the weights, or it has none"
        raise UsageError(
            "--importance bn-gamma: the model has no batch normalization scales", why, "use --importance l2"
        )
    return {group.name: _score_group(group, arrays, method) for group in groups.groups}


def _score_group(group: PruningGroup, arrays: Mapping[str, Array], method: ImportanceCriterion) -> NDArray[np.float64]:
    members = [member for member in group.members if member.tensor in arrays]
    gains = [member for member in members if member.role == "scale"]
    weights = [member for member in members if member.role or method in GRADIENT_CRITERIA]
    chosen = gains if method == "bn-gamma" and gains else weights
    if not chosen:
        raise UsageError(f"'{group.name}' cannot be scored", f"the importance '{method}' has no values for its weights")
    reduce = REDUCTIONS[method]
    total: NDArray[np.float64] = np.sum(
        [_normalize_scores(reduce(_collect_unit_values(one, arrays[one.tensor]))) for one in chosen], 0
    )
    return total


def _collect_unit_values(member: GroupMember, array: Array) -> NDArray[np.float64]:
    """Return all values of each unit, [size, n]."""
    moved = np.moveaxis(np.asarray(array, np.float64), member.axis, 0)[member.indices]
    return moved.reshape(len(member.indices), -1)


def _normalize_scores(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    total = scores.sum()
    return scores / total if total else np.full(scores.shape, 1 / scores.size)
