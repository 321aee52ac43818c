"""Inputs of a weight node: activations as columns, and their second moments."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from edgewright.formats.onnx.normalize.weights import WeightNode
from edgewright.schema.arrays import Array


def to_matrices(weight_node: WeightNode, weights: Array) -> Array:
    """Return weights as [groups, outputs of a group, K]: one row for each output channel."""
    if weight_node.op in ("Conv",):
        return weights.reshape(weight_node.groups, weights.shape[0] // weight_node.groups, -1)
    if weight_node.op == "ConvTranspose":
        return np.moveaxis(weights, 1, 0).reshape(1, weights.shape[1], -1)
    return (weights if weight_node.axis == 0 else weights.T)[np.newaxis]


def from_matrices(weight_node: WeightNode, rows: Array, shape: tuple[int, ...]) -> Array:
    """Invert `to_matrices`; `shape` is that of the weights."""
    if weight_node.op == "Conv":
        return rows.reshape(shape)
    if weight_node.op == "ConvTranspose":
        moved = (shape[1], shape[0], *shape[2:])
        return np.ascontiguousarray(np.moveaxis(rows.reshape(moved), 0, 1))
    return np.ascontiguousarray(rows[0] if weight_node.axis == 0 else rows[0].T)


def to_columns(
    weight_node: WeightNode, attributes: dict[str, Any], x: Array, kernel: tuple[int, ...], places: int, seed: int
) -> Array:
    """Return activations as [groups, K, P] so that `to_matrices(w) @ columns` is the node's output before the bias.

    At most `places` output positions are used, chosen by `seed`.
    """
    if weight_node.op != "Conv":
        vectors = x.reshape(-1, x.shape[-1])
        return _pick(vectors, places, seed).T[np.newaxis]
    spatial = x.ndim - 2
    strides = attributes.get("strides") or [1] * spatial
    dilations = attributes.get("dilations") or [1] * spatial
    pads = _find_pads(attributes, x.shape[2:], kernel, strides, dilations)
    if any(pads):
        x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:spatial], pads[spatial:], strict=True)])
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(x, reach, axis=tuple(range(2, 2 + spatial)))
    taken = (slice(None), slice(None), *(slice(None, None, step) for step in strides),
             *(slice(None, None, step) for step in dilations))  # fmt: skip
    windows = windows[taken]  # [N, C, out…, kernel…]
    outputs = windows.shape[2 : 2 + spatial]
    flat = np.moveaxis(windows, 1, 1 + spatial)  # [N, out…, C, kernel…]
    count = x.shape[0] * int(np.prod(outputs))
    chosen = _choose(count, places, seed)
    where = np.unravel_index(chosen, (x.shape[0], *outputs))
    rows = flat[where].reshape(len(chosen), weight_node.groups, -1)  # [P, G, K]
    return np.ascontiguousarray(rows.transpose(1, 2, 0))


def _find_pads(
    attributes: dict[str, Any],
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: list[int],
    dilations: list[int],
) -> list[int]:
    """Return the pads in the order of Conv's `pads`: all begins, then all ends."""
    auto = attributes.get("auto_pad", b"NOTSET")
    auto = auto.decode() if isinstance(auto, bytes) else auto
    if auto in ("NOTSET", ""):
        return list(attributes.get("pads") or [0] * (2 * len(sizes)))
    if auto == "VALID":
        return [0] * (2 * len(sizes))
    whole = [
        max(0, (-(-size // step) - 1) * step + (k - 1) * wide + 1 - size)
        for size, k, step, wide in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    small, large = [one // 2 for one in whole], [one - one // 2 for one in whole]
    return small + large if auto == "SAME_UPPER" else large + small


def _choose(count: int, places: int, seed: int) -> Array:
    if count <= places:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, places, replace=False))


def _pick(rows: Array, places: int, seed: int) -> Array:
    return rows[_choose(len(rows), places, seed)]


class Moments(NamedTuple):
    """Central second moments [G, K, K] and mean [G, K] of a weight node's columns."""

    square: Array
    mean: Array


def find_moments(samples: Sequence[Array]) -> Moments:
    """Compute the moments from columns [G, K, P] of each sample.

    Many small groups are summed sample by sample, which stays in the cache; one large product is faster for one group.
    """
    if samples[0].shape[0] > 1:
        return _sum_moments(samples)
    columns = np.concatenate(samples, axis=2)
    mean = columns.mean(axis=2, dtype=np.float64)
    columns = columns - mean[:, :, None].astype(np.float32)
    square = (columns @ columns.transpose(0, 2, 1)).astype(np.float64) / columns.shape[2]
    return Moments(square, mean)


def _sum_moments(samples: Sequence[Array]) -> Moments:
    groups, size, _ = samples[0].shape
    shift = samples[0].mean(axis=2, dtype=np.float64).astype(np.float32)  # near the mean, for the precision of floats
    total, products, count = np.zeros((groups, size)), np.zeros((groups, size, size)), 0
    for columns in samples:
        moved = columns - shift[:, :, None]
        total += moved.sum(axis=2, dtype=np.float64)
        products += moved @ moved.transpose(0, 2, 1)
        count += columns.shape[2]
    mean = total / count
    return Moments(products / count - mean[:, :, None] * mean[:, None, :], mean + shift)
