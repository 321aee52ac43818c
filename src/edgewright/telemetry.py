"""Switches for the telemetry of dependencies, set in every process before any of them is imported.

`edgewright/__init__` calls `switch_off` before any other code of ours runs: in the command, in a
program that imports `edgewright`, in workers, and in isolated environments (`runtimes/launch.py` executes the package
too). Child processes of any program inherit the environment variables; barred modules stay
barred in each process that imports `edgewright`.

A new dependency needs a row here: docs/decisions/0011-what-dependencies-send.md.
"""

import os
import sys


class Switch:
    """The switch of one package's telemetry.

    Attributes:
        package: its distribution's name.
        sends: data that it sends or requests on its own, and when.
        variable: the environment variable that stops it, and its `value`; empty if there is none. They are given as
            `variable="NAME=VALUE"`.
        bars: modules whose import is prevented; the package works without them.
        loads: the module that must not be imported before `variable` is set, or at all in this process.
        barrier: text that says how it is stopped without a variable.
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
        "onnxruntime-genai",
        "usage events of its own, beside those of ONNX Runtime",
        loads="onnxruntime_genai",
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
        "flwr",
        "an event with the machine's identifier to its vendor at the start of simulations and servers; runs only in the"
        " environment flower",
        loads="flwr",
        variable="FLWR_TELEMETRY_ENABLED=0",
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

    A value that the user has set is replaced, so nothing enables the telemetry. A loaded module may have read its
    variable already; `is_off` then returns False.
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
