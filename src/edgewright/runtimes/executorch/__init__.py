"""ExecuTorch: programs (.pte) whose operators run in XNNPACK if it supports them, else in ExecuTorch's own kernels.

Importing this module loads nothing of ExecuTorch: each function imports what it needs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgewright.runtimes.contract import Session
from edgewright.runtimes.wire import Compiled, CompileRequest, SessionRequest
from edgewright.schema.model import GraphNode
from edgewright.schema.run import LayerReport

DISTRIBUTION = "executorch"


def version() -> str:
    """Return the version of executorch, whose native part this imports. Raises ImportError if it is absent.

    Only the native part is imported, not the wheel's Python modules, which take seconds.
    """
    from importlib import import_module
    from importlib.metadata import version as installed_version

    import_module("torch")  # the native part is linked against its libraries
    import_module("executorch.extension.pybindings._C")
    return installed_version(DISTRIBUTION)


def compile(request: CompileRequest) -> Compiled:
    """Write a .pte from ONNX or from a torch source. Raises NotConvertible."""
    from edgewright.runtimes.executorch.compiler import compile_model

    return compile_model(request)


def open_session(request: SessionRequest) -> Session:
    """Load the program's method `forward`. Raises Rejected."""
    from edgewright.runtimes.executorch.session import ExecutorchSession

    return ExecutorchSession(request)


def profile(request: SessionRequest, feeds: Mapping[str, NDArray[Any]], runs: int, folder: Path) -> None:
    """Time each operator of `runs` inferences and write `trace.json` to `folder`. Raises Rejected."""
    from edgewright.runtimes.executorch.profiler import profile_operators

    profile_operators(request, feeds, runs, folder)


def layers(folder: Path, graph: Sequence[GraphNode]) -> LayerReport:
    """Return the rows of `trace.json` in `folder`, joined to the source's nodes."""
    from edgewright.runtimes.executorch.rows import report_layers
    from edgewright.runtimes.executorch.trace import read_trace

    return report_layers(read_trace(folder), graph)
