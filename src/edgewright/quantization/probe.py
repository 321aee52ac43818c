"""Loss at the network's outputs that a change of one tensor causes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edgewright.formats.onnx.attributes import read_attribute
from edgewright.quantization.executor import IncrementalExecutor
from edgewright.quantization.network import FloatNetwork
from edgewright.schema.arrays import Array
from edgewright.schema.metrics import compute_sqnr_db


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
        return compute_sqnr_db(1.0, self.noise)


def compare(exact: Sequence[Array], given: Sequence[Array]) -> OutputLoss:
    """Compare outputs [samples][…]."""
    a = np.stack([np.asarray(one, np.float64).reshape(-1) for one in exact])
    b = np.stack([np.asarray(one, np.float64).reshape(-1) for one in given])
    power = float(np.mean(a**2))
    noise = float(np.mean((a - b) ** 2)) / power if power else float(np.any(a != b))
    return OutputLoss(noise, float(np.mean(a.argmax(axis=1) != b.argmax(axis=1))))


class ComparedOutputs(NamedTuple):
    """The outputs of a network that are compared: all that are floats, each part of a Concat by itself.

    Large numbers would hide others: boxes in pixels the scores beside them.

    Attributes:
        names: of the outputs.
        cuts: for each, the axis and the ends of its parts; None for an output that is no Concat.
    """

    names: tuple[str, ...]
    cuts: tuple[tuple[int, list[int]] | None, ...]

    def compare(self, exact: Sequence[Sequence[Array]], given: Sequence[Sequence[Array]]) -> OutputLoss:
        """Compare [samples][outputs]: the mean noise of all parts, and the classes of the first output."""
        parts = [[self._split(one) for one in side] for side in (exact, given)]
        noises = [compare(a, b).noise for a, b in zip(*(zip(*side, strict=True) for side in parts), strict=True)]
        first = compare([one[0] for one in exact], [one[0] for one in given])
        return OutputLoss(float(np.mean(noises)), first.flips)

    def _split(self, outputs: Sequence[Array]) -> list[Array]:
        found: list[Array] = []
        for array, cut in zip(outputs, self.cuts, strict=True):
            found += [array] if cut is None else np.split(array, cut[1][:-1], axis=cut[0])
        return found


def find_compared_outputs(network: FloatNetwork) -> ComparedOutputs:
    names = tuple(filter(network.is_float, network.outputs)) or (network.outputs[0],)
    return ComparedOutputs(names, tuple(_find_cut(network, name) for name in names))


def _find_cut(network: FloatNetwork, name: str) -> tuple[int, list[int]] | None:
    """Return the parts of an output that a Concat writes, directly or before a Transpose."""
    node, order = network.producer.get(name), None
    if node is not None and node.op_type == "Transpose":
        rank = len(network.shapes.get(name, ()))
        order = list(read_attribute(node, "perm") or range(rank - 1, -1, -1))
        node = network.producer.get(node.input[0])
    if node is None or node.op_type != "Concat":
        return None
    axis = read_attribute(node, "axis", 0)
    sizes = [shape[axis] if (shape := network.shapes.get(one)) else 0 for one in node.input]
    if not all(sizes):
        return None
    place = axis if order is None else order.index(axis % len(order))
    return place, [int(end) for end in np.cumsum(sizes)]


class Probe:
    """Runs a float network incrementally and tries changes of single tensors.

    Args:
        executor: with the evaluation samples; the compared outputs must be among its wanted tensors.
        exact: the outputs without changes, [samples][outputs].
    """

    def __init__(
        self, executor: IncrementalExecutor, outputs: ComparedOutputs, exact: Sequence[Sequence[Array]]
    ) -> None:
        self.executor, self._outputs, self._exact = executor, outputs, exact

    def try_changes(self, tensor: str, changes: Sequence[Sequence[Array]]) -> list[OutputLoss]:
        """Return the loss of the outputs for each replacement [samples] of `tensor`, which must be computed already."""
        run = self.executor.make_remaining(self._outputs.names)
        losses = []
        for change in changes:
            outputs = [run({**live, tensor: other}) for live, other in zip(self.executor.live, change, strict=True)]
            losses.append(self._outputs.compare(self._exact, outputs))
        return losses
