"""Columns times rows are what ONNX Runtime's own operators give."""

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.formats.onnx.attributes import read_attributes
from edgewright.quantization.executor import open_session
from edgewright.quantization.features import find_moments, from_matrices, to_columns, to_matrices
from edgewright.quantization.network import FloatNetwork
from edgewright.schema.arrays import Array

ALL = 1 << 30


def make_network(op: str, x: tuple[int, ...], w: tuple[int, ...], **attributes: Any) -> FloatNetwork:
    weights = np.random.default_rng(1).standard_normal(w).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"], ["y"], name="site", **attributes)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, "w")],
    )
    return FloatNetwork(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10))


def run(network: FloatNetwork, x: Array) -> Array:
    result: Array = open_session(network.graph.to_message().SerializeToString()).run(None, {"x": x})[0]
    return result


CASES: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ("Conv", (2, 4, 7, 6), (6, 4, 3, 2), {}),
    ("Conv", (1, 4, 7, 6), (6, 4, 3, 3), {"pads": [0, 1, 2, 1], "strides": [2, 1]}),
    ("Conv", (1, 6, 9, 9), (6, 1, 3, 3), {"group": 6, "pads": [1, 1, 1, 1]}),
    ("Conv", (1, 6, 9, 9), (4, 3, 3, 3), {"group": 2, "dilations": [2, 3]}),
    ("Conv", (1, 3, 8, 7), (5, 3, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", (1, 3, 8, 7), (5, 3, 2, 4), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ("Conv", (1, 3, 8, 7), (5, 3, 3, 3), {"auto_pad": "VALID"}),
    ("Conv", (2, 3, 11), (5, 3, 4), {"pads": [2, 1], "strides": [3]}),
    ("Gemm", (3, 5), (5, 4), {}),
    ("Gemm", (3, 5), (4, 5), {"transB": 1}),
    ("MatMul", (2, 3, 5), (5, 4), {}),
]


@pytest.mark.parametrize(("op", "x", "w", "attributes"), CASES)
def test_columns_and_rows_multiply_to_the_output(
    op: str, x: tuple[int, ...], w: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    network = make_network(op, x, w, **attributes)
    weight_node = network.weight_nodes["site"]
    given = np.random.default_rng(2).standard_normal(x).astype(np.float32)
    exact = run(network, given)
    weights = network.constants["w"]
    rows = to_matrices(weight_node, weights)
    columns = to_columns(weight_node, read_attributes(network.node("site")), given, w[2:], ALL, 0)
    found = (rows @ columns).reshape(-1, columns.shape[2])  # [outputs, places]
    outputs = exact if op != "Conv" else np.moveaxis(exact, 1, -1)
    assert np.allclose(found.T, outputs.reshape(-1, found.shape[0]), atol=1e-4)
    assert np.array_equal(from_matrices(weight_node, rows, w), weights)


def test_some_places_are_some_of_all() -> None:
    network = make_network("Conv", (1, 3, 8, 8), (4, 3, 3, 3))
    weight_node, x = (
        network.weight_nodes["site"],
        np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32),
    )
    whole, some = (to_columns(weight_node, {}, x, (3, 3), places, 5)[0] for places in (ALL, 10))
    assert whole.shape[1] == 36
    assert some.shape[1] == 10
    assert all(any(np.array_equal(column, other) for other in whole.T) for column in some.T)
    assert np.array_equal(some, to_columns(weight_node, {}, x, (3, 3), 10, 5)[0])


def test_moments_are_about_the_mean() -> None:
    columns = np.array([[[1.0, 3.0], [10.0, 10.0]]], np.float32)
    moments = find_moments([columns, columns])
    assert moments.mean.tolist() == [[2.0, 10.0]]
    assert moments.square.tolist() == [[[1.0, 0.0], [0.0, 0.0]]]


def test_a_transposed_convolution_keeps_its_rows() -> None:
    network = make_network("ConvTranspose", (1, 3, 4, 4), (3, 5, 2, 2))
    weight_node, weights = network.weight_nodes["site"], network.constants["w"]
    rows = to_matrices(weight_node, weights)
    assert rows.shape == (1, 5, 12)
    assert np.array_equal(rows[0, 2], weights[:, 2].reshape(-1))
    assert np.array_equal(from_matrices(weight_node, rows, weights.shape), weights)


def test_moments_of_many_groups_are_those_of_each_group() -> None:
    rng = np.random.default_rng(0)
    samples = [rng.normal(5.0, 1.0, size=(6, 4, 20)).astype(np.float32) for _ in range(3)]
    whole = find_moments(samples)
    for group in range(6):
        alone = find_moments([one[group : group + 1] for one in samples])
        np.testing.assert_allclose(whole.square[group], alone.square[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(whole.mean[group], alone.mean[0], rtol=1e-6)
