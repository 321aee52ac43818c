"""Loss at the network's output that a change of one tensor causes."""

from collections.abc import Sequence
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewright.quantization.executor import IncrementalExecutor

Array = NDArray[Any]
EXACT_DB = 200.0


class OutputLoss(NamedTuple):
    """The difference of the outputs from the float network's, over all samples.

    Attributes:
        noise: mean power of the difference, relative to the mean power of the output.
        flips: share of the samples whose argmax of the first output changes.
    """

    noise: float
    flips: float

    @property
    def sqnr_db(self) -> float:
        if not isfinite(self.noise):
            return -EXACT_DB
        return EXACT_DB if self.noise <= 0 else min(EXACT_DB, -10 * float(np.log10(self.noise)))


def compare(exact: Sequence[Array], given: Sequence[Array]) -> OutputLoss:
    """Compare outputs [samples][…]."""
    a = np.stack([np.asarray(one, np.float64).reshape(-1) for one in exact])
    b = np.stack([np.asarray(one, np.float64).reshape(-1) for one in given])
    power = float(np.mean(a**2))
    noise = float(np.mean((a - b) ** 2)) / power if power else float(np.any(a != b))
    return OutputLoss(noise, float(np.mean(a.argmax(axis=1) != b.argmax(axis=1))))


class Probe:
    """Runs a float network incrementally and tries changes of single tensors.

    Args:
        executor: with the evaluation samples; the network's output must be among its wanted tensors.
        output: the tensor to compare.
    """

    def __init__(self, executor: IncrementalExecutor, output: str, exact: Sequence[Array]) -> None:
        self.executor, self._output, self._exact = executor, output, exact

    def try_changes(self, tensor: str, changes: Sequence[Sequence[Array]]) -> list[OutputLoss]:
        """Return the loss of the output for each replacement [samples] of `tensor`, which must be computed already."""
        run = self.executor.make_remaining(self._output)
        losses = []
        for change in changes:
            outputs = [run({**live, tensor: other}) for live, other in zip(self.executor.live, change, strict=True)]
            losses.append(compare(self._exact, outputs))
        return losses
