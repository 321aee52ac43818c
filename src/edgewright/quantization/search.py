"""Which sites deserve better than the rest: the fewest whose better treatment makes the network good enough."""

from collections.abc import Callable, Mapping, Sequence
from math import erf, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewright.quantization.probe import OutputLoss

Array = NDArray[Any]


class FidelityTarget(NamedTuple):
    """What is good enough on samples that took no part in the fitting."""

    sqnr_db: float
    flips: float


class Fidelity(NamedTuple):
    """A quantised network against its source on those samples.

    Attributes:
        loss: as measured.
        flips: the share of inputs whose class is expected to change, from the margins between the two best classes and
            the noise on their difference; None where the output is no list of classes.
    """

    loss: OutputLoss
    flips: float | None

    def meets(self, target: FidelityTarget) -> bool:
        return self.loss.sqnr_db >= target.sqnr_db and (self.flips is None or self.flips <= target.flips)


def estimate_flips(exact: Sequence[Array], given: Sequence[Array]) -> float | None:
    """Mean over samples of the chance that noise on the two best classes turns their order.

    The noise is taken for normal, with the power seen on all samples: smoother than counting, on few samples.
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
    """The shortest front of the sites, ordered by harm for price, whose better treatment meets the aim.

    Args:
        harms: noise that each site puts on the output.
        prices: what treating it better costs, in time or bytes.
        judge: what the network is worth when these sites are treated better.
        most_share: of the sites; a network that needs more is not helped by this.

    With the judgement of it. Where not even the longest front meets the aim, the best one found.
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
