"""Convolution and pooling over strides, pads, dilations and groups, each held against ONNX Runtime."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright.errors import ModelNotConvertible
from tests.models.onnx_files import node, value, weights, write_onnx
from tests.runtimes.litert.writer.compare import compare

FLOAT_DB = 80.0
QUICK = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
Draw = st.DrawFn


def check(nodes: list[Any], shape: tuple[int, ...], constants: list[Any], *, may_be_rejected: bool = True) -> None:
    """Check that the file equals ONNX Runtime, or is rejected if that is allowed."""
    with TemporaryDirectory() as folder:
        rank = len(shape)
        out = value("y", [None] * rank)
        path = write_onnx(Path(folder) / "m.onnx", nodes, [value("x", shape)], [out], constants)
        try:
            compared = compare(path)
        except ModelNotConvertible:
            if may_be_rejected:
                return
            raise
        assert compared.sqnr_db >= FLOAT_DB


@st.composite
def windows(draw: Draw, axes: int) -> dict[str, Any]:
    """Kernel, strides and pads, the pads smaller than the kernel as ONNX Runtime asks."""
    kernel = draw(st.lists(st.integers(1, 4), min_size=axes, max_size=axes))
    return {
        "kernel_shape": kernel,
        "strides": draw(st.lists(st.integers(1, 3), min_size=axes, max_size=axes)),
        "pads": [draw(st.integers(0, k - 1)) for k in kernel * 2],
    }


@QUICK
@given(st.data())
def test_convolutions(data: st.DataObject) -> None:
    axes = data.draw(st.integers(1, 2), "axes")
    attributes = data.draw(windows(axes), "windows")
    attributes["dilations"] = data.draw(st.lists(st.integers(1, 2), min_size=axes, max_size=axes), "dilations")
    group, per_group, outputs = (data.draw(st.integers(1, 4), name) for name in ("group", "per group", "outputs"))
    shape = (data.draw(st.integers(1, 2), "batch"), group * per_group, *([11, 13][:axes]))
    w = weights("w", group * outputs, per_group, *attributes["kernel_shape"])
    bias = weights("b", group * outputs, seed=1)
    nodes = [node("Conv", ["x", "w", "b"], ["c"], "conv", group=group, **attributes), node("Relu", ["c"], ["y"])]
    check(nodes, shape, [w, bias])


@QUICK
@given(st.data())
def test_pools(data: st.DataObject) -> None:
    axes = data.draw(st.integers(1, 2), "axes")
    attributes = data.draw(windows(axes), "windows")
    attributes["ceil_mode"] = data.draw(st.integers(0, 1), "ceil")
    op = data.draw(st.sampled_from(["MaxPool", "AveragePool"]), "op")
    if op == "AveragePool":
        attributes["count_include_pad"] = data.draw(st.integers(0, 1), "count")
    shape = (1, 3, *[data.draw(st.integers(5, 12), "size") for _ in range(axes)])
    check([node(op, ["x"], ["y"], "pool", **attributes)], shape, [])


@QUICK
@given(st.data())
def test_transposed_convolutions(data: st.DataObject) -> None:
    attributes = data.draw(windows(2), "windows")
    attributes["dilations"] = data.draw(st.lists(st.integers(1, 2), min_size=2, max_size=2), "dilations")
    attributes["output_padding"] = [data.draw(st.integers(0, s - 1)) for s in attributes["strides"]]
    w = weights("w", 3, 2, *attributes["kernel_shape"])
    nodes = [node("ConvTranspose", ["x", "w", "b"], ["y"], "up", **attributes)]
    check(nodes, (1, 3, 5, 6), [w, weights("b", 2, seed=1)])


@QUICK
@given(st.data())
def test_transposed_convolutions_over_three_axes(data: st.DataObject) -> None:
    attributes = data.draw(windows(3), "windows")
    attributes["output_padding"] = [data.draw(st.integers(0, s - 1)) for s in attributes["strides"]]
    inputs = ["x", "w", "b"] if data.draw(st.booleans(), "bias") else ["x", "w"]
    w = weights("w", 3, 2, *attributes["kernel_shape"])
    nodes = [node("ConvTranspose", inputs, ["y"], "up", **attributes)]
    check(
        nodes, (data.draw(st.integers(1, 2), "batch"), 3, 4, 3, 5), [w, weights("b", 2, seed=1)], may_be_rejected=False
    )


@QUICK
@given(st.data())
def test_reshapes_and_transposes_between_convolutions(data: st.DataObject) -> None:
    """The layout is carried through; what comes out is the same whatever the order of axes."""
    groups = data.draw(st.sampled_from([1, 2, 3, 6]), "groups")
    permutation = data.draw(st.permutations(range(5)), "permutation")
    back = data.draw(st.permutations(range(3)), "back")
    from tests.models.onnx_files import constant

    shapes = [
        constant("split", [1, groups, 6 // groups, 4, 5], "int64"),
        constant("flat", [6, 4, 5], "int64"),
    ]
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], "conv", kernel_shape=[1, 1]),
        node("Reshape", ["c", "split"], ["s"], "split"),
        node("Transpose", ["s"], ["t"], "shuffle", perm=list(permutation)),
        node("Reshape", ["t", "flat"], ["f"], "join"),
        node("Transpose", ["f"], ["y"], "back", perm=list(back)),
    ]
    constants = [weights("w", 6, 3, 1, 1), weights("b", 6, seed=1), *shapes]
    with TemporaryDirectory() as folder:
        path = write_onnx(
            Path(folder) / "m.onnx", nodes, [value("x", (1, 3, 4, 5))], [value("y", [None] * 3)], constants
        )
        assert compare(path).sqnr_db >= FLOAT_DB
