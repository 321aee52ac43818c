"""Batch normalization folded into the layer before it: equal outputs, and no change where it is impossible."""

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.quantization.executor import run_model
from edgewright.quantization.static.fold import fold_batch_norms

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
    wanted = run_model(model, "y", [{"x": x}])[0]
    assert fold_batch_norms(model) == 1
    assert [node.op_type for node in model.graph.node] == [op]
    np.testing.assert_allclose(run_model(model, "y", [{"x": x}])[0], wanted, rtol=1e-4, atol=1e-5)


def test_a_layer_that_others_read_too_is_left_alone() -> None:
    model = make("Conv", second_reader=True)
    before = model.SerializeToString()
    assert fold_batch_norms(model) == 0
    assert model.SerializeToString() == before


def test_training_mode_is_left_alone() -> None:
    assert fold_batch_norms(make("Conv", training=1)) == 0
