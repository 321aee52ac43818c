"""ONNX Runtime: reads ONNX, runs it on the CPU and on whatever execution providers its build has."""

from edgewright.runtimes.onnxruntime.layers import layers
from edgewright.runtimes.onnxruntime.profiler import profile
from edgewright.runtimes.onnxruntime.session import open_session, version

__all__ = ["layers", "open_session", "profile", "version"]
