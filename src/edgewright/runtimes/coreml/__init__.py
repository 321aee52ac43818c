"""Core ML: ML programs in packages (.mlpackage), written on any system and run only on macOS.

Importing this module loads nothing of coremltools: each function imports what it needs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgewright.runtimes.contract import Rejected, Session
from edgewright.runtimes.wire import Compiled, CompileRequest, SessionRequest
from edgewright.schema.model import GraphNode
from edgewright.schema.run import LayerReport

DISTRIBUTION = "coremltools"
NO_TIMES = "Core ML does not report times of single operators through coremltools"


def version() -> str:
    """Return the version of coremltools, whose protobuf classes this imports. Raises ImportError if it is
    absent.
    """
    from edgewright.runtimes.coreml.library import load_library

    return str(load_library().__version__)


def compile(request: CompileRequest) -> Compiled:
    """Write an ML program from ONNX or from a torch source. Raises NotConvertible."""
    from edgewright.runtimes.coreml.compiler import compile_model

    return compile_model(request)


def open_session(request: SessionRequest) -> Session:
    """Load the package on macOS. Raises Rejected on other systems, and if Core ML rejects it."""
    from edgewright.runtimes.coreml.session import CoremlSession

    return CoremlSession(request)


def profile(request: SessionRequest, feeds: Mapping[str, NDArray[Any]], runs: int, folder: Path) -> None:
    """Raise Rejected: there are no times available."""
    raise Rejected(NO_TIMES)


def layers(folder: Path, graph: Sequence[GraphNode]) -> LayerReport:
    """Raise Rejected: `profile` writes nothing."""
    raise Rejected(NO_TIMES)
