"""Checks of the other kernels against numpy: random, empty, tiny, strided and unaligned arrays, NaN and infinities."""

import numpy as np

from edgewright.kernels import numpy_kernels, operations
from edgewright.kernels.checks.buffers import Rng, describe_difference, pick_side
from edgewright.schema.arrays import Array

MOST = 300
MAX_ULPS, TOLERANCE = 2, 1e-6
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 3.4e38, -3.4e38, 88.8, -104.0], np.float32)


def _make_floats(rng: Rng, shape: tuple[int, ...], *, special: bool = True) -> Array:
    """Return float32 values: contiguous, every other one, reversed, or read-only; some are special."""
    wide = (*shape[:-1], 2 * shape[-1])
    values = (rng.standard_normal(wide) * 10.0 ** rng.integers(-2, 3)).astype(np.float32)
    if special and rng.random() < 0.5 and values.size:
        values.reshape(-1)[rng.integers(0, values.size, 1 + values.size // 8)] = rng.choice(SPECIAL)
    kind = rng.integers(4)
    if kind == 0:
        return values[..., ::2]
    if kind == 1:
        return values[..., : shape[-1]][..., ::-1]
    values = np.ascontiguousarray(values[..., : shape[-1]])
    values.flags.writeable = kind != 3
    return values


def _pick_length(rng: Rng) -> int:
    return int(rng.choice([0, 1, pick_side(rng, MOST), pick_side(rng, MOST)]))


def _compare_floats(want: Array, got: Array) -> str:
    """Return where two float32 arrays differ by over 2 ulp and over 1e-6; NaN equals NaN."""
    if want.shape != got.shape or want.dtype != got.dtype:
        return describe_difference(want, got)
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs(want.astype(np.float64) - got.astype(np.float64))
        allowed = np.maximum(MAX_ULPS * np.abs(np.spacing(want)), TOLERANCE)
    fits = (distance <= allowed) | (want == got) | (np.isnan(want) & np.isnan(got))
    if fits.all():
        return ""
    place = tuple(int(one) for one in np.argwhere(~fits)[0])
    return (
        f"{int((~fits).sum())} of {want.size} values differ, {list(place)}: {got[place]!r} instead of {want[place]!r}"
    )


def check_relu6(rng: Rng, isa: str) -> str:
    values = _make_rows(rng)
    return _compare_floats(numpy_kernels.relu6(values), operations.relu6(values, isa))


def check_hardswish(rng: Rng, isa: str) -> str:
    values = _make_rows(rng)
    return _compare_floats(numpy_kernels.hardswish(values), operations.hardswish(values, isa))


def check_gelu(rng: Rng, isa: str) -> str:
    values = _make_rows(rng)
    return _compare_floats(numpy_kernels.gelu(values), operations.gelu(values, isa))


def _make_rows(rng: Rng) -> Array:
    return _make_floats(rng, (pick_side(rng, 4), _pick_length(rng)))


def check_softmax(rng: Rng, isa: str) -> str:
    values = _make_floats(rng, (pick_side(rng, 4), pick_side(rng, MOST)))
    return _compare_floats(numpy_kernels.softmax(values), operations.softmax(values, isa))


def check_dequantize(rng: Rng, isa: str) -> str:
    values = rng.integers(-128, 128, 2 * _pick_length(rng), np.int8)[::2]
    scale, zero = float(rng.uniform(1e-4, 10)), int(rng.integers(-128, 128))
    return describe_difference(
        numpy_kernels.dequantize(values, scale, zero), operations.dequantize(values, scale, zero, isa)
    )


def check_quantize(rng: Rng, isa: str) -> str:
    values = _make_floats(rng, (_pick_length(rng),))
    scale, zero = float(rng.uniform(1e-2, 10)), int(rng.integers(-128, 128))
    return describe_difference(
        numpy_kernels.quantize(values, scale, zero), operations.quantize(values, scale, zero, isa)
    )


def check_unpack_int4(rng: Rng, isa: str) -> str:
    count = _pick_length(rng)
    start = int(rng.integers(0, 32))
    packed = rng.integers(0, 256, start + (count + 1) // 2, np.uint8)[start:]
    return describe_difference(numpy_kernels.unpack_int4(packed, count), operations.unpack_int4(packed, count, isa))


def check_argmax(rng: Rng, isa: str) -> str:
    values = _make_floats(rng, (_pick_length(rng),))
    if rng.random() < 0.5:
        values = np.rint(values)  # equal values
    want, got = numpy_kernels.argmax(values), operations.argmax(values, isa)
    return "" if want == got else f"{got} instead of {want}"


def check_topk(rng: Rng, isa: str) -> str:
    values = _make_floats(rng, (_pick_length(rng),))
    if rng.random() < 0.5:
        values = np.rint(values)
    k = _pick_length(rng)
    return describe_difference(numpy_kernels.topk(values, min(k, values.size)), operations.topk(values, k, isa))


def check_nms(rng: Rng, isa: str) -> str:
    count = _pick_length(rng)
    corner = rng.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(-1, 30, (count, 2))], axis=1).astype(np.float32)
    scores = _make_floats(rng, (count,))
    if count and rng.random() < 0.3:
        boxes.reshape(-1)[rng.integers(0, boxes.size, 3)] = rng.choice(SPECIAL)
    limit, least, most = float(rng.uniform(0, 1)), float(rng.choice([-np.inf, 0.0, 0.5])), int(rng.integers(0, 40))
    want = numpy_kernels.nms(boxes, scores, limit, least, most or count)
    return describe_difference(want, operations.nms(boxes, scores, limit, least=least, most=most, isa=isa))


def check_matvec_int8(rng: Rng, isa: str) -> str:
    rows, length = pick_side(rng, 9), _pick_length(rng)
    start = int(rng.integers(0, 32))
    matrix = rng.integers(-128, 128, start + rows * length, np.int8)[start:].reshape(rows, length)
    vector = rng.integers(-128, 128, length, np.int8)
    return describe_difference(numpy_kernels.matvec_int8(matrix, vector), operations.matvec_int8(matrix, vector, isa))


def check_plan_pool(rng: Rng, isa: str) -> str:
    count = int(rng.integers(0, 40))
    sizes = rng.integers(0, 2000, count)
    first = rng.integers(0, 20, count).astype(np.int32)
    last = first + rng.integers(0, 8, count).astype(np.int32)
    want = numpy_kernels.plan_pool(sizes, first, last, 64)
    got = operations.plan_pool(sizes, first, last, 64, isa)
    return describe_difference(want[0], got[0]) or ("" if want[1] == got[1] else f"{got[1]} bytes instead of {want[1]}")
