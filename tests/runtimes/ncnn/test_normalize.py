"""The ONNX that pnnx is given computes what the source does, in the forms that pnnx reads right."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from edgewright.formats.onnx.normalize.source import prepare_onnx
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.ncnn.conversion.normalize import normalize_model, read_model
from edgewright.runtimes.ncnn.probe import run_all_tensors
from tests.models.onnx_files import constant, node, value, weights, write_onnx

Values = dict[str, NDArray[Any]]

IMAGE = [value("x", [1, 8, 6, 4])]
ROWS = [value("x", [1, 12, 32])]
Y = [value("y", None)]
TABLE = weights("t", 9, 4)


def whole(name: str, *numbers: int) -> onnx.TensorProto:
    return constant(name, numbers, np.int64)


def normalize_file(path: Path, retry: bool = False) -> tuple[Any, Values]:
    model = read_model(str(path))
    values = run_all_tensors(model)
    return normalize_model(model, values, retry), values


def check(path: Path, retry: bool = False) -> list[str]:
    """Assert that the rewritten model computes the same, and give its operators."""
    plain, values = normalize_file(path, retry)
    assert plain.opset_import[0].version <= 17
    onnx.checker.check_model(plain)
    session = onnxruntime.InferenceSession(plain.SerializeToString(), providers=["CPUExecutionProvider"])
    types = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
    feeds = {one.name: values[one.name].astype(types[one.type]) for one in session.get_inputs()}
    names = [one.name for one in session.get_outputs()]
    for name, array in zip(names, session.run(None, feeds), strict=True):
        np.testing.assert_allclose(array, values[name].astype(np.float32), rtol=1e-4, atol=1e-5)
    return [one.op_type for one in plain.graph.node]


CASES: dict[str, tuple[list[onnx.NodeProto], list[onnx.ValueInfoProto], list[onnx.TensorProto]]] = {
    "mean-of-one-axis": ([node("ReduceMean", ["x", "a"], ["y"], keepdims=0)], ROWS, [whole("a", -1)]),
    "sum-of-one-axis": ([node("ReduceSum", ["x", "a"], ["y"])], ROWS, [whole("a", 1)]),
    "sum-of-all": ([node("ReduceSum", ["x"], ["y"], keepdims=0)], ROWS, []),
    "max": ([node("ReduceMax", ["x", "a"], ["y"])], IMAGE, [whole("a", 2, 3)]),
    "gemm": (
        [node("Gemm", ["x", "g", "c"], ["y"], alpha=0.5, beta=2.0)],
        [value("x", [1, 12])],
        [weights("g", 12, 5), weights("c", 1, 5, seed=1)],
    ),
    "gemm-bare": ([node("Gemm", ["x", "g"], ["y"], transB=1)], [value("x", [1, 12])], [weights("g", 5, 12)]),
    "cube": ([node("Pow", ["x", "p"], ["y"])], ROWS, [constant("p", 3.0)]),
    "square": ([node("Pow", ["x", "p"], ["y"])], ROWS, [constant("p", 2.0)]),
    "mish": ([node("Mish", ["x"], ["y"])], ROWS, []),
    "softsign": ([node("Softsign", ["x"], ["y"])], ROWS, []),
    "split": ([node("Split", ["x"], ["u", "v"], axis=1, num_outputs=2), node("Sub", ["u", "v"], ["y"])], ROWS, []),
    "pick": ([node("Gather", ["x", "i"], ["y"], axis=1)], ROWS, [whole("i", 3, 4, -1, 0)]),
    "pick-whole": ([node("Gather", ["x", "i"], ["y"], axis=1)], ROWS, [constant("i", [[0, 5], [1, 2]], np.int64)]),
    "steps": (
        [node("Slice", ["x", "s", "e", "a", "t"], ["y"])],
        ROWS,
        [whole("s", 1, 0), whole("e", 12, 31), whole("a", 1, 2), whole("t", 2, 3)],
    ),
    "pad-channels": (
        [node("Pad", ["x", "p", "v"], ["y"])],
        IMAGE,
        [whole("p", 0, 1, 0, 2, 0, 2, 1, 0), constant("v", 0.5)],
    ),
    "pad-axes": ([node("Pad", ["x", "p", "", "a"], ["y"])], IMAGE, [whole("p", 1, 2), whole("a", -1)]),
    "tile": ([node("Tile", ["x", "r"], ["y"])], ROWS, [whole("r", 1, 2, 3)]),
    "depth-to-space": ([node("DepthToSpace", ["x"], ["y"], blocksize=2)], IMAGE, []),
    "space-to-depth": ([node("SpaceToDepth", ["x"], ["y"], blocksize=2)], IMAGE, []),
    "resize": ([node("Resize", ["x", "", "", "s"], ["y"], mode="linear", axes=[2, 3])], IMAGE, [whole("s", 9, 9)]),
    "greater": (
        [node("Greater", ["x", "z"], ["b"]), node("Where", ["b", "x", "k"], ["y"])],
        ROWS,
        [constant("z", 0.1), constant("k", -3.0)],
    ),
    "less": ([node("LessOrEqual", ["x", "z"], ["b"]), node("Cast", ["b"], ["y"], to=1)], ROWS, [constant("z", 0.1)]),
    "logic": (
        [
            node("Greater", ["x", "z"], ["b"]),
            node("Less", ["x", "k"], ["c"]),
            node("And", ["b", "c"], ["d"]),
            node("Not", ["d"], ["e"]),
            node("Or", ["e", "b"], ["f"]),
            node("Cast", ["f"], ["y"], to=1),
        ],
        ROWS,
        [constant("z", 0.1), constant("k", 0.9)],
    ),
    "masked": (
        [node("Equal", ["m", "z"], ["b"]), node("Where", ["b", "far", "x"], ["w"]), node("Softmax", ["w"], ["y"])],
        [*ROWS, value("m", [1, 1, 32], "INT64")],
        [constant("z", 0, np.int64), constant("far", -np.inf)],
    ),
    "bool-input": (
        [node("Where", ["m", "x", "k"], ["y"])],
        [*ROWS, value("m", [1, 12, 1], "BOOL")],
        [constant("k", 2.0)],
    ),
    "truncate": ([node("Cast", ["x"], ["i"], to=7), node("Cast", ["i"], ["y"], to=1)], ROWS, []),
    "embedding": ([node("Gather", ["t", "i"], ["y"], axis=0)], [value("i", [1, 5], "INT64")], [TABLE]),
    "embedding-int32": (
        [node("Cast", ["i"], ["j"], to=7), node("Gather", ["t", "j"], ["y"], axis=0)],
        [value("i", [1, 5], "INT32")],
        [TABLE],
    ),
    "shape-chain": (
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "i"], ["n"]),
            node("Concat", ["n", "m"], ["t"], axis=0),
            node("Reshape", ["x", "t"], ["y"]),
        ],
        ROWS,
        [whole("i", 0, 2), whole("m", -1)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_rewritten_computes_the_same(name: str, tmp_path: Path) -> None:
    nodes, inputs, constants = CASES[name]
    check(write_onnx(tmp_path / "m.onnx", nodes, inputs, Y, constants))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_of_opset_20_computes_the_same(approximate: str, tmp_path: Path) -> None:
    nodes = [node("Gelu", ["x"], ["y"], approximate=approximate)]
    assert "Gelu" not in check(write_onnx(tmp_path / "m.onnx", nodes, ROWS, Y, opset=20))


@pytest.mark.parametrize(("opset", "count"), [(18, 2), (21, 8)])
def test_group_normalization_computes_the_same(opset: int, count: int, tmp_path: Path) -> None:
    nodes = [node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2)]
    constants = [weights("s", count), weights("b", count, seed=1)]
    check(write_onnx(tmp_path / "m.onnx", nodes, IMAGE, Y, constants, opset=opset))


@pytest.mark.parametrize("halved", ["first", "last", "by-division"])
def test_gelus_get_the_order_that_pnnx_joins(halved: str, tmp_path: Path) -> None:
    nodes = [
        node("Mul", ["i", "x"], ["s"]) if halved == "first" else node("Div", ["x", "r"], ["s"]),
        node("Erf", ["s"], ["e"]),
        node("Add", ["one", "e"], ["o"]),
    ]
    nodes += {
        "first": [node("Mul", ["h", "o"], ["p"]), node("Mul", ["p", "x"], ["y"])],
        "last": [node("Mul", ["o", "x"], ["p"]), node("Mul", ["p", "h"], ["y"])],
        "by-division": [node("Mul", ["o", "x"], ["p"]), node("Div", ["p", "two"], ["y"])],
    }[halved]
    numbers = {"i": 0.5**0.5, "r": 2**0.5, "one": 1.0, "h": 0.5, "two": 2.0}
    constants = [constant(name, number) for name, number in numbers.items()]
    path = write_onnx(tmp_path / "m.onnx", nodes, ROWS, Y, constants)
    assert check(path) == ["Div", "Erf", "Add", "Mul", "Mul"]
    plain, _ = normalize_file(path)
    assert "x" in plain.graph.node[3].input


def test_what_only_looks_like_a_gelu_stays(tmp_path: Path) -> None:
    nodes = [
        node("Div", ["x", "r"], ["s"]),
        node("Erf", ["s"], ["e"]),
        node("Add", ["e", "two"], ["o"]),
        node("Mul", ["o", "x"], ["p"]),
        node("Mul", ["p", "h"], ["y"]),
    ]
    constants = [constant("r", 2**0.5), constant("two", 2.0), constant("h", 0.5)]
    plain, _ = normalize_file(write_onnx(tmp_path / "m.onnx", nodes, ROWS, Y, constants))
    assert [one.name for one in plain.graph.node] == [one.name for one in nodes]
    check(tmp_path / "m.onnx")


def test_an_old_opset_is_brought_up(tmp_path: Path) -> None:
    nodes = [node("Squeeze", ["x"], ["s"], axes=[0]), node("ReduceSum", ["s"], ["y"], axes=[1])]
    path = write_onnx(tmp_path / "m.onnx", nodes, ROWS, Y, opset=11)
    with pytest.raises(NotConvertible, match="opset 11"):
        check(path)
    check(prepare_onnx(path, {}, tmp_path / "to.onnx"))


def test_one_axis_is_an_attribute(tmp_path: Path) -> None:
    nodes, inputs, constants = CASES["mean-of-one-axis"]
    plain, _ = normalize_file(write_onnx(tmp_path / "m.onnx", nodes, inputs, Y, constants))
    assert [(one.op_type, len(one.input)) for one in plain.graph.node] == [("ReduceMean", 1)]


def test_an_embedding_has_no_axis_and_integers(tmp_path: Path) -> None:
    nodes, inputs, constants = CASES["embedding-int32"]
    plain, _ = normalize_file(write_onnx(tmp_path / "m.onnx", nodes, inputs, Y, constants))
    assert [(one.op_type, len(one.attribute)) for one in plain.graph.node] == [("Gather", 0)]
    assert plain.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.INT64


def test_unit_slices_become_a_split(tmp_path: Path) -> None:
    nodes: list[onnx.NodeProto] = []
    for i in range(3):
        nodes += [
            node("Slice", ["x", f"k{i}", f"k{i + 1}", "k0"], [f"s{i}"]),
            node("Squeeze", [f"s{i}", "k0"], [f"q{i}"]),
        ]
    nodes += [node("Mul", ["q0", "q1"], ["m"]), node("Add", ["m", "q2"], ["y"])]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [3, 4, 5])], Y, [whole(f"k{i}", i) for i in range(4)])
    assert check(path, retry=True) == ["Split", "Squeeze", "Squeeze", "Squeeze", "Mul", "Add"]
    assert "Split" not in check(path)


def test_copies_are_left_out(tmp_path: Path) -> None:
    nodes = [
        node("Identity", ["x"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("Slice", ["b", "s", "e"], ["c"]),
        node("Dropout", ["c"], ["y"]),
    ]
    assert check(write_onnx(tmp_path / "m.onnx", nodes, ROWS, Y, [whole("s", 0), whole("e", 9)])) == ["Relu"]


def list_rejected_cases() -> Sequence[Any]:
    zero, ids = constant("z", 0, np.int64), value("i", [1, 5], "INT64")
    both = [node("Gather", ["t", "i"], ["g"]), node("Cast", ["i"], ["c"], to=1), node("ReduceSum", ["c"], ["s"])]
    then = onnx.helper.make_graph([node("Sin", ["x"], ["u"])], "then", [], [value("u", None)])
    other = onnx.helper.make_graph([node("Exp", ["x"], ["v"])], "else", [], [value("v", None)])
    branch = node("If", ["b"], ["y"], "choose", then_branch=then, else_branch=other)
    condition = [node("ReduceSum", ["x"], ["s"], keepdims=0), node("Greater", ["s", "f"], ["b"])]
    backwards = node("Slice", ["x", "s", "e", "a", "t"], ["y"], "turn")
    ends = [whole("s", -1), whole("e", -(2**62)), whole("a", 2), whole("t", -1)]
    return [
        pytest.param([*condition, branch], ROWS, [constant("f", 0.0)], "If 'choose': .* control flow", id="branch"),
        pytest.param([backwards], ROWS, ends, "Slice 'turn': .* negative steps", id="backwards"),
        pytest.param([node("Identity", ["x"], ["y"])], ROWS, [], "'y' is a copy of 'x'", id="copy"),
        pytest.param(
            [node("Shape", ["x"], ["s"]), node("Cast", ["s"], ["y"], to=1)],
            ROWS,
            [],
            "'y' does not depend on any input",
            id="constant",
        ),
        pytest.param(
            [*both, node("Add", ["g", "s"], ["y"])], [ids], [TABLE], "as an index and as a number by Cast", id="both"
        ),
        pytest.param(
            [node("Gather", ["x", "i"], ["y"], "look", axis=1)],
            [*ROWS, ids],
            [],
            "Gather 'look': .* table",
            id="gather",
        ),
        pytest.param([node("Nonsense", ["x"], ["y"])], ROWS, [zero], "Nonsense", id="unknown"),
    ]


@pytest.mark.parametrize(("nodes", "inputs", "constants", "reason"), list_rejected_cases())
def test_what_cannot_be_written_is_named(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    constants: list[onnx.TensorProto],
    reason: str,
    tmp_path: Path,
) -> None:
    with pytest.raises(NotConvertible, match=reason):
        normalize_file(write_onnx(tmp_path / "m.onnx", nodes, inputs, Y, constants))


def test_what_is_no_model_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"no model at all")
    with pytest.raises(NotConvertible, match="cannot be read"):
        read_model(str(path))
