"""MNN: compiles ONNX to MNN's own format and runs it on the CPU, or on a GPU if the build has that backend.

Importing this module loads nothing of MNN: each function imports what it needs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgewright.runtimes.contract import Session
from edgewright.runtimes.mnn.library import version
from edgewright.runtimes.wire import Compiled, CompileRequest, SessionRequest
from edgewright.schema.model import GraphNode
from edgewright.schema.run import LayerReport

__all__ = ["compile", "layers", "open_session", "profile", "version"]


def compile(request: CompileRequest) -> Compiled:
    """Write an MNN file with MNN's converter. Raises NotConvertible with the names of unsupported operators."""
    from edgewright.runtimes.mnn.compiler import compile_model

    return compile_model(request)


def open_session(request: SessionRequest) -> Session:
    """Load the model in MNN's interpreter. Raises Rejected."""
    from edgewright.runtimes.mnn.session import MnnSession

    return MnnSession(request)


def profile(request: SessionRequest, feeds: Mapping[str, NDArray[Any]], runs: int, folder: Path) -> None:
    """Time each operator of `runs` inferences and write `trace.json` to `folder`. Raises Rejected."""
    from edgewright.runtimes.mnn.profiler import profile_operators

    profile_operators(request, feeds, runs, folder)


def layers(folder: Path, graph: Sequence[GraphNode]) -> LayerReport:
    """Return the rows of `trace.json` in `folder`, joined to the source graph's nodes."""
    from edgewright.runtimes.mnn.rows import report_layers

    return report_layers(folder, graph)
