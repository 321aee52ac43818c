"""Values of a float network's tensors on calibration samples."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from edgewright.quantization.executor import open_session
from edgewright.quantization.network import FloatNetwork
from edgewright.schema.arrays import Array

MAX_VALUES = 16 << 20  # total for all tensors and samples: 64 MB
MAX_VALUES_PER_SAMPLE = 8192


class NotFinite(Exception):
    """The error that a tensor has NaN or infinite values.

    Args:
        tensor: its name.
        sample: index of the sample.
    """

    def __init__(self, tensor: str, sample: int) -> None:
        super().__init__(f"tensor '{tensor}' has NaN or infinite values on sample {sample}")
        self.tensor, self.sample = tensor, sample


class TensorValues(NamedTuple):
    """Minimum and maximum of a tensor over all samples, and some of its values, drawn evenly from each sample."""

    low: float
    high: float
    some: Array


def observe(
    network: FloatNetwork, tensors: Sequence[str], samples: Sequence[Any], progress: Callable[[int, int], None]
) -> dict[str, TensorValues]:
    """Return the values of each tensor; `progress` gets the number of samples done and in total. Raises NotFinite."""
    session = open_session(_with_outputs(network, tensors))
    each = max(64, min(MAX_VALUES_PER_SAMPLE, MAX_VALUES // max(1, len(tensors) * len(samples))))
    low, high = dict.fromkeys(tensors, np.inf), dict.fromkeys(tensors, -np.inf)
    some: dict[str, list[Array]] = {name: [] for name in tensors}
    computed = [name for name in tensors if name not in network.inputs]
    for position, feeds in enumerate(samples):
        given = {**feeds, **dict(zip(computed, session.run(computed, dict(feeds)), strict=True))}
        for name in tensors:
            flat = np.asarray(given[name], np.float32).reshape(-1)
            least, most = float(flat.min(initial=np.inf)), float(flat.max(initial=-np.inf))
            if not np.isfinite(least + most) and flat.size:
                raise NotFinite(name, position)
            low[name], high[name] = min(low[name], least), max(high[name], most)
            step = max(1, flat.size // each)
            some[name].append(flat[position % step :: step][:each].copy())
        progress(position + 1, len(samples))
    return {name: TensorValues(low[name], high[name], np.concatenate(some[name])) for name in tensors}


def _with_outputs(network: FloatNetwork, tensors: Sequence[str]) -> bytes:
    """Return the serialized model with these tensors as additional outputs."""
    import onnx

    model = network.graph.to_message()
    there = {value.name for value in model.graph.output} | set(network.inputs)
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, network.types.get(name, 1), None)
        for name in tensors
        if name not in there
    )
    data: bytes = model.SerializeToString()
    return data
