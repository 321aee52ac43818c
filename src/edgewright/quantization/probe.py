"""What a change at one place of a network costs at its end: the rest of the network runs on the changed tensor."""

from collections.abc import Sequence
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewright.quantization.executor import IncrementalExecutor

Array = NDArray[Any]
EXACT_DB = 200.0


class OutputLoss(NamedTuple):
    """Of the outputs against the float network's, over all samples.

    Attributes:
        noise: mean power of the difference over mean power of the output.
        flips: share of the samples whose largest entry of the first output is another one.
    """

    noise: float
    flips: float

    @property
    def sqnr_db(self) -> float:
        if not isfinite(self.noise):
            return -EXACT_DB
        return EXACT_DB if self.noise <= 0 else min(EXACT_DB, -10 * float(np.log10(self.noise)))


def compare(exact: Sequence[Array], given: Sequence[Array]) -> OutputLoss:
    """Outputs [samples][…] side by side."""
    a = np.stack([np.asarray(one, np.float64).reshape(-1) for one in exact])
    b = np.stack([np.asarray(one, np.float64).reshape(-1) for one in given])
    power = float(np.mean(a**2))
    noise = float(np.mean((a - b) ** 2)) / power if power else float(np.any(a != b))
    return OutputLoss(noise, float(np.mean(a.argmax(axis=1) != b.argmax(axis=1))))


class Probe:
    """Walks a float network and tries changes of single tensors on the way.

    Args:
        walk: on the samples that the changes are judged by; the network's output is among what it shall keep.
        output: the tensor to judge by.
    """

    def __init__(self, executor: IncrementalExecutor, output: str, exact: Sequence[Array]) -> None:
        self.executor, self._output, self._exact = executor, output, exact

    def try_changes(self, tensor: str, changes: Sequence[Sequence[Array]]) -> list[OutputLoss]:
        """What the outputs lose when `tensor` is each of the given ones [samples] instead; it must be reached."""
        run = self.executor.make_remaining(self._output)
        losses = []
        for change in changes:
            outputs = [run({**live, tensor: other}) for live, other in zip(self.executor.live, change, strict=True)]
            losses.append(compare(self._exact, outputs))
        return losses
