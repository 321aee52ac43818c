"""Where weights are, which parts run on integers, and what stands between them."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.formats.onnx.editable import EditableGraph
from edgewright.quantization.executor import open_session
from edgewright.quantization.network import FloatNetwork, get_clip_bounds
from edgewright.quantization.static.scope import find_quantization_scope
from edgewright.quantization.worker import ensure_opset
from edgewright.schema.arrays import Array
from tests.quantization.mobile_files import make_feeds, make_mobile


def one_product(op: str, bias: Array | None, shape: tuple[int, ...] = (4, 6), **attributes: Any) -> Any:
    constants = {"w": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    inputs = ["x", "w"]
    if bias is not None:
        constants["b"], inputs = bias.astype(np.float32), ["x", "w", "b"]
    graph = helper.make_graph(
        [helper.make_node(op, inputs, ["y"], name="it", **attributes)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (1, 6), (6,)])
def test_a_bias_of_any_shape_becomes_a_row(shape: tuple[int, ...]) -> None:
    bias = np.arange(np.prod(shape, dtype=int)).reshape(shape) + 0.5
    model, x = one_product("Gemm", bias), np.ones((1, 4), np.float32)
    before = open_session(model.SerializeToString()).run(None, {"x": x})[0]
    network = FloatNetwork(model)
    assert network.constants[network.weight_nodes["it"].bias].shape == (6,)
    assert np.array_equal(open_session(network.graph.to_message().SerializeToString()).run(None, {"x": x})[0], before)
    onnx.checker.check_model(network.graph.to_message(), full_check=True)


@pytest.mark.parametrize(
    "model",
    [
        one_product("Gemm", np.zeros(6), alpha=0.5),
        one_product("Gemm", np.zeros(6), beta=2.0),
        one_product("Gemm", np.zeros((4, 6)), transA=1),
        one_product("MatMul", None, (2, 4, 6)),
    ],
    ids=["alpha", "beta", "transA", "batched"],
)
def test_what_is_no_plain_product_is_left_alone(model: Any) -> None:
    assert FloatNetwork(model).weight_nodes == {}


def test_the_sites_of_a_network() -> None:
    network = FloatNetwork(make_mobile())
    assert list(network.weight_nodes) == ["stem", "deep", "point", "head"]
    deep, head = network.weight_nodes["deep"], network.weight_nodes["head"]
    assert (deep.groups, deep.axis, deep.input, deep.bias, deep.output) == (8, 0, "stem/r", "deep/b", "deep/c")
    assert (head.op, head.axis) == ("Gemm", 0)
    assert get_clip_bounds(network.node("stem/clip"), network.constants) == (0.0, 6.0)
    assert get_clip_bounds(network.node("deep/relu"), network.constants) == (0.0, float("inf"))
    assert get_clip_bounds(network.node("sum"), network.constants) is None
    assert get_clip_bounds(network.node("stem/clip"), {}) is None


def test_everything_runs_on_integers_where_nothing_is_kept() -> None:
    network = FloatNetwork(make_mobile())
    regions = find_quantization_scope(network, ())
    assert regions.operators == {node.name for node in network.nodes}
    assert regions.fused == {"stem/c": "stem/r", "deep/c": "deep/r"}
    assert "stem/c" not in regions.tensors  # a runtime computes the activation with the site
    assert regions.tensors == (
        "x", "stem/r", "deep/r", "point/c", "sum", "peaks", "mean", "flat", "logits", "y",
    )  # fmt: skip
    assert regions.shared_params == {"peaks": "sum", "flat": "mean"}
    assert regions.constants == ("shift",)


def test_a_kept_node_has_pairs_only_where_integers_are_read() -> None:
    network = FloatNetwork(make_mobile())
    regions = find_quantization_scope(network, {"deep", "deep/relu"})
    assert not {"deep", "deep/relu"} & regions.operators
    assert "stem/r" in regions.tensors  # the sum reads it
    assert "deep/r" in regions.tensors  # the next convolution reads it
    assert "deep/c" not in regions.tensors
    assert "deep/c" not in regions.fused


def test_behind_a_kept_end_nothing_is_an_integer() -> None:
    regions = find_quantization_scope(FloatNetwork(make_mobile()), {"head", "shifted"})
    assert {"logits", "y"}.isdisjoint(regions.tensors)
    assert regions.constants == ()
    none = find_quantization_scope(FloatNetwork(make_mobile()), {"stem", "deep", "point", "head"})
    assert none.operators == none.operators & set()
    assert none.tensors == ()


def test_an_old_opset_is_raised_and_computes_the_same() -> None:
    model = make_mobile(9 + 2)
    graph = ensure_opset(EditableGraph(model), 13)
    raised = graph.to_message()
    assert raised.opset_import[0].version == 13
    assert ensure_opset(graph, 13) is graph
    feeds = make_feeds(1, 0)[0]
    before, after = (open_session(one.SerializeToString()).run(None, dict(feeds))[0] for one in (model, raised))
    assert np.allclose(before, after, atol=1e-5)
    assert list(FloatNetwork(raised).weight_nodes) == ["stem", "deep", "point", "head"]
