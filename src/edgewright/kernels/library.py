"""The library of kernels in this process, and the instruction set that is used."""

import ctypes
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from msgspec import Struct

from edgewright.errors import ConfigError
from edgewright.kernels.build import build_library, find_compiler, find_prebuilt, get_cached_path, name_machine
from edgewright.kernels.sources import NATIVE, SOURCES

VARIABLE = "EDGEWRIGHT_KERNELS"
NUMPY = "numpy"
LEVELS: Mapping[str, tuple[str, ...]] = {
    "x86_64": ("scalar", "avx2", "avx512"),
    "aarch64": ("scalar", "neon", "dotprod", "i8mm"),
}
_SOURCES = tuple(NATIVE / name for name in SOURCES)


class KernelStatus(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which kernels this process uses.

    Attributes:
        isa: the instruction set: numpy, or a level of this processor; empty if the library is not built yet.
        source: `prebuilt`, `cache`, `compiler` (built at the first use) or `numpy`.
        detail: the library's file, the compiler, or why numpy is used.
    """

    isa: str
    source: str
    detail: str


def get_levels() -> tuple[str, ...]:
    """Return the instruction sets of this architecture, lowest first; each includes those before it."""
    return LEVELS.get(name_machine(), ("scalar",))


def _read_choice() -> str:
    """Return the instruction set that the user chose; empty without a choice. Raises ConfigError for another word."""
    choice = os.environ.get(VARIABLE, "").strip().lower()
    known = (NUMPY, *get_levels())
    if choice and choice not in known:
        raise ConfigError(
            f"{VARIABLE}={choice} is not an instruction set of this processor",
            f"kernels of this architecture are {', '.join(known)}",
            f"set {VARIABLE} to one of them, or unset it",
        )
    return choice


@cache
def load_library() -> tuple[ctypes.CDLL | None, str]:
    """Return the library, built if there is none yet; or None and the reason."""
    path, why = find_prebuilt(), ""
    if path is None or (library := _open(path)) is None:
        compiler = find_compiler()
        if compiler is None:
            return None, "no C compiler was found (cc, gcc, clang, zig)"
        path, why = build_library(compiler, _SOURCES)
        library = _open(path) if path else None
    if library is None:
        return None, why or f"{path} does not load"
    return library, ""


def _open(path: Path) -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(str(path))
        library.ewk_best_level.restype = ctypes.c_int
    except (OSError, AttributeError):  # another C library or architecture
        return None
    return library


@cache
def list_usable() -> tuple[str, ...]:
    """Return the instruction sets that work in this process: numpy, and those of the library and this processor."""
    library, _ = load_library()
    if library is None:
        return (NUMPY,)
    return (NUMPY, *get_levels()[: library.ewk_best_level() + 1])


@cache
def _is_there() -> bool:
    """Return whether a library is in the wheel or was built before."""
    compiler = None if find_prebuilt() else find_compiler()
    return find_prebuilt() is not None or (compiler is not None and get_cached_path(compiler, _SOURCES).is_file())


def choose_isa(*, build: bool = True) -> str:
    """Return the instruction set for kernels: the user's choice, else the best. Raises ConfigError if it cannot run.

    Args:
        build: whether the library is built if there is none; otherwise numpy is used then.
    """
    choice = _read_choice()
    if choice == NUMPY or not (build or _is_there()):
        return NUMPY
    usable = list_usable()
    if choice and choice not in usable:
        _, why = load_library()
        raise ConfigError(
            f"{VARIABLE}={choice} cannot be used",
            why or f"this processor has {', '.join(usable[1:])}",
            f"unset {VARIABLE}, or set it to {usable[-1]}",
        )
    return choice or usable[-1]


def read_status() -> KernelStatus:
    """Return which kernels are used, without building anything."""
    try:
        choice = _read_choice()
    except ConfigError as error:
        return KernelStatus(isa="", source=NUMPY, detail=f"{error.what}: {error.why}")
    if choice == NUMPY:
        return KernelStatus(isa=NUMPY, source=NUMPY, detail=f"{VARIABLE}={NUMPY}")
    prebuilt, compiler = find_prebuilt(), find_compiler()
    if prebuilt is None and compiler is None:
        return KernelStatus(isa=NUMPY, source=NUMPY, detail="no C compiler was found (cc, gcc, clang, zig)")
    cached = get_cached_path(compiler, _SOURCES) if compiler else None
    if prebuilt is None and compiler and cached and not cached.is_file():
        return KernelStatus(isa=choice, source="compiler", detail=f"built by {compiler.name} at the first use")
    library, why = load_library()
    if library is None:
        return KernelStatus(isa=NUMPY, source=NUMPY, detail=why)
    isa = choice or list_usable()[-1]
    return KernelStatus(isa=isa, source="prebuilt" if prebuilt else "cache", detail=str(prebuilt or cached))
