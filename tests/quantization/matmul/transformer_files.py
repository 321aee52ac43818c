"""A small network of a transformer's kind: embeddings, products with and without a bias, a shared input, a norm."""

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edgewright.schema.arrays import Array

WORDS, WIDTH, WIDE, LENGTH = 300, 64, 72, 12


def make_transformer(opset: int = 18) -> Any:
    rng = np.random.default_rng(5)

    def scaled(*shape: int) -> Array:
        made: Array = rng.uniform(-1, 1, shape) / np.sqrt(shape[0] / 3)
        return made.astype(np.float32)

    constants = {
        "words": rng.standard_normal((WORDS, WIDTH)).astype(np.float32),
        "gain": rng.uniform(0.7, 1.3, WIDTH).astype(np.float32),
        "shift": rng.uniform(-0.3, 0.3, WIDTH).astype(np.float32),
        "left": scaled(WIDTH, WIDE),
        "left_bias": rng.standard_normal(WIDE).astype(np.float32),
        "right": scaled(WIDTH, WIDE),
        "down": scaled(WIDE, WIDTH),
        "down_bias": rng.standard_normal(WIDTH).astype(np.float32),
        "axes": np.array([1]),
        "head": np.ascontiguousarray(scaled(WIDTH, 10).T),
        "head_bias": rng.standard_normal(10).astype(np.float32),
    }
    old = opset < 18  # ReduceMean has its axes as an attribute
    mean: dict[str, Any] = {"inputs": ["hidden"], "axes": [1]} if old else {"inputs": ["hidden", "axes"]}
    nodes = [
        helper.make_node("Gather", ["words", "ids"], ["embedded"], "embed"),
        helper.make_node("LayerNormalization", ["embedded", "gain", "shift"], ["normed"], "norm", axis=-1),
        helper.make_node("MatMul", ["normed", "left"], ["left_product"], "left"),
        helper.make_node("Add", ["left_product", "left_bias"], ["left_sum"], "left_add"),
        helper.make_node("MatMul", ["normed", "right"], ["right_product"], "right"),
        helper.make_node("Sigmoid", ["right_product"], ["gate"], "gate"),
        helper.make_node("Mul", ["left_sum", "gate"], ["gated"], "mul"),
        helper.make_node("MatMul", ["gated", "down"], ["down_product"], "down"),
        helper.make_node("Add", ["down_bias", "down_product"], ["down_sum"], "down_add"),
        helper.make_node("Add", ["down_sum", "embedded"], ["residual"], "residual_add"),
        helper.make_node("LayerNormalization", ["residual", "gain", "shift"], ["hidden"], "norm_again", axis=-1),
        helper.make_node("ReduceMean", outputs=["mean"], name="mean", keepdims=0, **mean),
        helper.make_node("Gemm", ["mean", "head", "head_bias"], ["logits"], "head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "transformer",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [1, LENGTH])],
        [
            helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [1, LENGTH, WIDTH]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items() if name != "axes" or not old],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def make_feeds(count: int, seed: int) -> list[dict[str, Array]]:
    rng = np.random.default_rng(seed)
    return [{"ids": rng.integers(0, WORDS, (1, LENGTH))} for _ in range(count)]
