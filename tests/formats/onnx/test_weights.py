"""Constants and batch normalizations that are folded: equal outputs, and no change where it is impossible."""

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.formats.onnx.editable import EditableGraph
from edgewright.formats.onnx.normalize.weights import fold_batch_norms, fold_constants
from edgewright.quantization.executor import run_model
from edgewright.quantization.network import FloatNetwork

RNG = np.random.default_rng(5)


def make(op: str, *, bias: bool = True, second_reader: bool = False, training: int = 0) -> Any:
    shape = {"Conv": (4, 3, 3, 3), "ConvTranspose": (3, 4, 3, 3), "Gemm": (6, 4)}[op]
    x = [1, 6] if op == "Gemm" else [1, 3, 8, 8]
    weights = {"w": RNG.normal(size=shape), "b": RNG.normal(size=4), "s": RNG.normal(size=4), "t": RNG.normal(size=4),
               "m": RNG.normal(size=4), "v": RNG.uniform(0.5, 2, size=4)}  # fmt: skip
    statistics = ["s", "t", "m", "v"]
    outputs = ["y"] if not training else ["y", "rm", "rv"]
    nodes = [
        helper.make_node(op, ["x", "w", *(["b"] if bias else [])], ["c"], name="layer"),
        helper.make_node(
            "BatchNormalization", ["c", *statistics], outputs, name="bn", epsilon=0.01, training_mode=training
        ),
    ]
    made = ["y"]
    if second_reader:
        nodes.append(helper.make_node("Relu", ["c"], ["z"], name="relu"))
        made.append("z")
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in made],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "Gemm"])
def test_the_folded_layer_computes_both(op: str, bias: bool) -> None:
    model = make(op, bias=bias)
    x = RNG.normal(size=(1, 6) if op == "Gemm" else (1, 3, 8, 8)).astype(np.float32)
    wanted = run_model(model, ["y"], [{"x": x}])[0][0]
    graph = EditableGraph(model)
    assert fold_batch_norms(graph) == 1
    assert [node.op_type for node in graph.nodes] == [op]
    np.testing.assert_allclose(run_model(graph.to_message(), ["y"], [{"x": x}])[0][0], wanted, rtol=1e-4, atol=1e-5)


def test_a_layer_that_others_read_too_is_left_alone() -> None:
    model = make("Conv", second_reader=True)
    before = model.SerializeToString()
    graph = EditableGraph(model)
    assert fold_batch_norms(graph) == 0
    assert graph.to_message().SerializeToString() == before


def test_training_mode_is_left_alone() -> None:
    assert fold_batch_norms(EditableGraph(make("Conv", training=1))) == 0


def make_with_operators_on_weights() -> Any:
    """Every way in which exporters write a weight that is no initializer: 8 constant nodes around two layers."""
    kernel = RNG.normal(size=(3, 36)).astype(np.float16)
    constants = {
        "raw": kernel, "shape": np.array([4, 3, 3, 3]), "bias": RNG.normal(size=4).astype(np.float32),
        "row": np.array([1, 4, 1, 1]), "scale": np.array(0.5, np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Constant", [], ["raw"], value=numpy_helper.from_array(constants.pop("raw"))),
        helper.make_node("Cast", ["raw"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["turned"], perm=[1, 0]),
        helper.make_node("Reshape", ["turned", "shape"], ["shaped"]),
        helper.make_node("Mul", ["shaped", "scale"], ["scaled"]),
        helper.make_node("Identity", ["scaled"], ["w"]),
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Reshape", ["bias", "row"], ["b"]),
        helper.make_node("Add", ["c", "b"], ["d"], name="add"),
        helper.make_node("Shape", ["d"], ["size"]),
        helper.make_node("Reshape", ["d", "size"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_operators_on_constants_become_initializers() -> None:
    model = make_with_operators_on_weights()
    feeds = {"x": RNG.normal(size=(1, 3, 8, 8)).astype(np.float32)}
    before = run_model(model, ["y"], [feeds])[0][0]
    graph = EditableGraph(model)
    fold_constants(graph)
    assert [node.op_type for node in graph.nodes] == ["Conv", "Add", "Shape", "Reshape"]
    assert set(graph.constants) == {"w", "b"}
    assert FloatNetwork(graph).weight_nodes["conv"].weight == "w"
    np.testing.assert_array_equal(run_model(graph.to_message(), ["y"], [feeds])[0][0], before)


def test_constants_that_are_not_folded() -> None:
    shapes = {"r": (1, 99), "c": (99, 1)}
    wide = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in shapes.items()]
    nodes = [
        helper.make_node("Add", ["r", "c"], ["grown"]),
        helper.make_node("Constant", [], ["y"], value=wide[0]),
        helper.make_node("Add", ["r", "absent"], ["broken"]),
    ]
    graph = helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], wide)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    before = model.SerializeToString()
    editable = EditableGraph(model)
    fold_constants(editable)
    assert editable.to_message().SerializeToString() == before
