"""Artifacts that take and give integers, from the command line to their runs."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgewright.flows.compile.cells import make_quantized_cell
from edgewright.flows.demo.flow import get_digits_folder
from edgewright.formats.artifacts import find_record
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.litert.compiler import compile_model
from edgewright.runtimes.wire import CompileRequest
from edgewright.schema.artifact import Port
from edgewright.schema.model import Quantization
from tests.cli.calling import QUICK, Call, make_call
from tests.models.onnx_files import write_conv_net, write_qdq_net
from tests.models.qdq_files import SHAPE, write_mobile_qdq
from tests.paths import ROOT

SHARED = ROOT.parent / "shared" / "data" / "models"
DTYPES = {"onnxruntime": "uint8", "litert": "int8"}


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    return make_call(capfd)


@pytest.fixture(params=DTYPES)
def runtime(request: pytest.FixtureRequest) -> str:
    if request.param == "litert" and find_spec("ai_edge_litert") is None:
        pytest.skip("LiteRT is not installed")
    return str(request.param)


def compile_integer(call: Call, model: Path, runtime: str, out: Path, *more: object) -> Any:
    result = call("compile", model, "--runtime", runtime, "-p", "io=integer", "-o", out, *more, "--json")
    assert result.code == 0, result.err
    (cell,) = result.json()["artifacts"]
    return cell


def test_the_scales_stand_in_the_record(call: Call, runtime: str, tmp_path: Path) -> None:
    cell = compile_integer(call, write_mobile_qdq(tmp_path), runtime, tmp_path / "out")
    assert cell["numerics"]["sqnr_db"] >= (200 if runtime == "onnxruntime" else 30)
    record = find_record(Path(cell["path"]))
    assert record is not None
    assert record.options == {"io": "integer"}
    for port in (*record.io_map.inputs, *record.io_map.outputs):
        assert (port.source_dtype, port.dtype) == ("float32", DTYPES[runtime])
        assert port.quantization is not None
        assert port.quantization.scale > 0
    assert cell["notes"] == []
    plain = call("compile", tmp_path / "q.onnx", "--runtime", runtime, "-o", tmp_path / "plain", "--json").json()
    (plain,) = plain["artifacts"]
    assert plain["io_map"]["inputs"][0]["dtype"] == "float32"
    assert not plain["cached"]
    assert cell["bytes"] < plain["bytes"]


def test_it_is_fed_with_the_source_s_floats(call: Call, runtime: str, tmp_path: Path) -> None:
    model = write_mobile_qdq(tmp_path)
    cell = compile_integer(call, model, runtime, tmp_path / "out")
    x = np.random.default_rng(3).uniform(-1, 1, SHAPE).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    for path, to in ((cell["path"], "own.npz"), (model, "source.npz")):
        assert call("invoke", path, "--inputs", tmp_path / "x.npz", "-o", tmp_path / to).code == 0
    step = msgspec.convert(cell["io_map"]["outputs"][0], Port).quantization
    assert step is not None
    with np.load(tmp_path / "own.npz") as own, np.load(tmp_path / "source.npz") as source:
        assert own["y"].dtype == np.float32
        np.testing.assert_allclose(
            own["y"], source["y"], rtol=0, atol=0 if runtime == "onnxruntime" else 4 * step.scale
        )
    result = call("benchmark", cell["path"], *QUICK[:6], "--layer-runs", "5", "--json")
    assert result.code == 0, result.err
    (run,) = result.json()["runs"]
    named = {name for layer in run["layers"] for name in layer["source_nodes"]}
    assert {"stem_conv", "gemm"} <= named
    ops = {layer["op"].upper() for layer in run["layers"]}
    assert runtime == "onnxruntime" or "DEQUANTIZE" not in ops
    shown = call("benchmark", cell["path"], *QUICK[:6], "--no-layers", "--inputs", tmp_path / "x.npz")
    assert shown.code == 0, shown.err


def test_the_metric_is_the_same(call: Call, runtime: str, tmp_path: Path) -> None:
    model = get_digits_folder() / "digits_int8.onnx"
    cell = compile_integer(call, model, runtime, tmp_path / "out")
    words = ("--task", get_digits_folder() / "task.toml", "--data", get_digits_folder() / "heldout.npz", "--json")
    result = call("evaluate", model, cell["path"], *words)
    assert result.code == 0, result.err
    source, own = result.json()["results"]
    assert own["metric"]["value"] == source["metric"]["value"]
    assert own["agreement"]["value"] == 1.0


def test_an_output_that_stays_is_noted(call: Call, runtime: str, tmp_path: Path) -> None:
    cell = compile_integer(call, write_qdq_net(tmp_path / "m.onnx"), runtime, tmp_path / "out")
    assert cell["notes"] == ["output 'y' stays float32: it is the output of Softmax 'softmax'"]
    assert [port["dtype"] for port in cell["io_map"]["outputs"]] == ["float32"]
    assert [port["dtype"] for port in cell["io_map"]["inputs"]] == [DTYPES[runtime]]


def test_a_float_model_is_rejected(call: Call, runtime: str, tmp_path: Path) -> None:
    model = write_conv_net(tmp_path / "m.onnx")
    result = call("compile", model, "--runtime", runtime, "-p", "io=integer", "-o", tmp_path / "out")
    assert result.code == 6
    assert "the model is not quantized" in result.err
    assert not list((tmp_path / "out").glob("m*"))


def request_of(source: Path, folder: Path, kind: str, **options: str) -> CompileRequest:
    return CompileRequest(
        source=str(source), format=kind, precision="w8a8", shapes={}, folder=str(folder), stem="m", options=options
    )


def test_other_converters_say_that_they_do_not_know_it(tmp_path: Path) -> None:
    request = request_of(tmp_path / "m.onnx", tmp_path, "onnx", io="integer", converter="onnx2tf")
    with pytest.raises(NotConvertible, match="onnx2tf does not write integer inputs"):
        compile_model(request)


def test_a_tflite_file_says_what_stays(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    from edgewright.runtimes.litert.writer import onnx_to_litert

    source = tmp_path / "s.tflite"
    source.write_bytes(onnx_to_litert(write_qdq_net(tmp_path / "m.onnx"), io="integer", check="none"))
    compiled = compile_model(request_of(source, tmp_path, "tflite", io="integer"))
    assert compiled.notes == ("output 'y' stays float32: a TFLite file is used unchanged",)
    assert compiled.io_map.inputs[0].quantization == Quantization(scale=float(np.float32(0.02)), zero_point=0)


def test_only_compilers_that_know_it_are_asked() -> None:
    asked = {name: make_quantized_cell(name, "w8a8", integer_io=True).options for name in (*DTYPES, "openvino", "ncnn")}
    assert asked == {"onnxruntime": {"io": "integer"}, "litert": {"io": "integer"}, "openvino": {}, "ncnn": {}}
    assert make_quantized_cell("litert", "w8a8", integer_io=False).options == {}


@pytest.mark.shared_data
def test_mobilenet(call: Call, runtime: str, tmp_path: Path) -> None:
    from tests.models.qdq_files import quantize_network

    if not (SHARED / "mobilenet_v2.onnx").is_file():
        pytest.skip("the evaluation data does not lie beside the checkout")
    random = np.random.default_rng(1)
    feeds = [{"x": random.uniform(-1, 1, (1, 3, 224, 224)).astype(np.float32)} for _ in range(2)]
    model = quantize_network(SHARED / "mobilenet_v2.onnx", tmp_path / "q.onnx", iter(feeds))
    cell = compile_integer(call, model, runtime, tmp_path / "out", "--samples", "2")
    assert {port["dtype"] for ends in cell["io_map"].values() for port in ends} == {DTYPES[runtime]}
    assert cell["notes"] == []
