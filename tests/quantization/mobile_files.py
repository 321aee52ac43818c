"""Small networks with the parts of mobile ones, for the static quantiser."""

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edgewright.quantization.static.stages import Feeds
from edgewright.schema.arrays import Array

SHAPE = (1, 3, 12, 12)


def make_feeds(count: int, seed: int) -> list[Feeds]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal(SHAPE).astype(np.float32)} for _ in range(count)]


def make_mobile(opset: int = 18, changes: dict[str, Array] | None = None) -> Any:
    """x → Conv, Clip → depthwise Conv, Relu → pointwise Conv, Add → MaxPool → mean → Flatten → Gemm → Add → y [1, 6].

    `changes` replaces constants by name.
    """
    rng = np.random.default_rng(4)

    def scaled(*shape: int) -> Array:
        made: Array = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        return made.astype(np.float32)

    constants: dict[str, Array] = {
        "stem/w": scaled(8, 3, 3, 3) * 2,
        "stem/b": rng.standard_normal(8).astype(np.float32),
        "deep/w": scaled(8, 1, 3, 3),
        "deep/b": rng.standard_normal(8).astype(np.float32) * 0.5,
        "point/w": scaled(8, 8, 1, 1),
        "point/b": rng.standard_normal(8).astype(np.float32) * 0.2,
        "head/w": scaled(6, 8) * 4,
        "head/b": rng.standard_normal(6).astype(np.float32) * 0.1,
        "zero": np.zeros((), np.float32),
        "six": np.full((), 6, np.float32),
        "shift": rng.standard_normal((1, 6)).astype(np.float32),
    }
    constants |= changes or {}
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "stem/w", "stem/b"], ["stem/c"], name="stem", pads=[1] * 4, strides=[2, 2]),
        node("Clip", ["stem/c", "zero", "six"], ["stem/r"], name="stem/clip"),
        node("Conv", ["stem/r", "deep/w", "deep/b"], ["deep/c"], name="deep", pads=[1] * 4, group=8),
        node("Relu", ["deep/c"], ["deep/r"], name="deep/relu"),
        node("Conv", ["deep/r", "point/w", "point/b"], ["point/c"], name="point"),
        node("Add", ["stem/r", "point/c"], ["sum"], name="sum"),
        node("MaxPool", ["sum"], ["peaks"], name="peaks", kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["peaks"], ["mean"], name="mean"),
        node("Flatten", ["mean"], ["flat"], name="flat"),
        node("Gemm", ["flat", "head/w", "head/b"], ["logits"], name="head", transB=1),
        node("Add", ["logits", "shift"], ["y"], name="shifted"),
    ]
    graph = helper.make_graph(
        nodes,
        "mobile",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
