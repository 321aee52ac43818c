"""Resize by LiteRT's kernels if they read the positions that ONNX defines, else by gathers and products."""

from collections.abc import Callable

import numpy as np

from edgewright.runtimes.litert.writer.build import Builder
from edgewright.runtimes.litert.writer.graph import Graph, Node, OperatorRejected
from edgewright.runtimes.litert.writer.passes.layout import make_channels_last
from edgewright.runtimes.litert.writer.program import Tensor
from edgewright.runtimes.litert.writer.reading.shapes import evaluate_node
from edgewright.schema.arrays import Array

# Kernels interpolate at float32 positions, so that rules are equal if they differ by less than this.
SAME_POSITION_TOLERANCE = 1e-5


def resize(b: Builder, node: Node) -> None:
    """Write RESIZE_BILINEAR, RESIZE_NEAREST_NEIGHBOR, or GATHER and a product with a constant matrix along each
    axis."""
    source, target = node.inputs[0], node.outputs[0]
    attributes = node.attributes
    if attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise OperatorRejected("keep_aspect_ratio_policy other than stretch")
    if (b.dtype(source) != np.float32 and b.scales(source) is None) or b.rank(source) not in (3, 4):
        raise OperatorRejected("only float images of three or four axes are resized")
    rank = b.rank(source)
    old, new = b.shape(source), b.shape(target)
    if old[:2] != new[:2]:
        raise OperatorRejected("it resizes the batch or the channels")
    scales = _read_scales(b, node, old, new)
    layout = make_channels_last(rank)
    x = b.take(source, layout)
    if attributes.get("antialias", 0) or attributes.get("mode") == "cubic":
        b.place(target, _multiply(b, node, x, old, scales), layout)
        return
    if attributes.get("mode", "nearest") == "nearest":
        places = [_find_nearest_positions(node, old[a], new[a], scales[a]) for a in range(2, rank)]
        b.place(target, _pick(b, x, places), layout)
        return
    if attributes.get("mode") != "linear":
        raise OperatorRejected(f"mode '{attributes.get('mode')}'")
    lines = [_find_linear_positions(node, old[a], new[a], scales[a]) for a in range(2, rank)]
    b.place(target, _interpolate(b, x, lines), layout)


def has_kernel(graph: Graph, node: Node) -> bool:
    """Return whether RESIZE_BILINEAR or RESIZE_NEAREST_NEIGHBOR computes it, which int8 requires."""
    trial = Builder(graph, node=node)
    shape, stored = graph.shapes[node.inputs[0]], Tensor("", (), np.dtype(np.float32))
    stored.shape = (shape[0], *shape[2:], shape[1])
    trial.placed[node.inputs[0]] = {make_channels_last(len(shape)): stored}
    try:
        resize(trial, node)
    except (OperatorRejected, KeyError, IndexError, ValueError):
        return False
    return [operator.code for operator in trial.program.operators] in (["RESIZE_BILINEAR"], ["RESIZE_NEAREST_NEIGHBOR"])


def _multiply(b: Builder, node: Node, x: Tensor, old: tuple[int, ...], scales: list[float]) -> Tensor:
    """Write a product with a constant matrix along each axis that changes."""
    for axis in range(2, len(old)):
        new = b.shape(node.outputs[0])[axis]
        matrix = _find_matrix(b, node, old[axis], new, scales[axis])
        if len(matrix) != new:
            raise OperatorRejected("scales that give a fractional size")
        if not np.array_equal(matrix, np.eye(old[axis])):
            at = axis - 1
            before, behind = int(np.prod(x.shape[:at])), int(np.prod(x.shape[at + 1 :]))
            rows = b.reshape(x, (before, x.shape[at], behind))
            weights = b.add_constant(np.broadcast_to(matrix.astype(np.float32), (before, *matrix.shape)).copy())
            made = b.run("BATCH_MATMUL", [weights, rows], (before, len(matrix), behind), options=PLAIN_PRODUCT)
            x = b.reshape(made, (*x.shape[:at], len(matrix), *x.shape[at + 1 :]))
    return x


PLAIN_PRODUCT = {"adjX": False, "adjY": False}
MOST_MATRIX = 2**22


def _find_matrix(b: Builder, node: Node, old: int, new: int, scale: float) -> Array:
    """Return the weight of each source element in each result element, [new, old], by onnx's own definition on
    unit vectors."""
    if node.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize" or old * old * scale > MOST_MATRIX:
        raise OperatorRejected("an interpolated crop of the image, or an image too large for a matrix product")
    graph = Graph(b.graph.opset, [], [], [])
    graph.set_constant("units", np.eye(old, dtype=np.float32)[:, None])
    sized = abs(scale - new / old) < SAME_POSITION_TOLERANCE / old
    graph.set_constant("sizes", np.asarray([old, 1, new], np.int64))
    graph.set_constant("scales", np.asarray([1, 1, scale], np.float32))
    own = {key: value for key, value in node.attributes.items() if key not in {"axes", "keep_aspect_ratio_policy"}}
    single = Node("Resize", ["units", "", *(["", "sizes"] if sized else ["scales"])], ["made"], own)
    graph.shapes["made"] = (old, 1, new)
    graph.dtypes["made"] = np.dtype(np.float32)
    return np.asarray(evaluate_node(graph, single)[0][:, 0].T)


def _read_scales(b: Builder, node: Node, old: tuple[int, ...], new: tuple[int, ...]) -> list[float]:
    """Return the scale of each axis; the ratio of sizes if these are given."""
    position = 2
    ratios = [n / o for o, n in zip(old, new, strict=True)]
    if not node.has(position) or (node.has(3) and b.shape(node.inputs[3])[0]):
        return ratios
    given = [float(v) for v in b.need_constant(position, "scales").reshape(-1)]
    axes = b.read_ints("axes") or list(range(len(given)))
    for axis, scale in zip(axes, given, strict=False):
        ratios[axis % len(old)] = scale
    return ratios


def _find_positions(node: Node, old: int, new: int, scale: float, kind: type[np.floating] = np.float64) -> Array:
    """Return the source position of each result element, by the node's coordinate mode."""
    mode = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    at = np.arange(new, dtype=kind)
    scale = kind(scale)  # type: ignore[assignment]  # keeps numpy at this precision
    if mode == "align_corners":
        if abs(scale * old - new) > SAME_POSITION_TOLERANCE:
            raise OperatorRejected(
                "align_corners with scales that give a fractional size, which ONNX "
                "implementations interpret differently"
            )
        return at * (old - 1) / (new - 1) if new > 1 else np.zeros(1)
    if mode == "asymmetric":
        return at / scale
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and new > 1):
        return (at + 0.5) / scale - 0.5
    if mode == "pytorch_half_pixel":
        return np.zeros(1)
    if mode == "half_pixel_symmetric":
        adjustment = new / (new if scale * old == new else scale * old)
        center = old / 2
        return center * (1 - adjustment) + (at + 0.5) / scale - 0.5
    raise OperatorRejected(f"coordinate mode '{mode}'")


def _find_nearest_positions(node: Node, old: int, new: int, scale: float) -> Array:
    places = _find_positions(node, old, new, scale)
    rule = node.attributes.get("nearest_mode", "round_prefer_floor")
    rules: dict[str, Callable[[Array], Array]] = {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda v: np.ceil(v - 0.5),
        "round_prefer_ceil": lambda v: np.floor(v + 0.5),
    }
    if rule not in rules:
        raise OperatorRejected(f"nearest mode '{rule}'")
    chosen = np.asarray(np.clip(rules[rule](places), 0, old - 1), np.int64)
    symmetric = node.attributes.get("coordinate_transformation_mode") == "half_pixel_symmetric"
    slack = SAME_POSITION_TOLERANCE if symmetric else 0.0  # implementations sum in different orders
    if any(not np.array_equal(chosen, np.clip(rules[rule](places + s), 0, old - 1)) for s in (slack, -slack)):
        raise OperatorRejected("rounding errors decide which element is the nearest")
    coarse = np.clip(rules[rule](_find_positions(node, old, new, scale, np.float32)), 0, old - 1)
    if not np.array_equal(chosen, coarse):
        raise OperatorRejected("rounding errors of its scale decide which element is the nearest")
    return chosen


def _pick(b: Builder, x: Tensor, places: list[Array]) -> Tensor:
    """Write RESIZE_NEAREST_NEIGHBOR if it picks these indices, else a GATHER along each axis that changes."""
    sizes = x.shape[1:-1]
    if len(sizes) == 2:
        for centered in (False, True):
            offset = 0.5 if centered else 0.0
            kernel = [_find_kernel_positions(old, len(p), offset) for old, p in zip(sizes, places, strict=True)]
            if all(np.array_equal(k, p) for k, p in zip(kernel, places, strict=True)):
                return _run(b, "RESIZE_NEAREST_NEIGHBOR", x, places, centered=centered, aligned=False)
    for axis, at in enumerate(places, start=1):
        if not np.array_equal(at, np.arange(x.shape[axis])):
            shape = (*x.shape[:axis], len(at), *x.shape[axis + 1 :])
            x = b.run("GATHER", [x, b.ints(at.tolist())], shape, options={"axis": axis, "batchDims": 0})
    return x


def _find_kernel_positions(old: int, new: int, offset: float) -> Array:
    """Return the indices that RESIZE_NEAREST_NEIGHBOR picks, computed in float32 like the kernel."""
    ratio = np.float32(old) / np.float32(new)
    at = np.floor((np.arange(new, dtype=np.float32) + np.float32(offset)) * ratio)
    return np.asarray(np.minimum(at, old - 1), np.int64)


def _find_linear_positions(node: Node, old: int, new: int, scale: float) -> Array:
    """Return the positions to interpolate at, clamped to the image."""
    return np.clip(_find_positions(node, old, new, scale), 0, old - 1)


def _interpolate(b: Builder, x: Tensor, lines: list[Array]) -> Tensor:
    """Write RESIZE_BILINEAR if it reads at these positions, else a product with a matrix along each axis."""
    sizes = x.shape[1:-1]
    if len(sizes) == 2:
        for centered, aligned in ((True, False), (False, True), (False, False)):
            kernel = [
                _find_bilinear_positions(old, len(line), centered=centered, aligned=aligned)
                for old, line in zip(sizes, lines, strict=True)
            ]
            if all(
                np.allclose(k, line, rtol=0, atol=SAME_POSITION_TOLERANCE)
                for k, line in zip(kernel, lines, strict=True)
            ):
                return _run(b, "RESIZE_BILINEAR", x, lines, centered=centered, aligned=aligned)
    for axis, line in enumerate(lines, start=1):
        if not np.array_equal(line, np.arange(x.shape[axis])):
            x = _mix(b, x, axis, line)
    return x


def _find_bilinear_positions(old: int, new: int, *, centered: bool, aligned: bool) -> Array:
    at = np.arange(new, dtype=np.float64)
    if aligned and new > 1:
        places = at * (old - 1) / (new - 1)
    else:
        places = (at + 0.5) * old / new - 0.5 if centered else at * old / new
    return np.clip(places, 0, old - 1)


def _mix(b: Builder, x: Tensor, axis: int, line: Array) -> Tensor:
    """Interpolate […, size, …] to […, len(line), …] by two GATHERs and their weighted sum."""
    low = np.floor(line).astype(np.int64)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    shape = (*x.shape[:axis], len(line), *x.shape[axis + 1 :])
    along = [-1 if at == axis else 1 for at in range(len(shape))]
    share = (line - low).astype(np.float32).reshape(along)
    options = {"axis": axis, "batchDims": 0}
    near = b.run("GATHER", [x, b.ints(low.tolist())], shape, options=options)
    far = b.run("GATHER", [x, b.ints(high.tolist())], shape, options=options)
    near = b.run("MUL", [near, b.add_constant(1 - share)], shape)
    return b.run("ADD", [near, b.run("MUL", [far, b.add_constant(share)], shape)], shape)


def _run(b: Builder, code: str, x: Tensor, places: list[Array], *, centered: bool, aligned: bool) -> Tensor:
    sizes = [len(p) for p in places]
    options = {"alignCorners": aligned, "halfPixelCenters": centered}
    shape = (x.shape[0], *sizes, x.shape[-1])
    return b.run(code, [x, b.ints(sizes)], shape, scales=x.scales, options=options)
