"""Edgewright takes a trained model to phones and edge devices, and measures what it does there."""

from edgewright import telemetry

telemetry.switch_off()  # before any dependency is imported, in every process that runs code of ours

TYPE_CHECKING = False  # type checkers take it for true; importing typing would cost more than all the rest here
if TYPE_CHECKING:
    import sys
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any, Literal

    from edgewright.adaptive.budgets import Budget as Budget
    from edgewright.api.convert import analyze as analyze
    from edgewright.api.convert import compile as compile
    from edgewright.api.convert import distill as distill
    from edgewright.api.convert import prune as prune
    from edgewright.api.convert import quantize as quantize
    from edgewright.api.gate import gate as gate
    from edgewright.api.load import load as load
    from edgewright.api.measure import benchmark as benchmark
    from edgewright.api.measure import compare as compare
    from edgewright.api.measure import evaluate as evaluate
    from edgewright.api.measure import invoke as invoke
    from edgewright.api.records import list_devices as list_devices
    from edgewright.api.records import list_runs as list_runs
    from edgewright.api.records import load_run as load_run
    from edgewright.tasks.spec.task import Task as Task

    if sys.platform == "linux":
        from edgewright.adaptive.session import AdaptiveSession as AdaptiveSession

__version__ = "0.1.0"
# Modules of the public functions, which are imported on first use.
_EXPORTS = {
    "analyze": "edgewright.api.convert",
    "benchmark": "edgewright.api.measure",
    "compare": "edgewright.api.measure",
    "compile": "edgewright.api.convert",
    "distill": "edgewright.api.convert",
    "evaluate": "edgewright.api.measure",
    "gate": "edgewright.api.gate",
    "invoke": "edgewright.api.measure",
    "list_devices": "edgewright.api.records",
    "list_runs": "edgewright.api.records",
    "load": "edgewright.api.load",
    "load_run": "edgewright.api.records",
    "prune": "edgewright.api.convert",
    "quantize": "edgewright.api.convert",
    "AdaptiveSession": "edgewright.adaptive.session",
    "Budget": "edgewright.adaptive.budgets",
    "Task": "edgewright.tasks.spec.task",
}
# The stable interface; all else may change without notice.
__all__ = [
    "AdaptiveSession",
    "Budget",
    "Task",
    "analyze",
    "benchmark",
    "compare",
    "compile",
    "distill",
    "evaluate",
    "gate",
    "invoke",
    "list_devices",
    "list_runs",
    "load",
    "load_run",
    "onnx_to_litert",
    "prune",
    "quantize",
]


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    if name == "errors":  # the classes of all errors
        return import_module("edgewright.errors")
    if name not in _EXPORTS:
        raise AttributeError(f"module 'edgewright' has no attribute '{name}'")
    found = globals()[name] = getattr(import_module(_EXPORTS[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})


def onnx_to_litert(
    model: "Path | str | bytes",
    *,
    shapes: "Mapping[str, Sequence[int]] | None" = None,
    io: "Literal['channels_last', 'source', 'integer']" = "channels_last",
    precision: "Literal['fp32', 'fp16']" = "fp32",
    check: "Literal['numbers', 'load', 'none']" = "numbers",
) -> bytes:
    """Convert an ONNX model (opset 11 or newer) to the bytes of a LiteRT (TFLite) file; see docs/litert-writer.md.

    Args:
        model: the path of an ONNX file, or its bytes if it has no external weights.
        shapes: sizes of dynamic inputs, in ONNX's layout (NCHW).
        io: whether image inputs and outputs have their channels last, or the source's order; `integer` is the
            first with integer I/O of a quantized model.
        precision: fp16 stores large weights in half precision.
        check: check of the file in a child process: run and compared with the source in
            ONNX Runtime, run once, or nothing.

    Raises:
        ModelError: it cannot be read, or has operators that LiteRT does not support; all are named. With
            `io="integer"`, also a model that is not quantized.
        InputError: `shapes` does not fit the model.
        RuntimeMissing: the `litert` extra is not installed.
        OutputError: the disk is full.
        MemoryError: the model does not fit into memory.
    """
    from importlib import import_module

    # By name, so that the package itself knows of no runtime.
    convert = import_module("edgewright.runtimes.litert.writer").onnx_to_litert
    converted: bytes = convert(model, shapes=shapes, io=io, precision=precision, check=check)
    return converted
