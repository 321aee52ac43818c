"""Every operator of the table computes the same as ONNX Runtime; others are rejected by name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from edgewright.errors import ModelNotConvertible
from tests.models.onnx_files import constant, node, value, weights, write_onnx

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns of its own insides


class Case(NamedTuple):
    """One node: its inputs' shapes, its constants by name, its attributes."""

    op: str
    shapes: Sequence[tuple[int, ...]]
    attributes: Mapping[str, Any] = {}
    constants: Mapping[str, Any] = {}
    order: Sequence[str] = ()
    outputs: int = 1
    opset: int = 18
    dtype: str = "FLOAT"
    positive: bool = False


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def floats(*shape: int, seed: int = 3) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.3).astype(np.float32)


IMAGE = (1, 4, 7, 6)
ONE = [IMAGE]
UNARY = "Abs Acos Asin Atan Ceil Cos Cosh Elu Erf Exp Floor HardSigmoid HardSwish LeakyRelu Mish Neg Relu Round Selu"
UNARY += " Sigmoid Sign Sin Sinh Softplus Softsign Tan Tanh Celu ThresholdedRelu Shrink Identity"
CASES = [
    *(Case(op, ONE) for op in UNARY.split() if op not in ("Acos", "Asin")),
    *(Case(op, ONE, positive=True) for op in ("Sqrt", "Log", "Reciprocal")),
    *(Case(op, [IMAGE, (4, 1, 1)]) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min")),
    Case("Div", [(3, 4)], constants={"c": np.full((1,), 3, np.int64)}, dtype="INT64"),
    Case("Mod", [(3, 4)], constants={"c": np.full((1,), 3, np.int64)}, dtype="INT64"),
    *(Case("Pow", ONE, constants={"c": np.float32(p)}, positive=True) for p in (2, 3, 0.5, 1.7)),
    Case("Clip", ONE, constants={"low": np.float32(0), "high": np.float32(0.5)}),
    Case("Clip", ONE, constants={"high": np.float32(0.5)}, order=("x0", "", "high")),
    Case("Clip", [IMAGE, (), ()]),
    Case("Clip", [IMAGE, ()], constants={"high": np.float32(0.5)}),
    Case("Clip", [IMAGE, ()], order=("x0", "", "x1")),
    Case("PRelu", ONE, constants={"s": floats(4, 1, 1)}),
    Case("PRelu", ONE, constants={"s": floats(1)}),
    Case("PRelu", ONE, constants={"s": floats(6)}),
    Case("Gelu", ONE, opset=20),
    Case("Gelu", ONE, {"approximate": "tanh"}, opset=20),
    Case("Cast", ONE, {"to": 7}),
    Case("Conv", ONE, {"pads": [1, 0, 0, 1], "strides": [2, 1]}, {"w": floats(8, 4, 3, 2), "b": floats(8)}),
    Case("Conv", ONE, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, {"w": floats(8, 4, 3, 3)}),
    Case("Conv", ONE, {"group": 4, "dilations": [2, 2]}, {"w": floats(4, 1, 3, 3)}),
    Case("Conv", [(2, 4, 15)], {"pads": [1, 1]}, {"w": floats(8, 4, 3)}),
    Case("ConvTranspose", ONE, {"strides": [2, 2], "pads": [1, 1, 1, 1]}, {"w": floats(4, 6, 3, 3), "b": floats(6)}),
    Case("ConvTranspose", ONE, {"strides": [2, 2], "output_padding": [1, 1]}, {"w": floats(4, 6, 3, 3)}),
    Case("ConvTranspose", ONE, {"strides": [2, 2], "pads": [0, 1, 1, 0]}, {"w": floats(4, 6, 3, 3)}),
    Case("ConvTranspose", ONE, {"strides": [2, 2], "auto_pad": "SAME_UPPER"}, {"w": floats(4, 6, 3, 3)}),
    Case("MaxPool", ONE, {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "strides": [2, 2]}),
    Case("MaxPool", ONE, {"kernel_shape": [3, 3], "ceil_mode": 1, "strides": [2, 2]}),
    Case("MaxPool", [(1, 4, 15)], {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
    Case("AveragePool", ONE, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    Case("AveragePool", ONE, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    Case("AveragePool", ONE, {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1], "strides": [2, 2]}),
    Case("GlobalAveragePool", ONE),
    Case("GlobalMaxPool", ONE),
    Case("BatchNormalization", ONE, {}, {"s": floats(4), "b": floats(4), "m": floats(4), "v": np.abs(floats(4)) + 1}),
    Case("InstanceNormalization", ONE, {}, {"s": floats(4), "b": floats(4)}),
    Case("LayerNormalization", ONE, {"axis": -1}, {"s": floats(6), "b": floats(6)}),
    Case("LayerNormalization", ONE, {"axis": 2}, {"s": floats(7, 6)}),
    Case("GroupNormalization", ONE, {"num_groups": 2}, {"s": floats(4), "b": floats(4)}, opset=21),
    Case("LRN", ONE, {"size": 3}),
    Case("LpNormalization", ONE, {"axis": 1}),
    *(Case(op, ONE, {"axis": 1}) for op in ("Softmax", "LogSoftmax")),
    Case("Softmax", ONE, {"axis": 1}, opset=12),
    Case("MatMul", [(2, 3, 4, 5), (2, 3, 5, 2)]),
    Case("MatMul", [(2, 3, 4, 5), (5, 2)]),
    Case("MatMul", [(2, 4, 5)], {}, {"w": floats(5, 3)}),
    Case("Gemm", [(3, 5)], {"alpha": 0.5, "beta": 2.0}, {"w": floats(5, 4), "b": floats(4)}),
    Case("Gemm", [(3, 5)], {"transB": 1}, {"w": floats(4, 5), "b": floats(3, 1)}),
    Case("Gemm", [(5, 3), (5, 4), (4,)], {"transA": 1, "beta": 0.3}),
    Case("Einsum", [(2, 3, 4), (2, 5, 4)], {"equation": "bic,bjc->bij"}),
    Case("Reshape", ONE, {}, {"s": ints(0, -1, 6)}),
    Case("Flatten", ONE, {"axis": 2}),
    Case("Transpose", ONE, {"perm": [0, 2, 3, 1]}),
    Case("Squeeze", ONE, {}, {"a": ints(0)}),
    Case("Unsqueeze", ONE, {}, {"a": ints(-1, 1)}),
    Case("Concat", [(1, 2, 3), (1, 4, 3)], {"axis": -2}),
    Case("Split", ONE, {"axis": 2}, {"s": ints(3, 4)}, outputs=2),
    Case("Split", ONE, {"axis": 2, "num_outputs": 3}, outputs=3),
    Case("Slice", ONE, {}, {"b": ints(1, -5), "e": ints(10, -1), "a": ints(2, 3), "s": ints(2, 1)}),
    Case("Slice", ONE, {}, {"b": ints(-1), "e": ints(-100), "a": ints(2), "s": ints(-1)}),
    Case("Slice", ONE, {}, {"b": ints(5), "e": ints(1), "a": ints(2), "s": ints(-2)}),
    Case("Gather", ONE, {"axis": 2}, {"i": ints(3, -1, 0)}),
    Case("Gather", ONE, {"axis": 2}, {"i": np.array(-2)}),
    Case("Gather", ONE, {"axis": 1}, {"i": np.array([[1, 2], [3, 0]])}),
    Case("GatherElements", [(3, 4)], {"axis": 1}, {"i": np.array([[0, -1], [2, 2], [1, 3]])}),
    Case("GatherND", [(3, 4)], {}, {"i": np.array([[0, 1], [2, 2]])}),
    Case("ScatterElements", [(3, 4)], {"axis": 1}, {"i": np.array([[0, 3]]), "u": floats(1, 2)}),
    Case("ScatterND", [(3, 4)], {}, {"i": np.array([[0], [2]]), "u": floats(2, 4)}),
    Case("Expand", [(3, 1)], {}, {"s": ints(2, 1, 4)}),
    Case("Tile", [(3, 2)], {}, {"r": ints(2, 3)}),
    Case("Pad", ONE, {}, {"p": ints(0, 0, 1, 2, 0, 0, 0, 1), "v": np.float32(0.5)}),
    *(Case("Pad", ONE, {"mode": mode}, {"p": ints(0, 0, 1, 2, 0, 0, 0, 1)}) for mode in ("reflect", "edge")),
    Case("DepthToSpace", ONE, {"blocksize": 2}),
    Case("DepthToSpace", ONE, {"blocksize": 2, "mode": "CRD"}),
    Case("SpaceToDepth", [(1, 2, 6, 4)], {"blocksize": 2}),
    Case("Trilu", [(4, 5)], {"upper": 0}, {"k": np.array(1)}),
    *(Case(f"Reduce{kind}", ONE, {"keepdims": 0}, {"a": ints(1, -1)}) for kind in ("Mean", "Sum", "Max", "Min", "L2")),
    *(Case(f"Reduce{kind}", ONE, {}, {"a": ints(2)}) for kind in ("Prod", "L1", "LogSumExp", "SumSquare")),
    Case("ReduceMean", ONE, {"axes": [2, 3], "keepdims": 1}, opset=13),
    Case("ArgMax", ONE, {"axis": 1, "keepdims": 0}),
    Case("TopK", ONE, {"axis": 2}, {"k": ints(3)}, outputs=2),
    Case("CumSum", ONE, {"exclusive": 1, "reverse": 1}, {"a": np.array(2)}),
    Case("OneHot", [(5,)], {}, {"d": ints(4), "v": np.array([0.0, 2.0], np.float32)}, dtype="INT64"),
    Case("GridSample", [(1, 2, 5, 6), (1, 4, 4, 2)], {"align_corners": 1}, opset=16),
]


def resized(mode: str, how: str, factor: float, **more: Any) -> Case:
    attributes = {"mode": mode, "coordinate_transformation_mode": how, **more}
    return Case("Resize", ONE, attributes, {"s": np.array([1, 1, factor, factor], np.float32)}, ("x0", "", "s"))


CASES += [
    *(resized("nearest", "asymmetric", factor, nearest_mode="floor") for factor in (2.0, 1.5, 0.5)),
    *(resized("nearest", "half_pixel", factor) for factor in (2.0, 1.5, 0.5)),
    *(resized("linear", how, 1.5) for how in ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel")),
    *(resized("linear", "half_pixel", factor) for factor in (2.0, 0.6)),
    *(resized("cubic", how, 2.0) for how in ("half_pixel", "align_corners", "asymmetric")),
    resized("cubic", "half_pixel", 1.7, cubic_coeff_a=-0.5, exclude_outside=1),
]


def recurrent(op: str, direction: str, gates: int, biased: bool, **more: Any) -> Case:
    count = 2 if direction == "bidirectional" else 1
    constants = {"w": floats(count, gates * 5, 3), "r": floats(count, gates * 5, 5, seed=4)}
    if biased:
        constants["b"] = floats(count, 2 * gates * 5, seed=5)
    attributes = {"hidden_size": 5, "direction": direction, **more}
    return Case(op, [(6, 2, 3)], attributes, constants, outputs=3 if op == "LSTM" else 2)


CASES += [
    *(recurrent("LSTM", direction, 4, True) for direction in ("forward", "reverse", "bidirectional")),
    recurrent("LSTM", "forward", 4, False),
    *(recurrent("GRU", direction, 3, True, linear_before_reset=1) for direction in ("forward", "bidirectional")),
    recurrent("RNN", "reverse", 1, True),
]


def write_case(case: Case, path: Path) -> tuple[Path, dict[str, NDArray[Any]]]:
    """The node as a model, with seeded inputs."""
    rng = np.random.default_rng(7)
    names = [f"x{i}" for i in range(len(case.shapes))]
    inputs = list(case.order) or [*names, *case.constants]
    outputs = [f"y{i}" for i in range(case.outputs)]
    values = [value(name, shape, case.dtype) for name, shape in zip(names, case.shapes, strict=True)]
    constants = [constant(name, array, np.asarray(array).dtype) for name, array in case.constants.items()]
    kinds = {("ArgMax", 0): "INT64", ("Cast", 0): "INT64", ("TopK", 1): "INT64"}
    results = [
        value(name, None, kinds.get((case.op, i), "FLOAT" if case.op == "OneHot" else case.dtype))
        for i, name in enumerate(outputs)
    ]
    made = node(case.op, inputs, outputs, "the_node", **case.attributes)
    write_onnx(path, [made], values, results, constants, opset=case.opset)
    if case.dtype == "INT64":
        return path, {name: rng.integers(0, 4, shape) for name, shape in zip(names, case.shapes, strict=True)}
    feeds = {
        name: rng.standard_normal(shape).astype(np.float32) for name, shape in zip(names, case.shapes, strict=True)
    }
    return path, {name: np.abs(array) + 0.1 if case.positive else array for name, array in feeds.items()}


def reference(path: Path, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    return list(onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, dict(feeds)))


def run_network(path: Path, feeds: Mapping[str, NDArray[Any]], **more: bool) -> list[NDArray[Any]]:
    from edgewright.formats.onnx_to_torch.build import load_network

    network = load_network(path, {name: array.shape for name, array in feeds.items()}, **more)
    with torch.no_grad():
        made = network(*(torch.from_numpy(feeds[name]) for name in network.inputs))
    return [tensor.numpy() for tensor in made]


def assert_close(path: Path, feeds: Mapping[str, NDArray[Any]], **more: bool) -> None:
    for want, got in zip(reference(path, feeds), run_network(path, feeds, **more), strict=True):
        assert got.dtype == want.dtype
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.op)
def test_an_operator_gives_what_onnx_runtime_gives(case: Case, tmp_path: Path) -> None:
    assert_close(*write_case(case, tmp_path / "m.onnx"))


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.op in ("LSTM", "GRU", "RNN")], ids=lambda case: case.op
)
def test_a_recurrent_layer_step_by_step_gives_the_same(case: Case, tmp_path: Path) -> None:
    assert_close(*write_case(case, tmp_path / "m.onnx"), unroll=True)


def test_a_gru_that_resets_before_the_product_is_written_step_by_step_alone(tmp_path: Path) -> None:
    path, feeds = write_case(recurrent("GRU", "forward", 3, True, linear_before_reset=0), tmp_path / "m.onnx")
    assert_close(path, feeds, unroll=True)
    with pytest.raises(ModelNotConvertible) as caught:
        run_network(path, feeds)
    assert "GRU ('the_node')" in caught.value.why


def test_shapes_are_folded(tmp_path: Path) -> None:
    from edgewright.formats.onnx_to_torch.build import load_network

    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"], axis=0),
        node("Concat", ["n", "minus"], ["t"], axis=0),
        node("Reshape", ["x", "t"], ["y"]),
    ]
    constants = [constant("zero", [0], np.int64), constant("minus", [-1], np.int64)]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [2, 3, 4])], [value("y", [2, 12])], constants)
    assert [step.call.op for step in load_network(path, {}).steps] == ["Reshape"]
    assert_close(path, {"x": floats(2, 3, 4)})


def test_the_exact_gelu_that_exporters_spell_out_becomes_one_step(tmp_path: Path) -> None:
    from edgewright.formats.onnx_to_torch.build import load_network

    nodes = [
        node("Div", ["x", "root"], ["a"], "a"),
        node("Erf", ["a"], ["b"], "b"),
        node("Add", ["b", "one"], ["c"], "c"),
        node("Mul", ["half", "c"], ["d"], "d"),
        node("Mul", ["x", "d"], ["y"], "e"),
    ]
    constants = [constant("root", np.sqrt(2)), constant("one", 1.0), constant("half", 0.5)]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [2, 9])], [value("y", [2, 9])], constants)
    (step,) = load_network(path, {}).steps
    assert step.call.op == "Gelu"
    assert sorted(step.sources) == ["a", "b", "c", "d", "e"]
    assert_close(path, {"x": floats(2, 9)})


def test_half_precision_keeps_the_types_outside(tmp_path: Path) -> None:
    path = write_onnx(
        tmp_path / "m.onnx",
        [node("MatMul", ["x", "w"], ["h"]), node("Relu", ["h"], ["y"])],
        [value("x", [2, 8])],
        [value("y", [2, 4])],
        [weights("w", 8, 4)],
    )
    feeds = {"x": floats(2, 8)}
    (got,) = run_network(path, feeds, half=True)
    (want,) = reference(path, feeds)
    assert got.dtype == np.float32
    assert 0 < np.abs(got - want).max() < 1e-2


def test_inputs_and_constants_may_be_outputs(tmp_path: Path) -> None:
    nodes = [node("Add", ["x", "k"], ["y"]), node("Identity", ["k"], ["z"])]
    outputs = [value("y", [2]), value("z", [2]), value("x", [2])]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [2])], outputs, [constant("k", [1.0, 2.0])])
    assert_close(path, {"x": floats(2)})


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    path = write_onnx(
        tmp_path / "m.onnx", [node("NonZero", ["x"], ["y"], "places")], [value("x", [4])], [value("y", None, "INT64")]
    )
    with pytest.raises(ModelNotConvertible) as caught:
        run_network(path, {"x": floats(4)})
    assert "NonZero ('places')" in caught.value.why


def test_a_shape_that_only_a_run_shows_is_rejected(tmp_path: Path) -> None:
    path = write_onnx(
        tmp_path / "m.onnx",
        [node("Reshape", ["x", "s"], ["y"], "fold")],
        [value("x", [4]), value("s", [2], "INT64")],
        [value("y", None)],
    )
    with pytest.raises(ModelNotConvertible) as caught:
        run_network(path, {"x": floats(4), "s": ints(2, 2)})
    assert "Reshape ('fold')" in caught.value.why


def test_sixteen_bits_of_a_rounded_graph_are_floats_within_their_bounds(tmp_path: Path) -> None:
    from edgewright.formats.onnx_to_torch.build import load_network
    from tests.models.onnx_files import quantize

    constants = [constant("n_scale", 0.001), constant("n_zero", 0, np.uint16)]
    nodes = [node("Neg", ["x"], ["n"], "neg"), *quantize("n"), node("Neg", ["n_dq"], ["y"], "back")]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 4])], [value("y", [1, 4])], constants, opset=21)
    network = load_network(path, {"x": (1, 4)}, integers=True)
    x = np.array([[-99.0, -0.5, 0.5, -0.25]], np.float32)
    np.testing.assert_allclose(network(torch.from_numpy(x))[0].numpy(), [[-65.535, -0.5, 0.0, -0.25]], atol=1e-5)
