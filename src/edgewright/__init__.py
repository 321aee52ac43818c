"""Edgewright takes a trained model to phones and edge devices, and measures what it does there."""

from edgewright import telemetry

telemetry.switch_off()  # before any dependency is imported, in every process that runs code of ours

TYPE_CHECKING = False  # type checkers take it for true; importing typing would cost more than all the rest here
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Literal

__version__ = "0.1.0"


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
