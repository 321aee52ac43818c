"""Edgewright takes a trained model to phones and edge devices, and measures what it does there."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgewright.runtimes.litert.writer import onnx_to_litert as onnx_to_litert

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Library functions, each imported when it is first asked for."""
    if name == "onnx_to_litert":
        from edgewright.runtimes.litert.writer import onnx_to_litert

        return onnx_to_litert
    raise AttributeError(f"module 'edgewright' has no attribute {name!r}")
