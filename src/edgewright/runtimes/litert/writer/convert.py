"""Conversion of an ONNX model by all stages."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgewright.errors import (
    EdgewrightError,
    ModelNotConvertible,
    ModelUnreadable,
    RuntimeMissing,
    find_full_disk_error,
)
from edgewright.formats.neighbors import get_op, list_inputs, list_outputs
from edgewright.runtimes.litert.writer.build import DTYPES, Builder, check_dtype
from edgewright.runtimes.litert.writer.check import Check, CheckedFile, Kind, Proof, check_file
from edgewright.runtimes.litert.writer.file import write_file
from edgewright.runtimes.litert.writer.graph import (
    CHECK,
    Graph,
    Node,
    OperatorRejected,
    Scales,
    Shape,
)
from edgewright.runtimes.litert.writer.metadata import NAME as METADATA
from edgewright.runtimes.litert.writer.metadata import TaskMetadata, append_labels, check_task, pack_task
from edgewright.runtimes.litert.writer.nodes import find_unknown, raise_rejections, write_nodes
from edgewright.runtimes.litert.writer.operators import TABLE
from edgewright.runtimes.litert.writer.operators.elementwise import copy_tensor
from edgewright.runtimes.litert.writer.passes.fuse import fuse_operators
from edgewright.runtimes.litert.writer.passes.half import halve_weights
from edgewright.runtimes.litert.writer.passes.integer_io import IntegerIo, make_io_integer
from edgewright.runtimes.litert.writer.passes.layout import make_channels_last, make_plain, permute_shape
from edgewright.runtimes.litert.writer.passes.quantize import quantize_graph
from edgewright.runtimes.litert.writer.passes.rewrite import REWRITTEN, reorder_flattened_weights, rewrite_nodes
from edgewright.runtimes.litert.writer.program import Program, Tensor
from edgewright.runtimes.litert.writer.reading.read import read_graph
from edgewright.runtimes.litert.writer.reading.shapes import FOLDED, resolve_shapes
from edgewright.runtimes.litert.writer.reading.unroll import CONTROL
from edgewright.runtimes.litert.writer.trial import TrialPort

Io = Literal["channels_last", "source", "integer"]
Width = Literal["fp32", "fp16"]
# Operators that LiteRT supports only with channels last: they determine the layout of image inputs.
SPATIAL = {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "Resize",
           "DepthToSpace", "SpaceToDepth", "InstanceNormalization", "LRN"}  # fmt: skip
QUANTIZING_OPS = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"}
# Operators through which the search for these continues.
TRANSPARENT = {"Add", "Sub", "Mul", "Div", "Cast", "Pad", "BatchNormalization", "QuantizeLinear", "DequantizeLinear",
               "Relu", "Clip", "Identity", "Unsqueeze", "Squeeze", "Concat", "Split", "Slice"}  # fmt: skip


@dataclass(frozen=True)
class ConvertedPort:
    """An input or output of the file, with its place in the source.

    `axes` maps the file's axes to the source's: with `(0, 2, 3, 1)` the file has NHWC for a source's NCHW.
    `dtype` is the source's; if the file has integers instead, `scales` has their quantization parameters.
    """

    name: str
    shape: Shape
    dtype: str
    axes: tuple[int, ...]
    scales: Scales | None = None


@dataclass(frozen=True)
class Converted:
    """A LiteRT file and its mapping to the source.

    `sources[i]` has the names of the ONNX nodes that the file's operator `i` computes, the main one first. `proof` is
    the result of the check, None without one. `notes` says which inputs and outputs are not integers although integers
    were requested, and which quantized weights are stored as floats, and why.
    """

    data: bytes
    inputs: tuple[ConvertedPort, ...]
    outputs: tuple[ConvertedPort, ...]
    operators: tuple[str, ...]
    sources: tuple[tuple[str, ...], ...]
    proof: Proof | None = None
    notes: tuple[str, ...] = ()


def onnx_to_litert(
    model: Path | str | bytes,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    io: Io = "channels_last",
    precision: Width = "fp32",
    check: Check | bool = "numbers",
    task: TaskMetadata | None = None,
) -> bytes:
    """Convert an ONNX model to the bytes of a LiteRT (TFLite) file. See `convert_onnx`."""
    return convert_onnx(model, shapes=shapes, io=io, precision=precision, check=check, task=task).data


def convert_onnx(
    model: Path | str | bytes,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    io: Io = "channels_last",
    precision: Width = "fp32",
    check: Check | bool = "numbers",
    task: TaskMetadata | None = None,
) -> Converted:
    """Convert an ONNX model (opset 11 or newer) to a LiteRT file with its mapping to the source.

    Args:
        model: the path of an ONNX file, or its bytes if it has no external weights.
        shapes: sizes of dynamic inputs, in ONNX's layout (NCHW).
        io: `channels_last` stores images with their channels last, as LiteRT's kernels require, if a
            convolution or a pool reads them; `source` keeps ONNX's order with a TRANSPOSE; `integer`
            is `channels_last` with integer I/O, if the model's inputs and outputs are quantized.
        precision: `fp16` stores large float weights as float16; computation stays in float32.
        check: check of the file in a separate process: `numbers` compares it with ONNX Runtime on seeded
            inputs, `load` only runs it once, `none` skips it. True is `numbers`, False is `none`.
        task: labels and normalization, which are stored as TFLite metadata.

    Raises:
        ModelNotConvertible: it has operators, attributes or types that the writer cannot express; all are named.
            Also a model that is not quantized, with `io="integer"`.
        ModelUnreadable: it is not an ONNX model, or damaged.
        ExternalDataMissing: weights are in a file that is absent.
        InputError: `shapes` or `task` does not fit the model.
        ModelRejected: LiteRT does not load or run the file, or its outputs differ from the source's.
        LimitReached: it needs more memory or time than allowed.
        OutputError: the disk is full.
        MemoryError: it does not fit into memory.
    """
    _need_litert()
    model = Path(model) if isinstance(model, str) else model
    with documented_errors():
        return _convert(model, shapes or {}, io, precision, OutputOptions(check, task or TaskMetadata()))


@dataclass(frozen=True)
class OutputOptions:
    """Options for writing a program: its check, and the task that is stored with it."""

    check: Check | bool
    task: TaskMetadata


def _convert(
    model: Path | bytes, shapes: Mapping[str, Sequence[int]], io: Io, precision: Width, end: OutputOptions
) -> Converted:
    graph = read_graph(model, shapes, {*TABLE, *FOLDED, *REWRITTEN, *CONTROL})
    unsettled = resolve_shapes(graph)
    raise_rejections(graph, unsettled | find_unknown(graph))
    kind = _find_kind(graph, precision)
    reshape_graph(graph)
    integer_io = _make_io_integer(graph, kind) if io == "integer" else IntegerIo()
    builder = Builder(graph)
    inputs = _describe_float_ports(place_inputs(builder, io), integer_io)
    raise_rejections(graph, write_nodes(builder))
    outputs = _describe_float_ports(place_outputs(builder, io), integer_io)
    program = builder.program
    program.drop_unused()
    if kind == "half" or precision == "fp16":
        halve_weights(program, exactly=precision == "fp32")
    steps = _find_steps(builder)
    builder.forget()
    converted = Converted(
        _write(program, inputs, outputs, end.task),
        tuple(inputs),
        tuple(outputs),
        tuple(operator.code for operator in program.operators),
        tuple(operator.sources for operator in program.operators),
        notes=(*graph.notes, *integer_io.notes),
    )
    how: Check = ("numbers" if end.check else "none") if isinstance(end.check, bool) else end.check
    return converted if how == "none" else replace(converted, proof=_check(converted, model, how, kind, steps))


def _write(
    program: Program, inputs: Sequence[ConvertedPort], outputs: Sequence[ConvertedPort], task: TaskMetadata
) -> bytes:
    if not task.labels and not task.mean and not task.std:
        return write_file(program)
    check_task(task, [one.shape for one in inputs], [one.shape for one in outputs])
    packed = pack_task(task, [(one.name, one.shape) for one in inputs], [one.name for one in outputs])
    data = write_file(program, {METADATA: packed})
    return append_labels(data, task.labels) if task.labels else data


def _find_kind(graph: Graph, precision: Width) -> Kind:
    if any(node.op in QUANTIZING_OPS for node in graph.nodes):
        return "quantized"
    return "half" if precision == "fp16" or np.float16 in graph.dtypes.values() else "float"


def _find_steps(b: Builder) -> dict[str, float]:
    """Return the scale of each output that is quantized or directly computed from a quantized value."""
    producers, steps = b.graph.producers(), {}
    for name in b.graph.outputs:
        producer = producers.get(name)
        scales = b.scales(name) or (
            b.scales(producer.inputs[0]) if producer and producer.op == "DequantizeLinear" else None
        )
        if scales is not None:
            steps[name] = float(np.max(scales.scale))
    return steps


def _check(converted: Converted, model: Path | bytes, how: Check, kind: Kind, steps: Mapping[str, float]) -> Proof:
    ends = [tuple(map(_as_entry, side)) for side in (converted.inputs, converted.outputs)]
    checked = CheckedFile(converted.data, model, kind, ends[0], ends[1], steps, converted.sources)
    return check_file(checked, how)


def _as_entry(one: ConvertedPort) -> TrialPort:
    if one.scales is None:
        return TrialPort(one.name, one.axes)
    return TrialPort(one.name, one.axes, float(one.scales.scale.flat[0]), int(one.scales.zero_point.flat[0]))


def _need_litert() -> None:
    """Raise RuntimeMissing if the package with the file's schema is not installed."""
    from importlib.util import find_spec

    if missing := [name for name in ("ai_edge_litert", "flatbuffers") if find_spec(name) is None]:
        raise RuntimeMissing(
            "LiteRT files cannot be written", f"{missing[0]} is not installed", "pip install 'edgewright[litert]'"
        )


def reshape_graph(graph: Graph) -> None:
    """Run the stages that change the whole graph."""
    with documented_errors():
        rewrite_nodes(graph)
        fuse_operators(graph)
        quantize_graph(graph)
        reorder_flattened_weights(graph)
    graph.drop_unused()


@contextmanager
def documented_errors() -> Iterator[None]:
    """Convert all exceptions except EdgewrightError and MemoryError; the original one is the cause.

    Operators that are known to be unsupported were rejected before, so the cause is a damaged model or a bug of
    the writer, as the error says.
    """
    try:
        yield
    except (EdgewrightError, MemoryError):
        raise
    except OperatorRejected as rejection:
        raise ModelNotConvertible(
            "the model cannot be written for LiteRT", str(rejection), rejection.help
        ) from rejection
    except OSError as error:
        raise find_full_disk_error(error) or ModelUnreadable("the model cannot be read", str(error)) from error
    except Exception as error:
        why = f"{type(error).__name__}: {str(error)[:300]}"
        raise ModelNotConvertible("the LiteRT writer failed on this model", why, CHECK) from error


# Inputs and outputs


def _make_io_integer(graph: Graph, kind: Kind) -> IntegerIo:
    if kind != "quantized":
        why = "it has no QuantizeLinear and DequantizeLinear at its inputs and outputs"
        raise ModelNotConvertible("io=integer: the model is not quantized", why, "edgewright quantize MODEL")
    return make_io_integer(graph)


def _describe_float_ports(ends: Sequence[ConvertedPort], integer_io: IntegerIo) -> list[ConvertedPort]:
    """Return the inputs or outputs of a file whose integers represent the source's floats."""
    return [
        replace(one, dtype="float32", scales=integer_io.scales[one.name]) if one.name in integer_io.scales else one
        for one in ends
    ]


def place_inputs(b: Builder, io: Io) -> list[ConvertedPort]:
    described = []
    spatial = _find_spatial(b.graph) if io != "source" else set()
    for name in b.graph.inputs:
        shape, dtype = b.shape(name), b.dtype(name)
        if dtype.name not in DTYPES:
            why = "LiteRT's kernels do not support it"
            raise ModelNotConvertible(f"input '{name}' is of {dtype}", why, "export the model in float32")
        layout = make_channels_last(len(shape)) if name in spatial else make_plain(len(shape))
        tensor = Tensor(name, permute_shape(shape, layout), dtype, None, b.scales(name))
        b.place(name, tensor, layout)
        b.program.inputs[name] = tensor
        described.append(ConvertedPort(name, tensor.shape, dtype.name, layout))
    return described


def _find_spatial(graph: Graph) -> set[str]:
    """Return the inputs of three or more axes that a spatial operator reads, directly or through layout-independent
    operators."""
    readers = graph.consumers()
    found = set()
    for name in graph.inputs:
        if len(graph.shapes[name]) >= 3 and reaches_spatial(readers, name):
            found.add(name)
    return found


def reaches_spatial(readers: Mapping[str, Sequence[Any]], name: str) -> bool:
    """Return whether a spatial operator reads this value, directly or through layout-independent operators."""
    seen, waiting = {name}, [name]
    while waiting:
        for node in readers.get(waiting.pop(), ()):
            if get_op(node) in SPATIAL and list_inputs(node)[0] in seen:
                return True
            if get_op(node) in TRANSPARENT:
                fresh = [output for output in list_outputs(node) if output not in seen]
                seen.update(fresh)
                waiting.extend(fresh)
    return False


def place_outputs(b: Builder, io: Io) -> list[ConvertedPort]:
    described = []
    is_spatial = any(node.op in SPATIAL for node in b.graph.nodes)
    for name in b.graph.outputs:
        b.node = Node("Output", [name], [name], {}, (name,))
        rank = b.rank(name)
        last = make_channels_last(rank)
        keep = io != "source" and is_spatial and rank >= 3 and b.layouts(name)[:1] == (last,)
        layout = last if keep else make_plain(rank)
        try:
            tensor = b.take(name, layout)
            check_dtype(b.dtype(name))
        except OperatorRejected as rejection:
            raise_rejections(b.graph, {name: rejection})
            raise
        tensor = _make_own_tensor(b, tensor)
        tensor.name = name
        b.program.outputs[name] = tensor
        described.append(ConvertedPort(name, tensor.shape, tensor.dtype.name, layout))
    return described


def _make_own_tensor(b: Builder, tensor: Tensor) -> Tensor:
    """Return a tensor that is no input, constant or other output."""
    taken = [*b.program.inputs.values(), *b.program.outputs.values()]
    return copy_tensor(b, tensor) if tensor.data is not None or any(tensor is other for other in taken) else tensor
