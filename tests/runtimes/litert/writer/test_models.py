"""Whole networks, each held against ONNX Runtime."""

from collections import Counter
from pathlib import Path

import pytest

from edgewright.formats.tflite.reader import read_graph
from tests.paths import ROOT
from tests.runtimes.litert.writer.compare import Compared, compare, count_partitions

DIGITS = ROOT / "src/edgewright/flows/digits/digits.onnx"
DIGITS_INT8 = ROOT / "src/edgewright/flows/digits/digits_int8.onnx"
MODELS = ROOT.parent / "shared/data/models"
# Both runtimes compute in float32 and sum in another order.
FLOAT_DB = 80.0


def need(path: Path) -> Path:
    if not path.is_file():
        pytest.skip(f"{path.name} does not lie beside the checkout")
    return path


def check_float_convnet(compared: Compared) -> None:
    assert compared.sqnr_db >= FLOAT_DB
    assert compared.codes["TRANSPOSE"] == 0
    assert count_partitions(compared.converted.data) == 1


def test_the_digits_network() -> None:
    check_float_convnet(compare(DIGITS))


def test_the_quantized_digits_network_runs_in_int8() -> None:
    compared = compare(DIGITS_INT8)
    assert compared.sqnr_db >= 25
    assert compared.codes["QUANTIZE"] == compared.codes["DEQUANTIZE"] == 1
    assert compared.codes["TRANSPOSE"] == 0


def test_the_border_may_keep_the_order_of_the_source() -> None:
    compared = compare(DIGITS, io="source")
    assert [entry.axes for entry in compared.converted.inputs] == [(0, 1, 2, 3)]
    assert compared.sqnr_db >= FLOAT_DB
    # One channel: the bytes are the same in both orders, so that not even this border needs a TRANSPOSE.
    assert compared.codes["TRANSPOSE"] == 0


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "shape"), [("resnet8_cifar10.onnx", (1, 3, 32, 32)), ("dscnn_kws.onnx", (1, 1, 49, 10))]
)
def test_small_networks(name: str, shape: tuple[int, ...]) -> None:
    check_float_convnet(compare(need(MODELS / name), shapes={"x": shape}))


@pytest.mark.shared_data
def test_mobilenet_v2() -> None:
    compared = compare(need(MODELS / "mobilenet_v2.onnx"))
    check_float_convnet(compared)
    assert compared.codes == Counter(CONV_2D=36, DEPTHWISE_CONV_2D=17, ADD=10, MEAN=1, RESHAPE=1)


@pytest.mark.shared_data
def test_mobilenet_v2_with_the_sources_order_has_one_transpose() -> None:
    compared = compare(need(MODELS / "mobilenet_v2.onnx"), io="source")
    assert compared.sqnr_db >= FLOAT_DB
    assert compared.codes["TRANSPOSE"] == 1
    assert compared.converted.operators[0] == "TRANSPOSE"


@pytest.mark.shared_data
def test_mobilenet_v2_quantized_by_onnxruntime(tmp_path: Path) -> None:
    path = quantize(need(MODELS / "mobilenet_v2.onnx"), tmp_path / "q.onnx")
    compared = compare(path)
    assert compared.sqnr_db >= 25
    assert count_partitions(compared.converted.data) == 1
    (tmp_path / "q.tflite").write_bytes(compared.converted.data)
    operators = read_graph(tmp_path / "q.tflite")
    assert {n.op for n in operators} == {
        "CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MEAN", "RESHAPE", "QUANTIZE", "DEQUANTIZE"
    }  # fmt: skip
    assert compared.codes["QUANTIZE"] == compared.codes["DEQUANTIZE"] == 1


def quantize(source: Path, target: Path) -> Path:
    """ONNX Runtime's QDQ graph, per channel, uint8 activations, calibrated on seeded noise."""
    import numpy as np
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    random = np.random.default_rng(1)
    images = iter([{"x": random.uniform(-1, 1, (1, 3, 224, 224)).astype(np.float32)} for _ in range(2)])

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime asks for a subclass and ships no types
        def get_next(self) -> object:
            return next(images, None)

    quantize_static(
        source,
        target,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return target
