"""OpenVINO's Python package, imported without its converter.

`import openvino` alone imports `openvino.tools.ovc`, which sends an "import" event through the package
`openvino_telemetry`. That package is barred in every process of ours (`edgewright/telemetry.py`): OpenVINO then uses a
stub. The converter is not imported either, since it is most of OpenVINO's import time; OpenVINO works without it.
"""

import ctypes
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


def make_core() -> Any:
    """Return a new `openvino.Core` with its CPU plugin loaded."""
    with keep_signal_stack():
        core = import_library().Core()
        if "CPU" in core.available_devices:
            core.get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin
        return core


@contextmanager
def keep_signal_stack() -> Iterator[None]:
    """Keep the thread's alternate stack for signals while the block runs.

    The CPU plugin of each Core replaces that stack by its own. With two Cores that are released in the order of their
    creation, the stack of the second stays behind as a pointer to freed memory: Python's next signal handler in this
    thread then ends the process with SIGSEGV. The plugin restores nothing if its stack is no longer in use.
    """
    if sys.platform != "linux":
        yield
        return
    system, stack = ctypes.CDLL(None), _SignalStack()
    system.sigaltstack(None, ctypes.byref(stack))
    try:
        yield
    finally:
        system.sigaltstack(ctypes.byref(stack), None)


class _SignalStack(ctypes.Structure):
    """`stack_t` of sigaltstack(2)."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("bytes", ctypes.c_size_t))


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
