"""OpenVINO: runs its intermediate representation, written from ONNX, on Intel's and other x86 and Arm processors.

Each function imports what it needs: a worker that measures loads neither the compiler nor the layer join.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgewright.runtimes.openvino.library import version
from edgewright.runtimes.openvino.session import open_session
from edgewright.runtimes.wire import Compiled, CompileRequest, SessionRequest
from edgewright.schema.model import GraphNode
from edgewright.schema.run import LayerReport

__all__ = ["compile", "layers", "open_session", "profile", "version"]


def compile(request: CompileRequest) -> Compiled:
    """Write an ONNX model as `STEM.xml` and `STEM.bin`."""
    from edgewright.runtimes.openvino.compiler import compile_model

    return compile_model(request)


def profile(request: SessionRequest, feeds: Mapping[str, NDArray[Any]], runs: int, folder: Path) -> None:
    """Time each operator with OpenVINO's own counters and write the result to `folder`."""
    from edgewright.runtimes.openvino.profiler import profile_operators

    profile_operators(request, feeds, runs, folder)


def layers(folder: Path, graph: Sequence[GraphNode]) -> LayerReport:
    """Return the rows of the file in `folder`, joined to the source graph's nodes."""
    from edgewright.runtimes.openvino.rows import report_layers

    return report_layers(folder, graph)
