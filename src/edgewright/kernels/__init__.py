"""Kernels for the edges of a model's graph: preprocessing, postprocessing, and operators that runtimes lack."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgewright.kernels.preprocessing import preprocess

__all__ = ["preprocess"]


def __getattr__(name: str) -> Any:
    """Import `preprocess` at its first use: `doctor` reads the state of the kernels without numpy."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from edgewright.kernels.preprocessing import preprocess

    return preprocess
