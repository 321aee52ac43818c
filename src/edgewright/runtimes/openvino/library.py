"""OpenVINO's Python package, imported so that it tells nobody.

`import openvino` alone imports `openvino.tools.ovc`, which sends an "import" event to Google Analytics through the
package `openvino_telemetry` and leaves an identifier of the user in the home folder; `convert_model` and `ovc` send
more. OpenVINO works without either module: it falls back to a stub where `openvino_telemetry` cannot be imported, and
leaves `convert_model` out where `openvino.tools.ovc` cannot be.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

TELEMETRY, CONVERTER = "openvino_telemetry", "openvino.tools.ovc"


def import_library() -> Any:
    """The package `openvino`, without telemetry in this process from now on; ImportError where it is absent.

    All code of ours that wants OpenVINO comes here: an import elsewhere would be too early.
    """
    forbid(TELEMETRY)
    with absent(CONVERTER):
        return import_module("openvino")


def forbid(module: str) -> None:
    """Let every later import of the module fail; one that is loaded already stays."""
    sys.modules.setdefault(module, None)  # type: ignore[arg-type]  # None is how Python marks what cannot be imported


@contextmanager
def absent(module: str) -> Iterator[None]:
    """The module cannot be imported for this while. The converter costs three quarters of OpenVINO's import time."""
    known = module in sys.modules
    forbid(module)
    try:
        yield
    finally:
        if not known:
            del sys.modules[module]


def version() -> str:
    """The installed version; ImportError where there is none."""
    return str(import_library().__version__).split("-")[0]


def tell_error(error: Exception) -> str:
    """What OpenVINO says, without the places in its C++ files that it begins with."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith(("Exception from ", "Check '"))]
    return " ".join(kept or [line for line in lines if line] or [type(error).__name__])[:500]
