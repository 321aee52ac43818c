"""Search for the fewest weight nodes whose higher precision meets the fidelity target."""

from collections.abc import Callable, Mapping, Sequence
from math import erf, sqrt
from typing import NamedTuple

import numpy as np

from edgewright.quantization.probe import OutputLoss
from edgewright.schema.arrays import Array


class FidelityTarget(NamedTuple):
    """Required fidelity on samples that were not used for fitting."""

    sqnr_db: float
    flips: float


class Fidelity(NamedTuple):
    """Fidelity of a quantized network to its source on those samples.

    Attributes:
        loss: as measured.
        flips: expected share of inputs whose class changes, from the margins between the two best classes and the noise
            of their difference; None if the output is not a list of classes.
    """

    loss: OutputLoss
    flips: float | None

    def meets(self, target: FidelityTarget) -> bool:
        return self.loss.sqnr_db >= target.sqnr_db and (self.flips is None or self.flips <= target.flips)


def estimate_flips(exact: Sequence[Array], given: Sequence[Array]) -> float | None:
    """Return the mean probability that noise swaps the two best classes of a sample.

    The noise is modeled as normal with its power over all samples. On few samples this is smoother than counting.
    """
    a = np.stack([np.asarray(one, np.float64) for one in exact])
    if a.shape[-1] < 2 or a.size != len(a) * a.shape[-1]:
        return None
    a, b = a.reshape(len(a), -1), np.stack([np.asarray(one, np.float64).reshape(-1) for one in given])
    rows = np.arange(len(a))
    second, first = np.argsort(a, axis=1)[:, -2:].T
    margins = a[rows, first] - a[rows, second]
    shifts = (b[rows, first] - b[rows, second]) - margins
    spread = float(np.sqrt(np.mean(shifts**2)))
    if spread == 0.0:
        return 0.0
    return float(np.mean([0.5 * (1 - erf(margin / (spread * sqrt(2)))) for margin in margins]))


def search_upgrades(
    noise_by_node: Mapping[str, float],
    cost_by_node: Mapping[str, float],
    evaluate: Callable[[Sequence[str]], Fidelity],
    target: FidelityTarget,
    most_share: float,
) -> tuple[list[str], Fidelity]:
    """Return the shortest prefix of nodes, sorted by noise per cost, whose upgrade meets the target, and its fidelity.

    Args:
        noise_by_node: noise that each node causes in the output.
        cost_by_node: cost of its upgrade, in time or bytes.
        evaluate: returns the fidelity of the network with these nodes upgraded.
        most_share: maximum share of the nodes to upgrade.

    If no prefix meets the target, the best one is returned.
    """
    order = sorted(noise_by_node, key=lambda name: noise_by_node[name] / max(cost_by_node[name], 1e-9), reverse=True)
    most = max(1, int(len(order) * most_share))
    low, high = 0, 1
    tried: dict[int, Fidelity] = {}
    while True:
        tried[high] = evaluate(order[:high])
        if tried[high].meets(target) or high == most:
            break
        low, high = high, min(2 * high, most)
    if not tried[high].meets(target):
        best = min(tried, key=lambda count: tried[count].loss.noise)
        return order[:best], tried[best]
    while high - low > 1:
        middle = (low + high) // 2
        tried[middle] = evaluate(order[:middle])
        low, high = (low, middle) if tried[middle].meets(target) else (middle, high)
    return order[:high], tried[high]
