"""Data movement operators."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from edgewright.formats.onnx_to_torch.call import (
    Arranged,
    Call,
    Constants,
    Tensor,
    TorchOperator,
    as_tensor,
    get_shape,
    normalize_axis,
    to_integers,
    to_scalar,
)
from edgewright.schema.arrays import Array


def _reshape(call: Call, tensor: Tensor, shape: Array) -> Tensor:
    """Reshape; a zero keeps the size at the same position."""
    sizes = to_integers(shape)
    if not call.integer("allowzero", 0):
        sizes = [get_shape(tensor)[i] if size == 0 else size for i, size in enumerate(sizes)]
    return tensor.reshape(sizes)


def _flatten(call: Call, tensor: Tensor) -> Tensor:
    axis = normalize_axis(call.integer("axis", 1), tensor.dim())
    rows = int(np.prod(get_shape(tensor)[:axis], dtype=np.int64))
    return tensor.reshape(rows, -1)


def _transpose(call: Call, tensor: Tensor) -> Tensor:
    return tensor.permute(call.integers("perm") or list(range(tensor.dim()))[::-1])


def _squeeze(call: Call, tensor: Tensor, axes: Array | None = None) -> Tensor:
    wanted = to_integers(axes) or call.integers("axes")
    rank = tensor.dim()
    gone = {normalize_axis(axis, rank) for axis in wanted} or {
        i for i, size in enumerate(get_shape(tensor)) if size == 1
    }
    return tensor.reshape([size for i, size in enumerate(get_shape(tensor)) if i not in gone])


def _unsqueeze(call: Call, tensor: Tensor, axes: Array | None = None) -> Tensor:
    wanted = to_integers(axes) or call.integers("axes")
    shape = get_shape(tensor)
    for axis in sorted(normalize_axis(axis, tensor.dim() + len(wanted)) for axis in wanted):
        shape.insert(axis, 1)
    return tensor.reshape(shape)


def _concat(call: Call, *tensors: Tensor) -> Tensor:
    return torch.cat(tensors, call.integer("axis", 0))


def _split(call: Call, tensor: Tensor, sizes: Array | None = None) -> tuple[Tensor, ...]:
    """Split; without sizes into equal parts, of which the last may be smaller."""
    axis = call.integer("axis", 0)
    lengths = to_integers(sizes) or call.integers("split")
    if not lengths:
        lengths = _split_evenly(get_shape(tensor)[axis], call.outputs)
    parts, begin = [], 0
    for length in lengths:
        parts.append(tensor.narrow(axis, begin, length))
        begin += length
    return tuple(parts)


def _split_evenly(whole: int, count: int) -> list[int]:
    length = -(-whole // count)
    return [min(length, whole - length * i) for i in range(count)]


def _slice_tensor(
    call: Call,
    tensor: Tensor,
    starts: Array | None = None,
    ends: Array | None = None,
    axes: Array | None = None,
    steps: Array | None = None,
) -> Tensor:
    first, last = to_integers(starts) or call.integers("starts"), to_integers(ends) or call.integers("ends")
    along = to_integers(axes) or call.integers("axes") or list(range(len(first)))
    strides = to_integers(steps) or [1] * len(first)
    for begin, end, axis, step in zip(first, last, along, strides, strict=True):
        tensor = _slice_axis(tensor, begin, end, normalize_axis(axis, tensor.dim()), step)
    return tensor


def _slice_axis(tensor: Tensor, begin: int, end: int, axis: int, step: int) -> Tensor:
    size = get_shape(tensor)[axis]
    places = range(*slice(begin, None if step < 0 and end < -size else end, step).indices(size))
    if places == range(size):
        return tensor
    if step == 1:
        return tensor.narrow(axis, places.start, len(places))
    if step > 1:
        index = [slice(None)] * axis + [slice(places.start, places.stop, step)]
        return tensor[tuple(index)]
    if len(places) == size:
        return tensor.flip(axis)
    return tensor.index_select(axis, torch.tensor(list(places)))


def _gather(call: Call, tensor: Tensor, index: Tensor) -> Tensor:
    """Gather slices along one axis; negative indices count from the end."""
    axis = normalize_axis(call.integer("axis", 0), tensor.dim())
    index = torch.where(index < 0, index + get_shape(tensor)[axis], index).to(torch.int64)
    if axis == 0 and tensor.dim() == 2 and tensor.is_floating_point():
        return F.embedding(index, tensor)
    taken = tensor.index_select(axis, index.reshape(-1))
    return taken.reshape([*get_shape(tensor)[:axis], *get_shape(index), *get_shape(tensor)[axis + 1 :]])


def _arrange_gather(call: Call, constants: Constants) -> Arranged | None:
    if 1 not in constants or 0 in constants:
        return None
    index = constants[1].numpy()
    return Arranged(lambda call, tensor: _gather_constant(call, tensor, index), {})


def _gather_constant(call: Call, tensor: Tensor, index: Array) -> Tensor:
    """Return a slice for one constant index or a run of consecutive ones."""
    axis = normalize_axis(call.integer("axis", 0), tensor.dim())
    size = get_shape(tensor)[axis]
    places = [normalize_axis(place, size) for place in to_integers(index)]
    if np.ndim(index) == 0:
        return tensor.narrow(axis, places[0], 1).reshape([*get_shape(tensor)[:axis], *get_shape(tensor)[axis + 1 :]])
    taken = _select_indices(tensor, axis, places)
    return (
        taken
        if np.ndim(index) == 1
        else taken.reshape([*get_shape(tensor)[:axis], *np.shape(index), *get_shape(tensor)[axis + 1 :]])
    )


def _select_indices(tensor: Tensor, axis: int, places: Sequence[int]) -> Tensor:
    if list(places) == list(range(places[0], places[0] + len(places))):
        return tensor.narrow(axis, places[0], len(places))
    return tensor.index_select(axis, torch.tensor(list(places)))


def _gather_elements(call: Call, tensor: Tensor, index: Tensor) -> Tensor:
    axis = normalize_axis(call.integer("axis", 0), tensor.dim())
    return torch.gather(tensor, axis, torch.where(index < 0, index + get_shape(tensor)[axis], index))


def _gather_nd(call: Call, tensor: Tensor, index: Tensor) -> Tensor:
    if call.integer("batch_dims", 0):
        raise call.reject("batch_dims is not supported")
    return tensor[tuple(index.unbind(-1))]


def _scatter_elements(call: Call, tensor: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    axis = normalize_axis(call.integer("axis", 0), tensor.dim())
    if call.text("reduction", "none") == "add":
        return tensor.scatter_add(axis, index, updates)
    if call.text("reduction", "none") != "none":
        raise call.reject("this reduction is not supported")
    return tensor.scatter(axis, torch.where(index < 0, index + get_shape(tensor)[axis], index), updates)


def _scatter_nd(call: Call, tensor: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    reduction = call.text("reduction", "none")
    if reduction not in ("none", "add"):
        raise call.reject("this reduction is not supported")
    return tensor.index_put(tuple(index.unbind(-1)), updates, accumulate=reduction == "add")


def _expand(call: Call, tensor: Tensor, shape: Array) -> Tensor:
    sizes = np.broadcast_shapes(tuple(get_shape(tensor)), tuple(to_integers(shape)))
    return tensor.expand(sizes)


def _tile(call: Call, tensor: Tensor, repeats: Array) -> Tensor:
    return tensor.repeat(to_integers(repeats))


def _pad(
    call: Call, tensor: Tensor, pads: Array | None = None, value: Array | None = None, axes: Array | None = None
) -> Tensor:
    sizes = to_integers(pads) or call.integers("pads")
    along = [normalize_axis(axis, tensor.dim()) for axis in to_integers(axes)] or list(range(tensor.dim()))
    mode, fill = call.text("mode", "constant"), to_scalar(value, call.number("value", 0.0))
    pairs = {axis: (sizes[i], sizes[i + len(along)]) for i, axis in enumerate(along)}
    if mode == "constant":
        return _pad_constant(tensor, pairs, fill)
    for axis, (before, behind) in pairs.items():
        places = _mirror(get_shape(tensor)[axis], before, behind, mode)
        if before or behind:
            tensor = tensor.index_select(axis, torch.tensor(places))
    return tensor


def _pad_constant(tensor: Tensor, pairs: dict[int, tuple[int, int]], fill: float) -> Tensor:
    flat = [size for axis in reversed(range(tensor.dim())) for size in pairs.get(axis, (0, 0))]
    while flat and flat[-2:] == [0, 0]:
        del flat[-2:]
    if tensor.is_floating_point():
        limits = torch.finfo(tensor.dtype)
        fill = max(limits.min, min(limits.max, fill))
    return F.pad(tensor, flat, value=fill if tensor.is_floating_point() else int(fill)) if flat else tensor


def _mirror(size: int, before: int, behind: int, mode: str) -> list[int]:
    """Return the indices that reflected, repeated or wrapped padding reads."""
    name = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}[mode]
    places = np.pad(np.arange(size), (before, behind), mode=name)  # type: ignore[call-overload] # name is a str to mypy
    return [int(place) for place in places]


def _get_shape_tensor(call: Call, tensor: Tensor) -> Tensor:
    sizes = get_shape(tensor)
    return torch.tensor(sizes[call.integer("start", 0) : call.attributes.get("end", len(sizes))], dtype=torch.int64)


def _count(call: Call, tensor: Tensor) -> Tensor:
    return torch.tensor(tensor.numel(), dtype=torch.int64)


def _constant_of_shape(call: Call, shape: Array) -> Tensor:
    value = call.attributes.get("value", np.zeros(1, np.float32))
    return torch.from_numpy(np.full(to_integers(shape), np.asarray(value).reshape(-1)[0]))


def _make_range(call: Call, start: Array, limit: Array, delta: Array) -> Tensor:
    return torch.from_numpy(np.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype))


def _depth_to_space(call: Call, tensor: Tensor) -> Tensor:
    block = call.integer("blocksize", 1)
    if call.text("mode", "DCR") == "CRD":
        return F.pixel_shuffle(tensor, block)
    batch, depth, height, width = get_shape(tensor)
    parts = tensor.reshape(batch, block, block, depth // block**2, height, width).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(batch, depth // block**2, height * block, width * block)


def _space_to_depth(call: Call, tensor: Tensor) -> Tensor:
    block = call.integer("blocksize", 1)
    batch, depth, height, width = get_shape(tensor)
    parts = tensor.reshape(batch, depth, height // block, block, width // block, block).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(batch, depth * block**2, height // block, width // block)


def _triangle(call: Call, tensor: Tensor, diagonal: Array | None = None) -> Tensor:
    offset = int(to_scalar(diagonal, 0))
    return torch.triu(tensor, offset) if call.integer("upper", 1) else torch.tril(tensor, offset)


def _one_hot(call: Call, index: Tensor, depth: Array, values: Array) -> Tensor:
    size = int(np.asarray(depth).reshape(-1)[0])
    index = torch.where(index < 0, index + size, index).unsqueeze(call.integer("axis", -1))
    shape = [1] * index.dim()
    shape[call.integer("axis", -1)] = size
    hits = index == torch.arange(size).reshape(shape)
    off, on = (as_tensor(np.asarray(value), torch.empty(0, dtype=call.float_type)) for value in values)
    return torch.where(hits, on, off)


def _eye_like(call: Call, tensor: Tensor) -> Tensor:
    rows, columns = get_shape(tensor)
    kind = call.type(call.integer("dtype", 1)) if "dtype" in call.attributes else tensor.dtype
    return torch.from_numpy(np.eye(rows, columns, call.integer("k", 0), dtype=np.float32)).to(kind)


def _constant(call: Call) -> Tensor:
    """Return the value of the only attribute."""
    for name, value in call.attributes.items():
        if name == "value":
            return torch.from_numpy(np.array(value))
        kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
        if name in kinds:
            return torch.from_numpy(np.array(value, kinds[name]))
    raise call.reject("a string constant is not supported")


TABLE: dict[str, TorchOperator] = {
    "Concat": TorchOperator(_concat),
    "Constant": TorchOperator(_constant),
    "ConstantOfShape": TorchOperator(_constant_of_shape, static=(0,)),
    "DepthToSpace": TorchOperator(_depth_to_space),
    "Expand": TorchOperator(_expand, static=(1,)),
    "EyeLike": TorchOperator(_eye_like),
    "Flatten": TorchOperator(_flatten),
    "Gather": TorchOperator(_gather, arrange=_arrange_gather),
    "GatherElements": TorchOperator(_gather_elements),
    "GatherND": TorchOperator(_gather_nd),
    "OneHot": TorchOperator(_one_hot, static=(1, 2)),
    "Pad": TorchOperator(_pad, static=(1, 2, 3)),
    "Range": TorchOperator(_make_range, static=(0, 1, 2)),
    "Reshape": TorchOperator(_reshape, static=(1,)),
    "ScatterElements": TorchOperator(_scatter_elements),
    "ScatterND": TorchOperator(_scatter_nd),
    "Shape": TorchOperator(_get_shape_tensor),
    "Size": TorchOperator(_count),
    "Slice": TorchOperator(_slice_tensor, static=(1, 2, 3, 4)),
    "SpaceToDepth": TorchOperator(_space_to_depth),
    "Split": TorchOperator(_split, static=(1,)),
    "Squeeze": TorchOperator(_squeeze, static=(1,)),
    "Tile": TorchOperator(_tile, static=(1,)),
    "Transpose": TorchOperator(_transpose),
    "Trilu": TorchOperator(_triangle, static=(1,)),
    "Unsqueeze": TorchOperator(_unsqueeze, static=(1,)),
}
