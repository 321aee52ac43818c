"""Reductions along axes."""

from collections.abc import Callable, Sequence

import numpy as np

from edgewright.runtimes.litert.writer.build import Builder
from edgewright.runtimes.litert.writer.graph import Node, OperatorRejected
from edgewright.runtimes.litert.writer.operators.elementwise import NARROW_DTYPES, copy_if_unchanged
from edgewright.runtimes.litert.writer.passes.layout import Layout, drop_axes, make_plain, move_axis_last
from edgewright.runtimes.litert.writer.program import Tensor

Reduce = Callable[..., Tensor]


def reduction(code: str) -> Callable[[Builder, Node], None]:
    """Return a writer of a reduction by one kernel: SUM, MEAN, REDUCE_MAX, REDUCE_MIN or REDUCE_PROD."""
    return composed(lambda b, x, reduce: reduce(code, x))


def composed(write_terms: Callable[[Builder, Tensor, Reduce], Tensor]) -> Callable[[Builder, Node], None]:
    """Return a writer of a reduction composed of kernels; `reduce` writes one along the node's axes."""

    def write(b: Builder, node: Node) -> None:
        source, target = node.inputs[0], node.outputs[0]
        axes = _read_axes(b, node)
        layout = b.layout(source)
        x = b.take(source, layout)
        keep = bool(node.attributes.get("keepdims", 1))
        result = layout if keep else drop_axes(layout, set(axes))

        def reduce(code: str, tensor: Tensor, *, keep: bool = keep) -> Tensor:
            return _reduce(b, code, tensor, [layout.index(axis) for axis in axes], keep=keep)

        if x.scales is not None:
            b.emit("MEAN", [x, _make_axes_constant(b, layout, axes)], [b.make(target, result)], {"keepDims": keep})
            return
        b.place(target, copy_if_unchanged(b, write_terms(b, x, reduce), node), result)

    return write


def _make_axes_constant(b: Builder, layout: Layout, axes: Sequence[int]) -> Tensor:
    return b.ints(sorted(layout.index(axis) for axis in axes))


def _read_axes(b: Builder, node: Node) -> list[int]:
    """Return the reduced axes; without axes all, or none with `noop_with_empty_axes`."""
    rank = b.rank(node.inputs[0])
    axes = b.read_ints("axes", 1)
    if not axes:
        return [] if node.attributes.get("noop_with_empty_axes", 0) else list(range(rank))
    return sorted({axis % rank for axis in axes})


def _reduce(b: Builder, code: str, x: Tensor, places: list[int], *, keep: bool) -> Tensor:
    if not places:
        return x
    shape = tuple(1 if at in places else size for at, size in enumerate(x.shape) if keep or at not in places)
    wide = b.cast(x, np.int32) if x.dtype.name in NARROW_DTYPES else x
    if x.dtype == np.bool_:
        code = {"REDUCE_MAX": "REDUCE_ANY", "REDUCE_MIN": "REDUCE_ALL"}.get(code, code)
    made = b.run(code, [wide, b.ints(sorted(places))], shape, options={"keepDims": keep})
    return b.cast(made, x.dtype)


def reduce_l1(b: Builder, x: Tensor, reduce: Reduce) -> Tensor:
    return reduce("SUM", b.run("ABS", [x], x.shape))


def reduce_sum_square(b: Builder, x: Tensor, reduce: Reduce) -> Tensor:
    return reduce("SUM", b.run("MUL", [x, x], x.shape))


def reduce_l2(b: Builder, x: Tensor, reduce: Reduce) -> Tensor:
    total = reduce_sum_square(b, x, reduce)
    return b.run("SQRT", [total], total.shape)


def reduce_log_sum(b: Builder, x: Tensor, reduce: Reduce) -> Tensor:
    total = reduce("SUM", x)
    return b.run("LOG", [total], total.shape)


def reduce_log_sum_exp(b: Builder, x: Tensor, reduce: Reduce) -> Tensor:
    """Write log(sum(exp(x))), with the largest number subtracted from the exponents so that none overflows."""
    largest = reduce("REDUCE_MAX", x, keep=True)
    total = reduce("SUM", b.run("EXP", [b.run("SUB", [x, largest], x.shape)], x.shape))
    log = b.run("LOG", [total], total.shape)
    return b.run("ADD", [log, b.reshape(largest, total.shape)], total.shape)


def arg_extreme(code: str) -> Callable[[Builder, Node], None]:
    """Return a writer of ARG_MAX or ARG_MIN; of equal numbers the first, or with a reversed axis the last."""

    def write(b: Builder, node: Node) -> None:
        source, target = node.inputs[0], node.outputs[0]
        axis = int(node.attributes.get("axis", 0)) % b.rank(source)
        layout = b.layout(source)
        x = b.take(source, layout)
        last = bool(node.attributes.get("select_last_index", 0))
        if last:
            x = b.run("REVERSE_V2", [x, b.ints([layout.index(axis)])], x.shape)
        keep = bool(node.attributes.get("keepdims", 1))
        shape = tuple(size for at, size in enumerate(x.shape) if layout[at] != axis)
        place = b.add_constant(np.asarray(layout.index(axis), np.int32))
        options = {"outputType": np.dtype(np.int64)}
        made = b.run(code, [x, place], shape, dtype=np.int64, options=options)
        if last:
            made = b.run("SUB", [b.number(b.shape(source)[axis] - 1, made), made], shape)
        if not keep:
            b.place(target, made, drop_axes(layout, {axis}))
            return
        b.place(target, b.reshape(made, tuple(1 if a == axis else b.shape(source)[a] for a in layout)), layout)

    return write


def hard_max(b: Builder, node: Node) -> None:
    """Write ONE_HOT of ARG_MAX along the axis stored last."""
    source, target = node.inputs[0], node.outputs[0]
    rank = b.rank(source)
    axis = int(node.attributes.get("axis", -1 if b.graph.opset >= 13 else 1)) % rank
    if b.dtype(source) != np.float32 or (b.graph.opset < 13 and axis != rank - 1):
        raise OperatorRejected("it has several axes, or a type other than float32")
    layout = move_axis_last(b.layout(source), axis)
    x = b.take(source, layout)
    options = {"outputType": np.dtype(np.int32)}
    place = b.add_constant(np.asarray(rank - 1, np.int32))
    best = b.run("ARG_MAX", [x, place], x.shape[:-1], dtype=np.int32, options=options)
    operands = [best, b.add_constant(np.asarray(x.shape[-1], np.int32)), b.number(1.0, x), b.number(0.0, x)]
    b.place(target, b.run("ONE_HOT", operands, x.shape, dtype=np.float32, options={"axis": -1}), layout)


def softmax(code: str) -> Callable[[Builder, Node], None]:
    """Return a writer of SOFTMAX or LOG_SOFTMAX over the axis stored last; before opset 13 over all axes from `axis`
    on."""

    def write(b: Builder, node: Node) -> None:
        source, target = node.inputs[0], node.outputs[0]
        rank = b.rank(source)
        axis = int(node.attributes.get("axis", -1 if b.graph.opset >= 13 else 1))
        axis = axis % rank if rank else 0
        options = {"beta": 1.0} if code == "SOFTMAX" else {}
        if b.graph.opset < 13 and axis != rank - 1:
            flat = b.reshape(
                b.take(source), (int(np.prod(b.shape(source)[:axis])), int(np.prod(b.shape(source)[axis:])))
            )
            b.place(
                target, b.reshape(b.run(code, [flat], flat.shape, options=options), b.shape(source)), make_plain(rank)
            )
            return
        layout = next((have for have in b.layouts(source) if have[-1] == axis), move_axis_last(b.layout(source), axis))
        b.emit(code, [b.take(source, layout)], [b.make(target, layout)], options)

    return write


def cumulative_sum(b: Builder, node: Node) -> None:
    source, target = node.inputs[0], node.outputs[0]
    axis = int(b.need_constant(1, "axis").reshape(-1)[0]) % b.rank(source)
    options = {name: bool(node.attributes.get(name, 0)) for name in ("exclusive", "reverse")}
    place = b.add_constant(np.asarray(axis, np.int32))
    b.emit("CUMSUM", [b.take(source), place], [b.make(target)], options)
