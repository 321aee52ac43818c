"""OpenVINO's Python package, imported without its converter.

`import openvino` alone imports `openvino.tools.ovc`, which sends an "import" event through the package
`openvino_telemetry`. That package is barred in every process of ours (`edgewright/telemetry.py`): OpenVINO then uses a
stub. The converter is not imported either, since it is most of OpenVINO's import time; OpenVINO works without it.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

CONVERTER = "openvino.tools.ovc"


def import_library() -> Any:
    """Import the package `openvino` and return it. Raises ImportError if it is absent."""
    with hide_module(CONVERTER):
        return import_module("openvino")


@contextmanager
def hide_module(module: str) -> Iterator[None]:
    """Prevent the import of a module during the block. The converter is three quarters of OpenVINO's import time."""
    known = module in sys.modules
    sys.modules.setdefault(module, None)  # type: ignore[arg-type]  # None is how Python marks a barred module
    try:
        yield
    finally:
        if not known:
            del sys.modules[module]


def version() -> str:
    """Return the installed version. Raises ImportError if there is none."""
    return str(import_library().__version__).split("-")[0]


def get_error_text(error: Exception) -> str:
    """Return OpenVINO's message without the C++ file positions at its start."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith(("Exception from ", "Check '"))]
    return " ".join(kept or [line for line in lines if line] or [type(error).__name__])[:500]
