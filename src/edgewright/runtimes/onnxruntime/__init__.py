"""ONNX Runtime: runs ONNX on the CPU and on the execution providers of its build.

Each function imports what it needs: a worker that measures loads neither the profiler nor the layer join.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgewright.runtimes.onnxruntime.session import open_session, version
from edgewright.runtimes.wire import Compiled, CompileRequest, SessionRequest
from edgewright.schema.model import GraphNode
from edgewright.schema.run import LayerReport

__all__ = ["compile", "layers", "open_session", "profile", "version"]


def compile(request: CompileRequest) -> Compiled:
    """Write the model for ONNX Runtime."""
    from edgewright.runtimes.onnxruntime.compiler import compile_model

    return compile_model(request)


def profile(request: SessionRequest, feeds: Mapping[str, NDArray[Any]], runs: int, folder: Path) -> None:
    """Time each operator with ONNX Runtime's own profiler and write its trace to `folder`."""
    from edgewright.runtimes.onnxruntime.profiler import profile_operators

    profile_operators(request, feeds, runs, folder)


def layers(folder: Path, graph: Sequence[GraphNode]) -> LayerReport:
    """Return the rows of the trace in `folder`, joined to the source graph's nodes."""
    from edgewright.runtimes.onnxruntime.rows import report_layers

    return report_layers(folder, graph)
