"""Unstructured magnitude pruning of an ONNX graph without training."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import UsageError
from edgewright.formats.onnx.attributes import OWN_DOMAINS, read_attributes
from edgewright.formats.onnx.constants import write_array
from edgewright.formats.onnx.editable import EditableGraph
from edgewright.formats.onnx.fold import SMALL
from edgewright.schema.arrays import Array

OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
FLOATS = (1, 10, 11)  # TensorProto.FLOAT, FLOAT16, DOUBLE


class SparseModel(NamedTuple):
    """A model with the number of zeros and of all weights by initializer."""

    model: Any
    zeros: dict[str, tuple[int, int]]


def _find_layer_weights(model: Any) -> dict[str, int]:
    """Return the axis of input channels by weight initializer."""
    held = {one.name: one for one in model.graph.initializer if one.data_type in FLOATS and len(one.dims) > 1}
    found = {}
    for node in model.graph.node:
        if node.op_type not in OPERATORS or node.domain not in OWN_DOMAINS:
            continue
        for place in (0, 1) if node.op_type == "MatMul" else (1,):
            tensor = held.get(node.input[place])
            if tensor is None or tensor.name in found:
                continue
            last = len(tensor.dims) - 1
            axis = {"Conv": 1, "ConvTranspose": 0, "MatMul": last - place}.get(node.op_type)
            found[tensor.name] = int(read_attributes(node).get("transB", 0)) if axis is None else axis
    return found


def sparsify_graph(
    model: Any, sparsity: float, *, scope: Literal["global", "layer"] = "global", pattern: str = ""
) -> SparseModel:
    """Return a copy of the model as an `onnx.ModelProto` whose smallest weights are zero.

    Args:
        model: an `EditableGraph`, or an `onnx.ModelProto`.
        sparsity: share of the weights of convolutions and matrix products that become zero.
        scope: whether the smallest weights are chosen over all layers or per layer.
        pattern: `N:M` keeps the N largest of each M along the input channels and overrides `sparsity`; layers with less
            than M input channels, such as depthwise ones, do not change.

    Raises:
        UsageError: a sparsity that is not between 0 and 1, an invalid pattern, or a model without such weights.
    """
    graph = EditableGraph.of(model)
    made = graph.to_message(SMALL)
    axes = _find_layer_weights(made)
    if not axes:
        raise UsageError("the model has no weights to prune", "no Conv, Gemm or MatMul has constant weights")
    arrays = {name: graph.constants[name] for name in graph.constants if name in axes}
    masks = _mask_pattern(arrays, axes, pattern) if pattern else _mask_smallest(arrays, sparsity, scope)
    zeros = {}
    for tensor in made.graph.initializer:
        if tensor.name in masks:
            array = np.where(masks[tensor.name], arrays[tensor.name], np.zeros((), arrays[tensor.name].dtype))
            write_array(tensor, array)
            zeros[tensor.name] = (int((array == 0).sum()), array.size)
    graph.fill(made)
    return SparseModel(made, zeros)


def _mask_smallest(arrays: Mapping[str, Array], sparsity: float, scope: str) -> dict[str, NDArray[np.bool_]]:
    """Return the masks of kept weights by name."""
    if not 0 < sparsity < 1:
        why = "all weights would become zero" if sparsity >= 1 else "no weight would become zero"
        raise UsageError(
            f"--sparsity {sparsity:g} is out of range", why, "give a share between 0 and 1, for example 0.8"
        )
    if scope == "layer":
        return {name: _mask_largest(np.abs(array), sparsity) for name, array in arrays.items()}
    flat = _mask_largest(
        np.concatenate([np.abs(array, dtype=np.float64).ravel() for array in arrays.values()]), sparsity
    )
    parts = np.split(flat, np.cumsum([array.size for array in arrays.values()])[:-1])
    return {name: part.reshape(array.shape) for (name, array), part in zip(arrays.items(), parts, strict=True)}


def _mask_largest(sizes: Array, sparsity: float) -> NDArray[np.bool_]:
    kept_mask = np.ones(sizes.size, bool)
    count = round(sparsity * sizes.size)
    kept_mask[np.argsort(sizes, axis=None, kind="stable")[:count]] = False
    return kept_mask.reshape(sizes.shape)


def _mask_pattern(arrays: Mapping[str, Array], axes: Mapping[str, int], pattern: str) -> dict[str, NDArray[np.bool_]]:
    kept, _, block = pattern.partition(":")
    if not (kept.isdecimal() and block.isdecimal() and 0 < int(kept) < int(block)):
        raise UsageError(
            f"--pattern {pattern} is not valid",
            "N:M keeps N of each M weights",
            "give an N smaller than M, for example 2:4",
        )
    n, m = int(kept), int(block)
    masks = {}
    for name, array in arrays.items():
        if array.shape[axes[name]] < m:
            continue
        moved = np.abs(np.moveaxis(array, axes[name], -1))
        whole = moved.shape[-1] // m * m  # a remainder of less than M does not change
        ranks = moved[..., :whole].reshape(-1, m).argsort(-1, kind="stable").argsort(-1, kind="stable")
        mask = np.ones(moved.shape, bool)
        mask[..., :whole] = (ranks >= m - n).reshape(*moved.shape[:-1], whole)
        masks[name] = np.moveaxis(mask, -1, axes[name])
    return masks


def measure_packed_bytes(path: Path) -> int:
    """Return the size of a file in a zip or an Android package (deflate, level 9)."""
    packer, count = zlib.compressobj(9, wbits=-15), 0
    with path.open("rb") as file:
        while part := file.read(2**20):
            count += len(packer.compress(part))
    return count + len(packer.flush())
