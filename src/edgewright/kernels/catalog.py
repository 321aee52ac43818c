"""The kernels and the instruction sets that each has a variant for."""

from collections.abc import Iterator

from msgspec import Struct

from edgewright.kernels.library import NUMPY, choose_isa, get_levels, list_usable


class Kernel(Struct, frozen=True):
    """A kernel.

    Attributes:
        name: as in `kernels list`.
        purpose: one phrase.
        isas: instruction sets with a variant of its own in C; all kernels have one in numpy.
    """

    name: str
    purpose: str
    isas: tuple[str, ...] = ("scalar",)


_VECTORS = ("scalar", "avx2", "avx512")  # by the compiler, from one body
_INTRINSICS = ("scalar", "avx2", "neon")
KERNELS = (
    Kernel("preprocess", "image to model input, equal to the reference bit for bit", ("scalar", "avx2")),
    Kernel("preprocess-fast", "bilinear resizing in one pass, at most one gray level from the reference", _INTRINSICS),
    Kernel("softmax", "scores to shares", _VECTORS),
    Kernel("topk", "indices of the largest scores"),
    Kernel("argmax", "index of the largest score"),
    Kernel("nms", "non-maximum suppression of boxes", _INTRINSICS),
    Kernel("dequantize", "int8 to float32", _VECTORS),
    Kernel("quantize", "float32 to int8", _VECTORS),
    Kernel("relu6", "activation", (*_VECTORS, "neon")),
    Kernel("hardswish", "activation", (*_VECTORS, "neon")),
    Kernel("gelu", "activation", _VECTORS),
    Kernel("unpack-int4", "two 4-bit values per byte to int8", _VECTORS),
    Kernel("matvec-int8", "int8 matrix times vector", ("scalar", "avx2", "avx512", "neon", "dotprod", "i8mm")),
    Kernel("plan-pool", "offsets of buffers in one memory block"),
)


class KernelVariant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kernel for one instruction set.

    Attributes:
        isa: `numpy`, or an instruction set of this architecture.
        selected: whether this process uses it.
        usable: whether it runs here; without a compiler and a prebuilt library only numpy does.
    """

    name: str
    isa: str
    selected: bool
    usable: bool
    purpose: str


def list_variants() -> list[KernelVariant]:
    """Return the variants of all kernels on this architecture. Raises ConfigError for a choice that cannot be used."""
    usable, chosen = list_usable(), choose_isa()
    return [
        KernelVariant(
            name=kernel.name,
            isa=isa,
            selected=isa == _select_isa(kernel, chosen),
            usable=isa in usable,
            purpose=kernel.purpose,
        )
        for kernel in KERNELS
        for isa in _list_isas(kernel)
    ]


def _list_isas(kernel: Kernel) -> Iterator[str]:
    yield NUMPY
    yield from (isa for isa in get_levels() if isa in kernel.isas)


def _select_isa(kernel: Kernel, chosen: str) -> str:
    """Return the kernel's best variant up to the chosen instruction set."""
    if chosen == NUMPY:
        return NUMPY
    levels = get_levels()
    below = levels[: levels.index(chosen) + 1]
    return [isa for isa in below if isa in kernel.isas][-1]
