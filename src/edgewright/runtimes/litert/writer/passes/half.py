"""Stage 6: float16 weights, as LiteRT stores them: constants with a DEQUANTIZE that XNNPACK fuses.

Computation stays in float32.
"""

import numpy as np

from edgewright.runtimes.litert.writer.program import Operator, Program, Tensor
from edgewright.schema.arrays import Array

LARGE = 512  # elements: below that a DEQUANTIZE costs more than it saves


def halve_weights(program: Program, *, exactly: bool) -> None:
    """Store large float32 constants as float16; with `exactly` only those without rounding errors.

    A constant with a number beyond float16's range stays as it is.
    """
    seen: set[int] = set()
    before: list[Operator] = []
    for operator in program.operators:
        for tensor in operator.inputs:
            if tensor is None or tensor.data is None or tensor.dtype != np.float32 or id(tensor) in seen:
                continue
            seen.add(id(tensor))
            half = _halve(tensor.data, exactly=exactly) if tensor.data.size >= LARGE else None
            if half is not None:
                stored = Tensor(f"{tensor.name}/half", tensor.shape, half.dtype, half)
                tensor.data = None
                before.append(Operator("DEQUANTIZE", [stored], [tensor], {}, operator.sources))
    program.operators[:0] = before


def _halve(data: Array, *, exactly: bool) -> Array | None:
    with np.errstate(over="ignore"):
        half = data.astype(np.float16)
    if exactly:
        return half if np.array_equal(half.astype(np.float32), data, equal_nan=True) else None
    return half if bool(np.all(np.isfinite(half))) else None
