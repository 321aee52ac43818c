"""Writes small ncnn files for tests by hand, with nothing but numpy; the weights are seeded."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FULL, HALF = 0, 0x01306B47  # what stands before weights in float32 and in half precision
WIDE = 8 * 4 * 9


def write_convnet(path: Path, hints: bool = True) -> Path:
    """x float32[4,8,8] → Convolution with ReLU, global pooling, InnerProduct → y float32[5]; weights in a .bin.

    Without hints the file has no shapes, like those of pnnx.
    """
    sizes, hint = (" 0=8 1=8 2=4", " -23330=4,1,5,1,1") if hints else ("", "")
    lines = [
        "7767517",
        "4 4",
        f"Input x 0 1 x{sizes}",
        f"Convolution conv 1 1 x r 0=8 1=3 4=1 5=1 6={WIDE} 9=1",
        "Pooling pool 1 1 r p 0=1 4=1",
        f"InnerProduct gemm 1 1 p y 0=5 1=1 2=40{hint}",
    ]
    path.write_text("\n".join(lines) + "\n")
    parts = (tagged(seeded(WIDE)), seeded(8, seed=1), tagged(seeded(40, seed=2)), seeded(5, seed=3))
    path.with_suffix(".bin").write_bytes(b"".join(part.tobytes() for part in parts))
    return path


def seeded(count: int, seed: int = 0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal(count) * 0.2).astype(np.float32)


def tagged(weights: NDArray[Any], tag: int = FULL) -> NDArray[np.float32]:
    return np.concatenate([np.array([tag], np.uint32).view(np.float32), weights])
