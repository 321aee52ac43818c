"""INT8 layers in MNN's files: with the QDQ graph's scales and zero points, and its numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from edgewright.formats.onnx.qdq import extract_float_model
from edgewright.formats.onnx.reader import OnnxFile
from edgewright.formats.onnx.weightless import iterate_fields
from edgewright.runtimes import mnn
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.mnn.conversion.int8 import find_layers, find_quantized_layers, write_parameters
from edgewright.runtimes.wire import Compiled, SessionRequest
from tests.models.mnn_files import compile_file
from tests.models.onnx_files import constant, node, quantize, quantized_constant, value, weights, write_onnx
from tests.models.qdq_files import images, quantize_network, write_mobile_qdq

pytest.importorskip("MNN", reason="MNN is not installed")

LAYERS = {"stem_conv", "wide_conv", "deep_conv", "narrow_conv", "left_conv", "right_conv", "gemm"}


def run(folder: Path, compiled: Compiled, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
    session = mnn.open_session(SessionRequest(model=str(folder / compiled.main)))
    session.bind({port.name: feeds[port.source].reshape(port.shape) for port in compiled.io_map.inputs})
    session.run()
    (output,) = compiled.io_map.outputs
    return session.fetch()[output.name].reshape(output.source_shape)


def run_onnx(path: Path, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feeds)[0])


def sqnr_db(wanted: NDArray[Any], given: NDArray[Any]) -> float:
    noise = float(np.sum((wanted - given) ** 2))
    return 10 * float(np.log10(np.sum(wanted**2) / noise)) if noise else 200.0


def name_all(path: Path) -> Path:
    model = onnx.load(str(path))
    for position, one in enumerate(model.graph.node):
        one.name = one.name or f"{one.op_type}#{position}"
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("kind", ["QUInt8", "QInt8"])
def test_every_layer_is_int8_with_the_sources_numbers(kind: str, tmp_path: Path) -> None:
    source = write_mobile_qdq(tmp_path, kind=kind)
    compiled = compile_file(source, tmp_path / "out", "w8a8")
    assert compiled.notes == ("7 of 7 quantized layers with weights are INT8",)
    layers, left = find_layers(extract_float_model(onnx.load(str(source))))
    assert not left
    assert {layer.node for layer in layers} == LAYERS == find_quantized_layers(tmp_path / "out" / "m.mnn", layers)
    for feeds in images(4, seed=6):
        assert sqnr_db(run_onnx(source, feeds), run(tmp_path / "out", compiled, feeds)) > 35


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    source = write_mobile_qdq(tmp_path)
    for name in ("one", "two"):
        compile_file(source, tmp_path / name, "w8a8")
    assert (tmp_path / "one" / "m.mnn").read_bytes() == (tmp_path / "two" / "m.mnn").read_bytes()


def test_operators_between_layers_run_in_int8_and_are_joined(tmp_path: Path) -> None:
    source = write_mobile_qdq(tmp_path)
    compile_file(source, tmp_path / "out", "w8a8")
    folder = tmp_path / "trace"
    folder.mkdir()
    mnn.profile(SessionRequest(model=str(tmp_path / "out" / "m.mnn")), next(images(1)), 3, folder)
    report = mnn.layers(folder, OnnxFile(source).nodes())
    ops: dict[str, set[str]] = {}
    for layer in report.layers:
        for name in layer.source_nodes:
            ops.setdefault(name, set()).add(layer.op)
    assert ops["wide_conv"] == ops["gemm"] == {"Convolution [ DT_INT8 ]"}
    assert ops["deep_conv"] == {"ConvolutionDepthwise [ DT_INT8 ]"}
    assert ops["sum"] == {"BinaryOp [ DT_INT8 ]"}
    assert "Pooling" in ops["peaks"]


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2]}),
        ("MaxPool", {"kernel_shape": [2, 2], "pads": [1, 0, 0, 1]}),
        ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ],
)
def test_pools_are_right(op: str, attributes: dict[str, Sequence[int]], tmp_path: Path) -> None:
    """MNN's own INT8 kernels gave 5 dB for maxima, and 28 dB for means."""
    nodes = [
        node("Conv", ["x", "w"], ["c"], "first"),
        node("Relu", ["c"], ["r"], "relu"),
        node(op, ["r"], ["p"], "pool", **attributes),
        node("Conv", ["p", "v"], ["y"], "second"),
    ]
    constants = [weights("w", 16, 3, 1, 1), weights("v", 8, 16, 1, 1, seed=1)]
    write_onnx(tmp_path / "f.onnx", nodes, [value("x", [1, 3, 16, 16])], [value("y", None)], constants)
    source = name_all(quantize_network(tmp_path / "f.onnx", tmp_path / "q.onnx", images(4)))
    compiled = compile_file(source, tmp_path / "out", "w8a8")
    feeds = next(images(1, seed=6))
    assert sqnr_db(run_onnx(source, feeds), run(tmp_path / "out", compiled, feeds)) > 35


def test_products_of_many_rows_are_convolutions(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["a"], "first"),
        node("Relu", ["a"], ["r"], "relu"),
        node("MatMul", ["r", "v"], ["y"], "second"),
    ]
    constants = [weights("w", 6, 16), weights("v", 16, 5, seed=1)]
    write_onnx(tmp_path / "f.onnx", nodes, [value("x", [2, 3, 6])], [value("y", [2, 3, 5])], constants)
    random = np.random.default_rng(1)
    feeds = [{"x": random.uniform(-1, 1, (2, 3, 6)).astype(np.float32)} for _ in range(4)]
    source = name_all(quantize_network(tmp_path / "f.onnx", tmp_path / "q.onnx", iter(feeds)))
    compiled = compile_file(source, tmp_path / "out", "w8a8")
    assert compiled.notes == ("2 of 2 quantized layers with weights are INT8",)
    assert sqnr_db(run_onnx(source, feeds[0]), run(tmp_path / "out", compiled, feeds[0])) > 35


def test_what_stays_in_float_is_named_and_bounded(tmp_path: Path) -> None:
    """The first convolution's weights have a zero point; what its grid bounds is bounded all the same."""
    odd, constants = quantized_constant("w1", 8, 8, 3, 3)
    constants[2] = constant("w1_zero", 3, np.int8)
    plain, more = quantized_constant("w2", 8, 8, 1, 1, seed=1)
    nodes = [
        *odd, *plain, *quantize("x"), node("Conv", ["x_dq", "w1_dq"], ["c"], "odd"), *quantize("c"),
        node("Conv", ["c_dq", "w2_dq"], ["d"], "plain"), *quantize("d"), node("Identity", ["d_dq"], ["y"], "same"),
    ]  # fmt: skip
    for name, zero in (("x", 128), ("c", 0), ("d", 100)):
        constants += [constant(f"{name}_scale", 0.03), constant(f"{name}_zero", zero, np.uint8)]
    source = write_onnx(
        tmp_path / "m.onnx", nodes, [value("x", [1, 8, 8, 8])], [value("y", [1, 8, 6, 6])], [*constants, *more]
    )
    compiled = compile_file(source, tmp_path / "out", "w8a8")
    assert compiled.notes == (
        "1 of 2 quantized layers with weights are INT8",
        "'odd' stays in float32: its weights are not int8 with zero point 0",
    )
    x = {"x": np.random.default_rng(2).standard_normal((1, 8, 8, 8)).astype(np.float32)}
    assert sqnr_db(run_onnx(source, x), run(tmp_path / "out", compiled, x)) > 30


def test_a_model_without_a_layer_for_int8_is_rejected_with_its_reasons(tmp_path: Path) -> None:
    parts, constants = quantized_constant("w", 8, 8, 1, 1)
    nodes = [*parts, *quantize("x"), node("Conv", ["x_dq", "w_dq"], ["y"], "conv")]
    constants += [constant("x_scale", 0.1), constant("x_zero", 128, np.uint8)]
    source = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 8, 8, 8])], [value("y", [1, 8, 8, 8])], constants)
    with pytest.raises(NotConvertible, match="'conv': its output is not quantized"):
        compile_file(source, tmp_path / "out", "w8a8")


def test_the_parameters_are_the_message_that_the_converter_reads(tmp_path: Path) -> None:
    layers, _ = find_layers(extract_float_model(onnx.load(str(write_mobile_qdq(tmp_path)))))
    write_parameters(layers[:1], tmp_path / "p.bin")
    data = (tmp_path / "p.bin").read_bytes()
    (version, algorithm) = [
        (number, data[begin:end]) for number, _, _, begin, end in iterate_fields(data, 0, len(data))
    ]
    assert version == (1, b"0.0.0")
    body = algorithm[1]
    ((number, inner),) = [(number, body[begin:end]) for number, _, _, begin, end in iterate_fields(body, 0, len(body))]
    assert (algorithm[0], number) == (2, 2)
    assert b"w0_DequantizeLinear_Output" in inner
    assert np.float32(layers[0].input_params.scale).tobytes() in inner


@pytest.mark.parametrize("front", ["Relu", "GlobalAveragePool"])
def test_a_layer_behind_a_float_activation_has_the_sources_numbers(front: str, tmp_path: Path) -> None:
    """MNN applied the scale of the layer's input to the tensor before the activation too."""
    parts, constants = quantized_constant("w", 8, 6)
    for tensor, scale in (("f", 0.02), ("o", 0.005)):
        constants += [constant(f"{tensor}_scale", scale), constant(f"{tensor}_zero", 128, np.uint8)]
    nodes = [
        node(front, ["x"], ["g"], "front"),
        node("Flatten", ["g"], ["f"], "flat"),
        *parts,
        *quantize("f"),
        node("Gemm", ["f_dq", "w_dq"], ["o"], "layer"),
        *quantize("o"),
    ]
    shape = [1, 8, 1, 1] if front == "Relu" else [1, 8, 5, 5]
    source = write_onnx(tmp_path / "q.onnx", nodes, [value("x", shape)], [value("o_dq", [1, 6])], constants)
    compiled = compile_file(source, tmp_path / "out", "w8a8")
    feeds = {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
    assert sqnr_db(run_onnx(source, feeds), run(tmp_path / "out", compiled, feeds)) > 35
