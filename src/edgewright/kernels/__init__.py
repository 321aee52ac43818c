"""Kernels for the edges of a model's graph: preprocessing, postprocessing, and operators that runtimes lack."""

from edgewright.kernels.preprocessing import preprocess

__all__ = ["preprocess"]
