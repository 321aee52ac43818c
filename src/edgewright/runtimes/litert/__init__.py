"""LiteRT: TFLite models on the CPU, with the XNNPACK delegate or the built-in kernels.

Importing this module loads nothing of LiteRT: each function imports what it needs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgewright.runtimes.contract import Session
from edgewright.runtimes.wire import Compiled, CompileRequest, SessionRequest
from edgewright.schema.model import GraphNode
from edgewright.schema.run import LayerReport

DISTRIBUTION = "ai-edge-litert"


def version() -> str:
    """Return the version of ai-edge-litert, whose interpreter this imports. Raises ImportError if it is
    absent.
    """
    from importlib import import_module
    from importlib.metadata import version as installed_version

    import_module("ai_edge_litert.interpreter")
    return installed_version(DISTRIBUTION)


def compile(request: CompileRequest) -> Compiled:
    """Write a TFLite file with the converter in `request.options`. Raises NotConvertible."""
    from edgewright.runtimes.litert.compiler import compile_model

    return compile_model(request)


def open_session(request: SessionRequest) -> Session:
    """Load the model in LiteRT's interpreter. Raises Rejected."""
    from edgewright.runtimes.litert.session import LiteRtSession

    return LiteRtSession(request)


def profile(request: SessionRequest, feeds: Mapping[str, NDArray[Any]], runs: int, folder: Path) -> None:
    """Time each operator of `runs` inferences and write `trace.json` to `folder`. Raises Rejected."""
    from edgewright.runtimes.litert.profiling.profiler import profile_operators

    profile_operators(request, feeds, runs, folder)


def layers(folder: Path, graph: Sequence[GraphNode]) -> LayerReport:
    """Return the rows of `trace.json` in `folder`, joined to `graph`, the file's own
    (`formats.tflite.read_graph`).
    """
    from edgewright.runtimes.litert.profiling.rows import report_layers
    from edgewright.runtimes.litert.profiling.trace import read_trace

    return report_layers(read_trace(folder), graph)
