"""Weights as integers with Cast and Mul: the same values, per channel, and known as 8-bit weights."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from edgewright.formats.onnx.reader import OnnxFile
from edgewright.formats.onnx.stored_weights import cast_weights
from edgewright.runtimes.onnxruntime.compiler import compile_model
from edgewright.runtimes.wire import CompileRequest
from tests.models.onnx_files import constant, node, normal_feed, value, write_onnx, write_qdq_net


def write_weight_only_net(path: Path, zero: int = 0) -> Path:
    """A convolution and a product whose int8 weights have a scale per channel, on axes 0 and 1."""
    r = np.random.default_rng(0)
    kernel, matrix = (r.integers(-127, 128, size).astype(np.int8) for size in ((4, 3, 3, 3), (36, 5)))
    nodes = [
        node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], "wd", axis=0),
        node("Conv", ["x", "wd"], ["c"], "conv"),
        node("Flatten", ["c"], ["f"], "flatten"),
        node("DequantizeLinear", ["m", "ms", "mz"], ["md"], "md", axis=1),
        node("MatMul", ["f", "md"], ["y"], "product"),
    ]
    constants = [
        constant("w", kernel, np.int8), constant("ws", r.uniform(0.1, 1, 4)), constant("wz", np.full(4, zero), np.int8),
        constant("m", matrix, np.int8), constant("ms", r.uniform(0.1, 1, 5)), constant("mz", np.full(5, zero), np.int8),
    ]  # fmt: skip
    return write_onnx(path, nodes, [value("x", [1, 3, 5, 5])], [value("y", [1, 5])], constants)


def run(model: Any) -> Any:
    """Run a model as it is: ONNX Runtime's optimizer rounds the inputs of products whose weights are integers."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": normal_feed(1, 3, 5, 5)})[0]


def test_compiled_for_onnx_runtime_they_fold_at_load(tmp_path: Path) -> None:
    source = write_weight_only_net(tmp_path / "m.onnx")
    request = CompileRequest(
        source=str(source),
        format="onnx",
        shapes={"x": (1, 3, 5, 5)},
        precision="w8",
        options={},
        folder=str(tmp_path),
        stem="a",
    )
    made = tmp_path / compile_model(request).main
    assert OnnxFile(made).precision() == OnnxFile(source).precision() == "w8"
    np.testing.assert_allclose(run(str(made)), run(str(source)), rtol=1e-5)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "folded.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    onnxruntime.InferenceSession(str(made), options, providers=["CPUExecutionProvider"])
    left = [one.op_type for one in onnx.load(tmp_path / "folded.onnx").graph.node]
    assert left == ["Conv", "Flatten", "MatMul"]


@pytest.mark.parametrize("write", [write_qdq_net, lambda path: write_weight_only_net(path, zero=3)])
def test_activations_in_integers_and_zero_points_stay(write: Any, tmp_path: Path) -> None:
    model = onnx.load(write(tmp_path / "m.onnx"))
    before = model.SerializeToString()
    assert cast_weights(model) == 0
    assert model.SerializeToString() == before
