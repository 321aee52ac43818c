"""ncnn: runs `.param` and `.bin` files on the CPU, and on Vulkan if there is one.

Importing this module loads nothing of ncnn: each function imports what it needs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgewright.runtimes.contract import Session
from edgewright.runtimes.wire import Compiled, CompileRequest, SessionRequest
from edgewright.schema.model import GraphNode
from edgewright.schema.run import LayerReport


def version() -> str:
    """Return the version of the installed library. Raises ImportError if it is absent."""
    from edgewright.runtimes.ncnn.session import import_ncnn

    return str(import_ncnn().__version__)


def compile(request: CompileRequest) -> Compiled:
    """Write `.param` and `.bin` from ONNX with pnnx. Raises NotConvertible with the unsupported nodes."""
    from edgewright.runtimes.ncnn.compiler import compile_model

    return compile_model(request)


def open_session(request: SessionRequest) -> Session:
    """Load the `.param` file and the `.bin` beside it. Raises Rejected."""
    from edgewright.runtimes.ncnn.session import NcnnSession

    return NcnnSession(request)


def profile(request: SessionRequest, feeds: Mapping[str, NDArray[Any]], runs: int, folder: Path) -> None:
    """Time each layer by computing its blobs one after the other, and write `trace.json` to `folder`."""
    from edgewright.runtimes.ncnn.profiler import profile_layers

    profile_layers(request, feeds, runs, folder)


def layers(folder: Path, graph: Sequence[GraphNode]) -> LayerReport:
    """Return the rows of `trace.json` in `folder`, joined to the source graph's nodes."""
    from edgewright.runtimes.ncnn.rows import report_layers

    return report_layers(folder, graph)
