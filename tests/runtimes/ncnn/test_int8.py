"""INT8 layers in ncnn's files: the layout, the scales, and the numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from edgewright.formats.onnx.qdq import extract_float_model
from edgewright.formats.onnx.reader import OnnxFile
from edgewright.runtimes import ncnn
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.ncnn.conversion.int8 import INT8_TAG, as_signed, broadcast_scales, pack_integers
from edgewright.runtimes.ncnn.param import ParamRow, read_param
from edgewright.runtimes.wire import Compiled, CompileRequest, SessionRequest
from tests.models.onnx_files import constant, node, quantize, quantized_constant, value, write_onnx
from tests.models.qdq_files import SHAPE, images, write_mobile_qdq
from tests.paths import ROOT

pytest.importorskip("ncnn", reason="ncnn is not installed")
pytest.importorskip("pnnx", reason="pnnx is not installed")

MODELS = ROOT.parent / "shared" / "data" / "models"


def compile_qdq(source: Path, folder: Path, **options: str) -> Compiled:
    folder.mkdir()
    shapes = {one.name: tuple(int(size) for size in one.shape) for one in OnnxFile(source).signature().inputs}
    return ncnn.compile(
        CompileRequest(
            source=str(source), format="onnx", precision="w8a8", shapes=shapes, folder=str(folder), stem="m",
            options=options,
        )
    )  # fmt: skip


def run(folder: Path, compiled: Compiled, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
    session = ncnn.open_session(SessionRequest(model=str(folder / compiled.main)))
    (port,), (output,) = compiled.io_map.inputs, compiled.io_map.outputs
    session.bind({port.name: feeds["x"].reshape(port.shape)})
    session.run()
    return session.fetch()[output.name].reshape(output.source_shape)


def run_onnx(path: Path, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feeds)[0])


def sqnr_db(wanted: NDArray[Any], given: NDArray[Any]) -> float:
    return float(10 * np.log10(np.sum(wanted**2) / np.sum((wanted - given) ** 2)))


def rows_of(folder: Path) -> dict[str, ParamRow]:
    return {row.name: row for row in read_param(folder / "m.param")}


def test_layers_are_int8_and_hand_integers_on(tmp_path: Path) -> None:
    compiled = compile_qdq(write_mobile_qdq(tmp_path), tmp_path / "out")
    terms = {name: row.params.get("8") for name, row in rows_of(tmp_path / "out").items()}
    assert terms["stem_conv"] == "2"  # a sum reads it too
    assert (terms["wide_conv"], terms["deep_conv"], terms["narrow_conv"]) == ("102", "101", "2")
    assert (terms["left_conv"], terms["right_conv"], terms["gemm"]) == ("2", "2", "2")
    assert compiled.notes[0].startswith("7 of 7 quantized layers with weights are INT8")
    assert "no zero points" in compiled.notes[1]


def test_integers_and_scales_lie_in_the_file_as_ncnn_reads_them(tmp_path: Path) -> None:
    source = write_mobile_qdq(tmp_path)
    compile_qdq(source, tmp_path / "out")
    stored = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(str(source)).graph.initializer}
    extracted = extract_float_model(onnx.load(str(source)))
    tail = [
        *(1 / stored["w1_scale"]),
        127 / extracted.input_params["wide_conv", 0].max_abs,
        127 / extracted.input_params["deep_conv", 0].max_abs,
    ]
    bias = (stored["w1b_quantized"] * stored["w1b_quantized_scale"]).astype("<f4")
    wanted = pack_integers(stored["w1_quantized"]) + bias.tobytes() + np.asarray(tail, "<f4").tobytes()
    assert wanted in (tmp_path / "out" / "m.bin").read_bytes()


def test_the_numbers_are_the_sources_and_those_of_its_rounding_reference(tmp_path: Path) -> None:
    source = write_mobile_qdq(tmp_path)
    compiled = compile_qdq(source, tmp_path / "out")
    for feeds in images(4, seed=6):
        given = run(tmp_path / "out", compiled, feeds)
        assert sqnr_db(run_onnx(source, feeds), given) > 25
        assert sqnr_db(run_onnx(tmp_path / "out" / compiled.rounding_reference, feeds), given) > 35


def test_layers_are_joined_to_the_sources_nodes(tmp_path: Path) -> None:
    source = write_mobile_qdq(tmp_path)
    compiled = compile_qdq(source, tmp_path / "out")
    folder = tmp_path / "trace"
    folder.mkdir()
    feeds = {compiled.io_map.inputs[0].name: next(images(1))["x"].reshape(SHAPE[1:])}
    ncnn.profile(SessionRequest(model=str(tmp_path / "out" / "m.param")), feeds, 3, folder)
    report = ncnn.layers(folder, OnnxFile(source).nodes())
    named = {name for layer in report.layers for name in layer.source_nodes}
    assert {"stem_conv", "wide_conv", "deep_conv", "narrow_conv", "sum", "join", "peaks", "gemm"} <= named


def test_depthwise_convolutions_stay_in_float_where_it_is_asked_for(tmp_path: Path) -> None:
    source = write_mobile_qdq(tmp_path)
    compiled = compile_qdq(source, tmp_path / "out", depthwise="fp32")
    rows = rows_of(tmp_path / "out")
    assert "8" not in rows["deep_conv"].params
    assert rows["wide_conv"].params["8"] == "2"
    assert "1 depthwise convolutions stay in float32, as requested" in compiled.notes
    feeds = next(images(1, seed=6))
    assert sqnr_db(run_onnx(source, feeds), run(tmp_path / "out", compiled, feeds)) > 25


def test_what_ncnn_cannot_hold_stays_in_float_and_is_named(tmp_path: Path) -> None:
    """Weights with a zero point, and a transposed convolution."""
    odd, constants = quantized_constant("w1", 8, 8, 1, 1)
    constants[2] = constant("w1_zero", 3, np.int8)
    up, more = quantized_constant("w2", 8, 8, 2, 2, seed=1)
    nodes = [
        *odd, *up, *quantize("x"), node("Conv", ["x_dq", "w1_dq"], ["c"], "odd"), *quantize("c"),
        node("ConvTranspose", ["c_dq", "w2_dq"], ["y"], "up", strides=[2, 2]),
    ]  # fmt: skip
    for name in ("x", "c"):
        constants += [constant(f"{name}_scale", 0.03), constant(f"{name}_zero", 128, np.uint8)]
    outputs = [value("y", [1, 8, 16, 16])]
    source = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 8, 8, 8])], outputs, [*constants, *more])
    compiled = compile_qdq(source, tmp_path / "out")
    assert compiled.notes[0].startswith("0 of 2")
    assert "'odd' stays in float32: its weights have a zero point" in compiled.notes
    assert "'up' stays in float32: ncnn's Deconvolution has no INT8 form with fixed scales" in compiled.notes
    x = {"x": np.random.default_rng(2).standard_normal((1, 8, 8, 8)).astype(np.float32)}
    assert sqnr_db(run_onnx(source, x), run(tmp_path / "out", compiled, x)) > 25


def test_integers_that_something_else_reads_are_rejected(tmp_path: Path) -> None:
    constants = [constant("x_scale", 0.1), constant("x_zero", 128, np.uint8)]
    nodes = [quantize("x")[0], node("Cast", ["x_q"], ["y"], "cast", to=1)]
    source = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 4])], [value("y", [1, 4])], constants)
    with pytest.raises(NotConvertible, match="reads the integers") as rejected:
        compile_qdq(source, tmp_path / "out")
    assert "QDQ form" in rejected.value.hint


def test_small_parts() -> None:
    packed = pack_integers(np.array([1, -2, 3, 4, 5], np.int8))
    assert packed == INT8_TAG.to_bytes(4, "little") + bytes([1, 254, 3, 4, 5, 0, 0, 0])
    scales = np.array([1, 1, 2, 2], np.float32)
    np.testing.assert_array_equal(broadcast_scales(scales, 4, 2), [1, 2])
    assert broadcast_scales(np.array([1, 2, 2, 2], np.float32), 4, 2) is None
    np.testing.assert_array_equal(broadcast_scales(np.array([3], np.float32), 4, 4), [3, 3, 3, 3])
    from edgewright.formats.onnx.qdq import QdqWeights

    middle = QdqWeights(np.array([0, 128, 255], np.uint8), np.ones(1, np.float32), np.array([128], np.uint8), 0)
    np.testing.assert_array_equal(as_signed(middle), [-128, 0, 127])
    assert as_signed(middle._replace(zeros=np.array([127], np.uint8))) is None
