"""MNN: compiles ONNX to MNN's own format and runs it on the CPU, or on a GPU where the build has that backend.

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
    """Write an MNN file by MNN's converter; NotConvertible names the operators that it does not know."""
    from edgewright.runtimes.mnn.compiler import compile_model

    return compile_model(request)


def open_session(request: SessionRequest) -> Session:
    """Load the model in MNN's interpreter; Rejected where it rejects."""
    from edgewright.runtimes.mnn.session import MnnSession

    return MnnSession(request)


def profile(request: SessionRequest, feeds: Mapping[str, NDArray[Any]], runs: int, folder: Path) -> None:
    """Time each operator of `runs` inferences and leave `trace.json` in `folder`; Rejected as `open_session`."""
    from edgewright.runtimes.mnn.profiler import profile_operators

    profile_operators(request, feeds, runs, folder)


def layers(folder: Path, graph: Sequence[GraphNode]) -> LayerReport:
    """Return the rows that `trace.json` in `folder` reports, joined to the source graph's nodes."""
    from edgewright.runtimes.mnn.rows import report_layers

    return report_layers(folder, graph)
