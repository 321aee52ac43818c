"""The whole road, and what it gives."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from edgewright.errors import EdgewrightError, ModelNotConvertible, ModelUnreadable, RuntimeMissing, full_disk
from edgewright.runtimes.litert.writer.border import Border, take_off_border
from edgewright.runtimes.litert.writer.build import DTYPES, Builder, check_dtype
from edgewright.runtimes.litert.writer.check import Check, Kind, Proof, Subject, check_file
from edgewright.runtimes.litert.writer.file import write_file
from edgewright.runtimes.litert.writer.fuse import fuse
from edgewright.runtimes.litert.writer.graph import CHECK, DAMAGE, Graph, Node, Refusal, Scales, Shape, misfit
from edgewright.runtimes.litert.writer.half import halve_weights
from edgewright.runtimes.litert.writer.layout import channels_last, plain, store
from edgewright.runtimes.litert.writer.metadata import NAME as METADATA
from edgewright.runtimes.litert.writer.metadata import Task, append_labels, check_task, pack_task
from edgewright.runtimes.litert.writer.operators import TABLE
from edgewright.runtimes.litert.writer.operators.elementwise import copy
from edgewright.runtimes.litert.writer.program import Program, Tensor
from edgewright.runtimes.litert.writer.quantise import quantise
from edgewright.runtimes.litert.writer.read import read_graph
from edgewright.runtimes.litert.writer.rewrite import REWRITTEN, rewrite, untie_flattening
from edgewright.runtimes.litert.writer.shapes import FOLDED, settle_shapes
from edgewright.runtimes.litert.writer.trial import Entry
from edgewright.runtimes.litert.writer.unroll import CONTROL

Io = Literal["channels_last", "source", "integer"]
Width = Literal["fp32", "fp16"]
# Operators that LiteRT has with channels last alone: they decide how images come in.
SPATIAL = {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "Resize",
           "DepthToSpace", "SpaceToDepth", "InstanceNormalization", "LRN"}  # fmt: skip
# Operators that leave out what holds no elements.
EMPTY_TAKEN = {"Concat", "Split"}
QUANTISING = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"}
# Operators that give as many results as the numbers decide, while a file's shapes are fixed.
UNSIZED = {"NonMaxSuppression", "NonZero", "Unique"}
CUT = "cut the model in front of it and do the rest in the application: how much it gives depends on numbers"
# Operators that the search for those looks through.
TRANSPARENT = {"Add", "Sub", "Mul", "Div", "Cast", "Pad", "BatchNormalization", "QuantizeLinear", "DequantizeLinear",
               "Relu", "Clip", "Identity", "Unsqueeze", "Squeeze", "Concat", "Split", "Slice"}  # fmt: skip


@dataclass(frozen=True)
class Output:
    """How one input or output of the source lies in the file.

    `axes` maps the file's axes to the source's: `(0, 2, 3, 1)` says that the file holds NHWC of a source's NCHW.
    `dtype` is the source's: where the file has integers instead, `scales` says what they stand for.
    """

    name: str
    shape: Shape
    dtype: str
    axes: tuple[int, ...]
    scales: Scales | None = None


@dataclass(frozen=True)
class Converted:
    """A LiteRT file and how it belongs to its source.

    `sources[i]` names the ONNX nodes that the file's operator `i` stands for, the main one first. `proof` is what
    the check found, None where there was none. `notes` say which inputs and outputs are no integers where integers
    were asked for, and why.
    """

    data: bytes
    inputs: tuple[Output, ...]
    outputs: tuple[Output, ...]
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
    task: Task | None = None,
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
    task: Task | None = None,
) -> Converted:
    """Convert an ONNX model (opset 11 or newer) to a LiteRT file, with the record of how the two belong together.

    Args:
        model: the path of an ONNX file, or its bytes where it keeps no weights beside it.
        shapes: sizes of the inputs that the model leaves open, as ONNX has them (NCHW).
        io: `channels_last` stores images with their channels last, as LiteRT's kernels want them, wherever a
            convolution or a pool reads them; `source` keeps ONNX's order by a TRANSPOSE at the border; `integer`
            is `channels_last`, and takes and gives the integers of a quantised model where its border is quantised.
        precision: `fp16` stores large float weights as float16; computation stays in float32.
        check: before the file is given, in a process of its own: `numbers` holds it against ONNX Runtime on seeded
            inputs, `load` only runs it once, `none` leaves it unproven. True is `numbers`, False is `none`.
        task: labels and normalisation, which are stored as TFLite metadata.

    Raises:
        ModelNotConvertible: it holds operators, attributes or types that the writer cannot express; all are named.
            With `io="integer"` also a model that is not quantised.
        ModelUnreadable: it is no ONNX model, or a damaged one.
        ExternalDataMissing: weights lie in a file that is absent.
        InputError: `shapes` or `task` does not fit the model.
        ModelRejected: LiteRT does not load or run what was written, or its numbers are not the source's.
        LimitReached: it needs more memory or time than is allowed.
        OutputError: the disk is full.
        MemoryError: it does not fit into memory.
    """
    need_litert()
    model = Path(model) if isinstance(model, str) else model
    with documented_errors():
        return _convert(model, shapes or {}, io, precision, Ending(check, task or Task()))


@dataclass(frozen=True)
class Ending:
    """What is done with a program that is written: how it is checked, and the task that goes along."""

    check: Check | bool
    task: Task


def _convert(
    model: Path | bytes, shapes: Mapping[str, Sequence[int]], io: Io, precision: Width, end: Ending
) -> Converted:
    graph = read_graph(model, shapes, {*TABLE, *FOLDED, *REWRITTEN, *CONTROL})
    unsettled = settle_shapes(graph)
    refuse_all(graph, unsettled | find_unknown(graph))
    kind = _find_kind(graph, precision)
    reshape_graph(graph)
    border = _take_border(graph, kind) if io == "integer" else Border()
    builder = Builder(graph)
    inputs = tell_reals(place_inputs(builder, io), border)
    refuse_all(graph, write_nodes(builder))
    outputs = tell_reals(take_outputs(builder, io), border)
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
        notes=tuple(border.notes),
    )
    how: Check = ("numbers" if end.check else "none") if isinstance(end.check, bool) else end.check
    return converted if how == "none" else replace(converted, proof=_check(converted, model, how, kind, steps))


def _write(program: Program, inputs: Sequence[Output], outputs: Sequence[Output], task: Task) -> bytes:
    if not task.labels and not task.mean and not task.std:
        return write_file(program)
    check_task(task, [one.shape for one in inputs], [one.shape for one in outputs])
    packed = pack_task(task, [(one.name, one.shape) for one in inputs], [one.name for one in outputs])
    data = write_file(program, {METADATA: packed})
    return append_labels(data, task.labels) if task.labels else data


def _find_kind(graph: Graph, precision: Width) -> Kind:
    if any(node.op in QUANTISING for node in graph.nodes):
        return "quantised"
    return "half" if precision == "fp16" or np.float16 in graph.dtypes.values() else "float"


def _find_steps(b: Builder) -> dict[str, float]:
    """The scale of each output that is quantised, or that comes straight from a quantised value."""
    makers, steps = b.graph.producers(), {}
    for name in b.graph.outputs:
        maker = makers.get(name)
        scales = b.scales(name) or (b.scales(maker.inputs[0]) if maker and maker.op == "DequantizeLinear" else None)
        if scales is not None:
            steps[name] = float(np.max(scales.scale))
    return steps


def _check(converted: Converted, model: Path | bytes, how: Check, kind: Kind, steps: Mapping[str, float]) -> Proof:
    ends = [tuple(map(_as_entry, side)) for side in (converted.inputs, converted.outputs)]
    subject = Subject(converted.data, model, kind, ends[0], ends[1], steps, converted.sources)
    return check_file(subject, how)


def _as_entry(one: Output) -> Entry:
    if one.scales is None:
        return Entry(one.name, one.axes)
    return Entry(one.name, one.axes, float(one.scales.scale.flat[0]), int(one.scales.zero_point.flat[0]))


def need_litert() -> None:
    """RuntimeMissing where the package is not installed whose schema the file is written with."""
    from importlib.util import find_spec

    if missing := [name for name in ("ai_edge_litert", "flatbuffers") if find_spec(name) is None]:
        raise RuntimeMissing(
            "LiteRT files cannot be written", f"{missing[0]} is not installed", "pip install 'edgewright[litert]'"
        )


# Nodes


def reshape_graph(graph: Graph) -> None:
    """The stations that change the graph as a whole."""
    with documented_errors():
        rewrite(graph)
        fuse(graph)
        quantise(graph)
        untie_flattening(graph)
    graph.drop_unused()


@contextmanager
def documented_errors() -> Iterator[None]:
    """Let nothing but EdgewrightError and MemoryError out; what was raised instead stays the cause.

    Every operator that is known to stand in the way was refused by its name before. What is left is a damaged model,
    or a fault of the writer, which the error admits.
    """
    try:
        yield
    except (EdgewrightError, MemoryError):
        raise
    except Refusal as refusal:
        raise ModelNotConvertible("the model cannot be written for LiteRT", str(refusal), refusal.help) from refusal
    except OSError as error:
        raise full_disk(error) or ModelUnreadable("the model cannot be read", str(error)) from error
    except Exception as error:
        why = f"{type(error).__name__}: {str(error)[:300]}"
        raise ModelNotConvertible("the LiteRT writer failed on this model", why, CHECK) from error


def find_unknown(graph: Graph) -> dict[str, Refusal]:
    """The refusals of operators that neither the table has nor an earlier station takes out."""
    known = {*TABLE, *FOLDED, *REWRITTEN, *CONTROL}
    return {node.name: _refuse_operator(node) for node in graph.nodes if node.domain or node.op not in known}


def write_nodes(b: Builder) -> dict[str, Refusal]:
    """Write all nodes; the refusals by node name."""
    refusals: dict[str, Refusal] = {}
    for node in b.graph.nodes:
        b.node = node
        missing = [name for name in node.inputs if name and name not in b.placed and name not in b.graph.constants]
        if missing and not (node.op in EMPTY_TAKEN and all(0 in b.shape(name) for name in missing)):
            if TABLE.get(node.op) is None or node.domain:
                refusals[node.name] = _refuse_operator(node)
            continue
        try:
            _write_node(b, node)
        except Refusal as refusal:
            refusals[node.name] = refusal
        except DAMAGE as error:
            refusals[node.name] = misfit(error)
    return refusals


def _write_node(b: Builder, node: Node) -> None:
    write = TABLE.get(node.op) if not node.domain else None
    if write is None:
        raise _refuse_operator(node)
    if all(0 in b.shape(name) for name in node.outputs if name):
        return  # whoever reads it is refused, or can do without
    for name in (*node.inputs, *node.outputs) if node.op not in EMPTY_TAKEN else ():
        if name and 0 in b.shape(name) and b.constant(name) is None:
            raise Refusal(f"'{name}' holds no elements", "LiteRT has no empty tensors")
    write(b, node)


def _refuse_operator(node: Node) -> Refusal:
    where = f" of domain '{node.domain}'" if node.domain else ""
    reason = f"operator {node.op}{where} is not in the writer's table"
    return Refusal(reason, CUT if node.op in UNSIZED and not node.domain else "docs/litert-coverage.md lists what is")


def refuse_all(graph: Graph, refusals: Mapping[str, Refusal]) -> None:
    """Raise one error that names every node that stands in the way."""
    if not refusals:
        return
    by_name = {node.name: node for node in graph.nodes}
    cause = next((refusal.__cause__ for refusal in refusals.values() if refusal.__cause__), None)
    lines = []
    for name, refusal in refusals.items():
        node = by_name.get(name)
        place = f" ({node.location})" if node and node.location else ""
        lines.append(f"{node.op if node else 'node'} '{name}'{place}: {refusal}")
    helps = dict.fromkeys(refusal.help for refusal in refusals.values() if refusal.help)
    count = len(refusals)
    raise ModelNotConvertible(
        f"{count} operator{'s' if count > 1 else ''} cannot be written for LiteRT", "\n".join(lines), "; ".join(helps)
    ) from cause


# The border


def _take_border(graph: Graph, kind: Kind) -> Border:
    if kind != "quantised":
        why = "it has no QuantizeLinear and DequantizeLinear, whose integers could be taken and given"
        raise ModelNotConvertible("io=integer: the model is not quantised", why, "edgewright quantize MODEL")
    return take_off_border(graph)


def tell_reals(ends: Sequence[Output], border: Border) -> list[Output]:
    """The ends of a file whose integers stand for the source's floats, as such."""
    return [
        replace(one, dtype="float32", scales=border.scales[one.name]) if one.name in border.scales else one
        for one in ends
    ]


def place_inputs(b: Builder, io: Io) -> list[Output]:
    described = []
    spatial = find_spatial(b.graph) if io != "source" else set()
    for name in b.graph.inputs:
        shape, dtype = b.shape(name), b.dtype(name)
        if dtype.name not in DTYPES:
            why = "LiteRT's kernels do not compute with it"
            raise ModelNotConvertible(f"input '{name}' is of {dtype}", why, "export the model in float32")
        layout = channels_last(len(shape)) if name in spatial else plain(len(shape))
        tensor = Tensor(name, store(shape, layout), dtype, None, b.scales(name))
        b.place(name, tensor, layout)
        b.program.inputs[name] = tensor
        described.append(Output(name, tensor.shape, dtype.name, layout))
    return described


def find_spatial(graph: Graph) -> set[str]:
    """The inputs of three axes and more that a spatial operator reads, maybe through some that do not care."""
    readers = graph.consumers()
    found = set()
    for name in graph.inputs:
        if len(graph.shapes[name]) >= 3 and _reaches(readers, name):
            found.add(name)
    return found


def _reaches(readers: Mapping[str, Sequence[Node]], name: str) -> bool:
    seen, waiting = {name}, [name]
    while waiting:
        for node in readers.get(waiting.pop(), ()):
            if node.op in SPATIAL and node.inputs[0] in seen:
                return True
            if node.op in TRANSPARENT:
                fresh = [output for output in node.outputs if output not in seen]
                seen.update(fresh)
                waiting.extend(fresh)
    return False


def take_outputs(b: Builder, io: Io) -> list[Output]:
    described = []
    is_spatial = any(node.op in SPATIAL for node in b.graph.nodes)
    for name in b.graph.outputs:
        b.node = Node("Output", [name], [name], {}, (name,))
        rank = b.rank(name)
        last = channels_last(rank)
        keep = io != "source" and is_spatial and rank >= 3 and b.layouts(name)[:1] == (last,)
        layout = last if keep else plain(rank)
        try:
            tensor = b.take(name, layout)
            check_dtype(b.dtype(name))
        except Refusal as refusal:
            refuse_all(b.graph, {name: refusal})
            raise
        tensor = _own(b, tensor)
        tensor.name = name
        b.program.outputs[name] = tensor
        described.append(Output(name, tensor.shape, tensor.dtype.name, layout))
    return described


def _own(b: Builder, tensor: Tensor) -> Tensor:
    """A tensor that no input, constant or other output is."""
    taken = [*b.program.inputs.values(), *b.program.outputs.values()]
    return copy(b, tensor) if tensor.data is not None or any(tensor is other for other in taken) else tensor
