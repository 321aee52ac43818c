"""Slicing of torch layers: their weights, and the size attributes that their `forward` reads."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from edgewright.errors import ModelNotConvertible

Axes = Mapping[int, Sequence[int]]
SlicedTensors = Mapping[int, tuple[Any, Any, Axes]]  # by id: a tensor, its sliced copy, and the kept indices


def slice_layer(layer: Any, path: str, cuts: SlicedTensors, *, rescale: bool) -> None:
    """Replace a layer's tensors by the sliced ones. Raises ModelNotConvertible if the layer does not support it."""
    held = {**layer._parameters, **layer._buffers}
    own = {name: cuts[id(tensor)] for name, tensor in held.items() if id(tensor) in cuts}
    fixed = _find_unsliceable(layer)
    if fixed is not None and any(id(tensor) in cuts for tensor in (*layer.parameters(), *layer.buffers())):
        raise _make_rejection(path, f"{fixed} uses fixed sizes")
    for name, (_, left, _) in own.items():
        (layer._parameters if name in layer._parameters else layer._buffers)[name] = left
    for kind, rule in _get_size_rules().items():
        if own and isinstance(layer, kind):
            rule(
                layer, path, {name: axes for name, (_, _, axes) in own.items()}, {n: t for n, (t, _, _) in own.items()}
            )
    if rescale and "weight" in own and own["weight"][1].ndim > 1 and not hasattr(layer, "num_embeddings"):
        whole, left, _ = own["weight"]
        left.data.mul_((_count_fan_in(layer, whole) / _count_fan_in(layer, left)) ** 0.5)


def _count_fan_in(layer: Any, weight: Any) -> int:
    """Return the number of inputs of one output, up to a factor that slicing does not change."""
    return int(weight.shape[0]) if getattr(layer, "transposed", False) else prod(weight.shape[1:])


def _find_unsliceable(layer: Any) -> str | None:
    from torch import nn

    fixed = (nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)
    return type(layer).__name__ if isinstance(layer, fixed) else None


def _get_size_rules() -> dict[Any, Callable[[Any, str, Mapping[str, Axes], Mapping[str, Any]], None]]:
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase
    from torch.nn.modules.conv import _ConvNd

    return {
        nn.Linear: _size_linear,
        _ConvNd: _size_convolution,
        _NormBase: _size_batch_norm,
        nn.LayerNorm: _size_layer_norm,
        nn.RMSNorm: _size_layer_norm,
        nn.GroupNorm: _size_group_norm,
        nn.Embedding: _size_embedding,
        nn.PReLU: _size_slopes,
    }


def _size_linear(layer: Any, path: str, axes: Mapping[str, Axes], whole: Mapping[str, Any]) -> None:
    layer.out_features, layer.in_features = layer.weight.shape


def _size_convolution(layer: Any, path: str, axes: Mapping[str, Axes], whole: Mapping[str, Any]) -> None:
    """Set a convolution's sizes; weights are [out, in / groups, …], transposed [in, out / groups, …]."""
    if "weight" in whole:
        layer.groups = _count_kept_groups(path, whole["weight"].shape[0], layer.groups, axes["weight"].get(0))
    first, second = layer.weight.shape[0], layer.weight.shape[1] * layer.groups
    layer.in_channels, layer.out_channels = (first, second) if layer.transposed else (second, first)


def _count_kept_groups(path: str, size: int, groups: int, kept: Sequence[int] | None) -> int:
    """Return the number of kept groups, which must keep equally many channels."""
    if kept is None or groups == 1:
        return groups
    _, counts = np.unique(np.asarray(kept) // (size // groups), return_counts=True)
    if len(set(counts.tolist())) > 1:
        raise _make_rejection(
            path, f"its groups would keep {min(counts)} to {max(counts)} channels, and must keep equally many"
        )
    return len(counts)


def _size_batch_norm(layer: Any, path: str, axes: Mapping[str, Axes], whole: Mapping[str, Any]) -> None:
    held = next(tensor for tensor in (layer.weight, layer.running_mean) if tensor is not None)
    layer.num_features = held.shape[0]


def _size_layer_norm(layer: Any, path: str, axes: Mapping[str, Axes], whole: Mapping[str, Any]) -> None:
    layer.normalized_shape = tuple(layer.weight.shape)


def _size_group_norm(layer: Any, path: str, axes: Mapping[str, Axes], whole: Mapping[str, Any]) -> None:
    layer.num_groups = _count_kept_groups(path, layer.num_channels, layer.num_groups, axes.get("weight", {}).get(0))
    layer.num_channels = layer.weight.shape[0]


def _size_embedding(layer: Any, path: str, axes: Mapping[str, Axes], whole: Mapping[str, Any]) -> None:
    layer.num_embeddings, layer.embedding_dim = layer.weight.shape


def _size_slopes(layer: Any, path: str, axes: Mapping[str, Axes], whole: Mapping[str, Any]) -> None:
    layer.num_parameters = layer.weight.shape[0]


def _make_rejection(path: str, why: str) -> ModelNotConvertible:
    return ModelNotConvertible(f"'{path}' cannot be sliced", why, "keep all units of its groups")
