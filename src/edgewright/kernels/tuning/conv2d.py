"""The description of the tuned convolution: its sizes, its tunable parameters, its inputs and the right result."""

from collections.abc import Iterator
from itertools import product

import numpy as np
from msgspec import Struct

from edgewright.kernels.sources import NATIVE
from edgewright.schema.arrays import Array

CHANNELS = FILTERS = 64
HEIGHT = WIDTH = 56
SOURCE = NATIVE / "conv2d.cl"
TOLERANCE = 1e-3  # of sums of 576 products with values around 1
READ_BEHIND = 64  # floats behind the input that a vector may read


class ConvVariant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One choice of the tunable parameters.

    Attributes:
        vw: width of vectors.
        tk: output maps per work item.
        by, bx: size of a work group.
        tx: vectors per work item.
        local: 1: weights in local memory.
        image: 1: the input is an image2d_t.
    """

    vw: int = 4
    tk: int = 4
    by: int = 1
    tx: int = 1
    bx: int = 1
    local: int = 0
    image: int = 0

    def list_options(self) -> list[str]:
        """Return the definitions for the OpenCL compiler."""
        sizes = {"CHANNELS": CHANNELS, "FILTERS": FILTERS, "HEIGHT": HEIGHT, "WIDTH": WIDTH}
        chosen = {"VW": self.vw, "TX": self.tx, "TK": self.tk, "LOCAL": self.local, "IMAGE": self.image}
        return [f"-D{name}={value}" for name, value in (sizes | chosen).items()]

    def get_sizes(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Return the global and the local size; global sizes are multiples of local ones."""
        columns = -(-WIDTH // (self.vw * self.tx))
        return (_round_up(columns, self.bx), _round_up(HEIGHT, self.by), FILTERS // self.tk), (self.bx, self.by, 1)


def _round_up(count: int, step: int) -> int:
    return -(-count // step) * step


DEFAULT = ConvVariant()  # blocked, as one writes it without measuring


def list_variants() -> Iterator[ConvVariant]:
    """Yield all variants whose blocks fit into the output."""
    for vw, tx, tk, bx, by, local, image in product((4, 8, 16), (1, 2, 7), (4, 8, 16), (1, 4), (1, 8), (0, 1), (0, 1)):
        if vw * tx <= WIDTH and tx * tk <= 64:
            yield ConvVariant(vw=vw, tx=tx, tk=tk, bx=bx, by=by, local=local, image=image)


class ConvInputs(Struct, frozen=True):
    """The padded input with values behind it, the weights [channels, 9, filters], and the right output."""

    padded: Array
    weights: Array
    want: Array


def make_inputs() -> ConvInputs:
    """Return random inputs and their result in float64."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((CHANNELS, HEIGHT, WIDTH)).astype(np.float32)
    weights = (rng.standard_normal((CHANNELS, 9, FILTERS)) * 0.05).astype(np.float32)
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded.astype(np.float64), (3, 3), axis=(1, 2))
    windows = windows.reshape(CHANNELS, HEIGHT, WIDTH, 9)
    want = np.einsum("chwt,ctf->fhw", windows, weights.astype(np.float64), optimize=True)
    return ConvInputs(padded, weights, want)
