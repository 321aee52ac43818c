"""Switch off what dependencies send, in every process, before any of them is imported.

`edgewright/__init__` calls `switch_off`, so that it happens before anything else of ours runs: in the command, in a
program that imports `edgewright`, in workers, and in isolated environments (`runtimes/launch.py` executes the package
too). Environment variables also reach every child process, whatever program it runs; the modules that are barred stay
barred in each process that imports `edgewright`.

Whoever adds a dependency adds its row here: docs/decisions/0011-what-dependencies-send.md.
"""

import os
import sys


class Switch:
    """How one package is kept from sending.

    Attributes:
        package: its distribution's name.
        sends: what it sends or asks by itself, and when.
        variable: the environment variable that stops it; empty where there is none.
        value: what the variable is set to.
        bars: modules that cannot be imported from now on: the package works without them.
        loads: the module whose import comes too late for `variable`, or must not happen in this process.
        barrier: how it is stopped without a variable, in words.
    """

    __slots__ = ("barrier", "bars", "loads", "package", "sends", "value", "variable")

    def __init__(
        self,
        package: str,
        sends: str,
        *,
        loads: str,
        variable: str = "",
        bars: tuple[str, ...] = (),
        barrier: str = "",
    ) -> None:
        self.package = package
        self.sends = sends
        self.loads = loads
        self.variable, _, self.value = variable.partition("=")
        self.bars = bars
        self.barrier = barrier


SWITCHES: tuple[Switch, ...] = (
    Switch(
        "onnxruntime",
        "since 1.32, from every process that loads it: its version, models, sessions, the machine and a persistent"
        " identifier, from a separate thread; the identifier and a queue are stored in the user's cache folder",
        loads="onnxruntime",
        variable="ORT_DISABLE_TELEMETRY=1",
    ),
    Switch(
        "huggingface-hub",
        "which library uses it, on that library's request; installed with ExecuTorch and litert-torch",
        loads="huggingface_hub",
        variable="HF_HUB_DISABLE_TELEMETRY=1",
    ),
    Switch(
        "hf-xet",
        "statistics of each transfer; installed with huggingface-hub",
        loads="hf_xet",
        variable="HF_HUB_DISABLE_TELEMETRY=1",
    ),
    Switch(
        "pip",
        "a request for a newer pip to its index; runs only in `edgewright runtimes setup`",
        loads="pip",
        variable="PIP_DISABLE_PIP_VERSION_CHECK=1",
    ),
    Switch(
        "openvino",
        "an event to Google Analytics at each import and conversion, from a forked process; stores an identifier"
        " in the home folder",
        loads="openvino_telemetry",
        bars=("openvino_telemetry",),
        barrier="the module openvino_telemetry cannot be imported; OpenVINO uses its own stub",
    ),
    Switch(
        "MNN",
        "its Python tools install a package when they are imported, and send usage records with the machine's"
        " identifier",
        loads="MNN.tools",
        bars=("MNN.tools",),
        barrier="the module MNN.tools cannot be imported; the converter's extension module is called without it",
    ),
    Switch(
        "onnx2tf",
        "a request for an array of images for its own comparisons",
        loads="onnx2tf",
        barrier="loaded only in its converter's process, which finds the array on disk and has no network",
    ),
    Switch(
        "others",
        "depends on the package; covers all that follow the convention DO_NOT_TRACK",
        loads="",
        variable="DO_NOT_TRACK=1",
    ),
)

_too_late: set[str] = set()


def switch_off() -> None:
    """Set every variable and bar every module of the table, for this process and its children.

    A value that the user has set is replaced: nothing turns the sending on. What is loaded already may have read its
    variable, and `is_off` then says so.
    """
    for switch in SWITCHES:
        if switch.variable and os.environ.get(switch.variable) != switch.value:
            if switch.loads in sys.modules:
                _too_late.add(switch.package)
            os.environ[switch.variable] = switch.value
        for name in switch.bars:
            sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # None is how Python marks a barred module


def is_off(switch: Switch) -> bool:
    """Return whether the switch is in effect in this process."""
    if switch.variable:
        return os.environ.get(switch.variable) == switch.value and switch.package not in _too_late
    return sys.modules.get(switch.loads) is None
