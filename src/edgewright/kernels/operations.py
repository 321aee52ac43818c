"""Kernels behind a network, and operators that runtimes lack: compiled, or in numpy without a library.

Every function takes contiguous or strided arrays of any alignment and returns a new array; `isa` is one of
`kernels list`, by default the one in use.
"""

import ctypes
from typing import Any

import numpy as np

from edgewright.kernels import numpy_kernels
from edgewright.kernels.library import NUMPY, choose_isa, get_levels, load_library
from edgewright.schema.arrays import Array


def relu6(values: Array, isa: str = "") -> Array:
    """Return min(max(x, 0), 6) of float32 values."""
    return _map_floats("relu6", values, isa)


def hardswish(values: Array, isa: str = "") -> Array:
    """Return x · min(max(x + 3, 0), 6) / 6 of float32 values."""
    return _map_floats("hardswish", values, isa)


def gelu(values: Array, isa: str = "") -> Array:
    """Return x · Φ(x) of float32 values, with an absolute error below 1e-6."""
    return _map_floats("gelu", values, isa)


def softmax(values: Array, isa: str = "") -> Array:
    """Return the softmax of float32 values over the last axis."""
    values = _prepare(values, np.float32)
    call = _find("softmax", isa)
    if call is None or not values.size:
        return numpy_kernels.softmax(values) if values.size else values.copy()
    done = np.empty_like(values)
    length = values.shape[-1]
    call(_at(values), _at(done), _size(values.size // length), _size(length))
    return done


def dequantize(values: Array, scale: float, zero_point: int, isa: str = "") -> Array:
    """Return (q − zero point) · scale of int8 values as float32."""
    values = _prepare(values, np.int8)
    if (call := _find("dequantize", isa)) is None:
        return numpy_kernels.dequantize(values, scale, zero_point)
    done = np.empty(values.shape, np.float32)
    call(_at(values), _at(done), _size(values.size), ctypes.c_float(scale), ctypes.c_int32(zero_point))
    return done


def quantize(values: Array, scale: float, zero_point: int, isa: str = "") -> Array:
    """Return int8 values of float32: rounded half to even and clipped; NaN is the zero point."""
    values = _prepare(values, np.float32)
    if (call := _find("quantize", isa)) is None:
        return numpy_kernels.quantize(values, scale, zero_point)
    done = np.empty(values.shape, np.int8)
    call(_at(values), _at(done), _size(values.size), ctypes.c_float(scale), ctypes.c_int32(zero_point))
    return done


def unpack_int4(packed: Array, count: int, isa: str = "") -> Array:
    """Return `count` int8 values of uint8 bytes with two signed 4-bit values each, the low half first."""
    packed = _prepare(packed, np.uint8).reshape(-1)
    if not 0 <= count <= 2 * packed.size:
        raise ValueError(f"{count} values do not fit into {packed.size} bytes")
    if (call := _find("unpack_int4", isa)) is None:
        return numpy_kernels.unpack_int4(packed, count)
    done = np.empty(count, np.int8)
    call(_at(packed), _at(done), _size(count))
    return done


def argmax(values: Array, isa: str = "") -> int:
    """Return the index of the largest float32 value, -1 without values; NaN counts as the largest."""
    values = _prepare(values, np.float32)
    call = _find("argmax", isa, ctypes.c_int64)
    return numpy_kernels.argmax(values) if call is None else int(call(_at(values), _size(values.size)))


def topk(values: Array, k: int, isa: str = "") -> Array:
    """Return the indices (int64) of the k largest float32 values in descending order, equal ones by index."""
    values = _prepare(values, np.float32).reshape(-1)
    k = max(0, min(k, values.size))
    if (call := _find("topk", isa)) is None:
        return numpy_kernels.topk(values, k)
    indices = np.empty(k, np.int64)
    call(_at(values), _size(values.size), _size(k), _at(indices))
    return indices


def nms(boxes: Array, scores: Array, limit: float, *, least: float = 0.0, most: int = 0, isa: str = "") -> Array:
    """Return the indices (int32) of the kept boxes by descending score.

    Args:
        boxes: float32 [n, 4]: left, top, right, bottom.
        scores: float32 [n].
        limit: intersection over union above which the box with the lower score is removed.
        least: boxes with a lower score are removed.
        most: number of boxes that are kept; 0 for all.
    """
    boxes, scores = _prepare(boxes, np.float32), _prepare(scores, np.float32)
    if boxes.shape != (len(scores), 4):
        raise ValueError(f"boxes are {list(boxes.shape)}, scores {list(scores.shape)}")
    if most < 0:
        raise ValueError(f"{most} boxes cannot be kept")
    most = most or len(scores)
    if (call := _find("nms", isa)) is None:
        return numpy_kernels.nms(boxes, scores, limit, least, most)
    kept = np.empty(min(most, len(scores)), np.int32)
    numbers = (ctypes.c_int32(len(scores)), ctypes.c_float(limit), ctypes.c_float(least), ctypes.c_int32(most))
    count = call(_at(boxes), _at(scores), *numbers, _at(kept))
    if count < 0:
        raise MemoryError(f"{len(scores)} boxes")
    return kept[:count]


def matvec_int8(matrix: Array, vector: Array, isa: str = "") -> Array:
    """Return int32 [rows] of int8 [rows, n] times int8 [n]; sums wrap at 32 bits."""
    matrix, vector = _prepare(matrix, np.int8), _prepare(vector, np.int8)
    if matrix.ndim != 2 or vector.shape != matrix.shape[1:]:
        raise ValueError(f"the matrix is {list(matrix.shape)}, the vector {list(vector.shape)}")
    if (call := _find("matvec_int8", isa)) is None:
        return numpy_kernels.matvec_int8(matrix, vector)
    done = np.empty(len(matrix), np.int32)
    call(_at(matrix), _at(vector), _at(done), *map(_size, matrix.shape))
    return done


def plan_pool(sizes: Array, first: Array, last: Array, align: int = 64, isa: str = "") -> tuple[Array, int]:
    """Return the offset of each block in a shared memory pool, and the size of the pool, in bytes.

    Args:
        sizes: bytes of each block.
        first, last: steps between which a block is used, both inclusive.
        align: of the offsets; a power of 2.
    """
    sizes, first, last = _prepare(sizes, np.int64), _prepare(first, np.int32), _prepare(last, np.int32)
    if align < 1 or align & (align - 1) or not sizes.shape == first.shape == last.shape or (sizes < 0).any():
        raise ValueError("a pool needs sizes of 0 or more, a first and a last step for each, and a power of 2")
    if (call := _find("plan_pool", isa, ctypes.c_int64)) is None:
        return numpy_kernels.plan_pool(sizes, first, last, align)
    offsets = np.zeros(len(sizes), np.int64)
    numbers = (ctypes.c_int32(len(sizes)), ctypes.c_int64(align))
    total = call(_at(sizes), _at(first), _at(last), *numbers, _at(offsets))
    if total < 0:
        raise MemoryError(f"{len(sizes)} blocks")
    return offsets, int(total)


def _map_floats(name: str, values: Array, isa: str) -> Array:
    values = _prepare(values, np.float32)
    if (call := _find(name, isa)) is None:
        done: Array = getattr(numpy_kernels, name)(values)
        return done
    done = np.empty_like(values)
    call(_at(values), _at(done), _size(values.size))
    return done


def _find(name: str, isa: str, returns: Any = ctypes.c_int32) -> Any:
    """Return a kernel that begins with the level of its instruction set; None for numpy."""
    isa = isa or choose_isa()
    library, _ = load_library()
    if isa == NUMPY or library is None:
        return None
    function = getattr(library, f"ewk_{name}")
    function.restype = returns
    level = get_levels().index(isa)
    return lambda *given: function(level, *given)


def _prepare(values: Array, dtype: Any) -> Array:
    """Return the array in one piece and aligned; copied only if it is not."""
    prepared: Array = np.require(values, dtype, ["C", "A"])
    return prepared


def _at(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _size(count: int) -> ctypes.c_size_t:
    return ctypes.c_size_t(count)
