"""LiteRT files that take and give integers."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgewright
from edgewright.errors import ModelNotConvertible, ModelRejected
from edgewright.formats.tflite.reader import read_signature
from edgewright.runtimes.litert.writer import convert, convert_onnx
from edgewright.runtimes.litert.writer.trial import TrialPort
from tests.models.border_files import KEPT, write_integer_io_model
from tests.models.onnx_files import write_conv_net, write_qdq_net
from tests.models.qdq_files import write_mobile_qdq


@pytest.mark.parametrize("kind", ["QUInt8", "QInt8"])
def test_the_int8_kernels_are_at_the_border(kind: str, tmp_path: Path) -> None:
    path = write_mobile_qdq(tmp_path, kind=kind)
    floats, converted = convert_onnx(path, check="none"), convert_onnx(path, io="integer")
    assert floats.operators == ("QUANTIZE", *converted.operators, "DEQUANTIZE")
    assert (converted.operators[0], converted.operators[-1]) == ("CONV_2D", "FULLY_CONNECTED")
    assert converted.proof is not None
    assert converted.proof.sqnr_db is not None
    assert converted.proof.sqnr_db > 30
    assert converted.notes == ()
    assert converted.inputs[0].axes == (0, 2, 3, 1)
    assert converted.inputs[0].dtype == converted.outputs[0].dtype == "float32"
    (tmp_path / "m.tflite").write_bytes(edgewright.onnx_to_litert(path, io="integer", check="load"))
    signature = read_signature(tmp_path / "m.tflite")
    for spec, reported in zip(
        (*signature.inputs, *signature.outputs), (*converted.inputs, *converted.outputs), strict=True
    ):
        assert spec.dtype == "int8"
        assert spec.quantization is not None
        assert reported.scales is not None
        assert np.float32(spec.quantization.scale) == reported.scales.scale.item()
        assert spec.quantization.zero_point == reported.scales.zero_point.item()


def test_sixteen_bits_without_a_zero_point(tmp_path: Path) -> None:
    path = write_mobile_qdq(tmp_path, kind="QInt16", extra_options={"ActivationSymmetric": True})
    converted = convert_onnx(path, io="integer")
    (tmp_path / "m.tflite").write_bytes(converted.data)
    signature = read_signature(tmp_path / "m.tflite")
    assert [spec.dtype for spec in (*signature.inputs, *signature.outputs)] == ["int16", "int16"]


def test_sixteen_bits_with_a_zero_point_stay(tmp_path: Path) -> None:
    converted = convert_onnx(write_mobile_qdq(tmp_path, kind="QInt16"), io="integer")
    assert converted.notes == (
        "input 'x' stays float32: LiteRT's 16-bit quantization has no zero point",
        "output 'y' stays float32: LiteRT's 16-bit quantization has no zero point",
    )


@pytest.mark.parametrize(("what", "nodes", "outputs", "note"), KEPT, ids=[one[0] for one in KEPT])
def test_an_edge_that_stays(what: str, nodes: list[Any], outputs: tuple[str, ...], note: str, tmp_path: Path) -> None:
    converted = convert_onnx(write_integer_io_model(tmp_path / "m.onnx", nodes, outputs), io="integer")
    assert note in converted.notes
    assert converted.proof is not None


def test_a_float_at_the_end_is_reported(tmp_path: Path) -> None:
    converted = convert_onnx(write_qdq_net(tmp_path / "m.onnx"), io="integer")
    assert converted.notes == ("output 'y' stays float32: it is the output of Softmax 'softmax'",)
    assert converted.inputs[0].scales is not None
    assert converted.outputs[0].scales is None


def test_a_model_of_floats_has_no_integers(tmp_path: Path) -> None:
    with pytest.raises(ModelNotConvertible, match="the model is not quantized"):
        convert_onnx(write_conv_net(tmp_path / "m.onnx"), io="integer")


def test_a_wrong_scale_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check quantizes inputs by the reported scale, so that a wrong one is detected."""
    path = write_mobile_qdq(tmp_path)
    right = convert._as_entry

    def change_scale(one: convert.ConvertedPort) -> TrialPort:
        entry = right(one)
        return entry if one.name == "y" else TrialPort(entry.name, entry.axes, entry.scale * 4, entry.zero)

    monkeypatch.setattr(convert, "_as_entry", change_scale)
    with pytest.raises(ModelRejected, match="other values than its source"):
        convert_onnx(path, io="integer")


def test_the_record_is_one_of_values(tmp_path: Path) -> None:
    """The source's type of an input is reported unchanged, independent of the stored type."""
    path = write_mobile_qdq(tmp_path)
    given = [dataclasses.replace(one, scales=None) for one in convert_onnx(path, io="integer", check="none").inputs]
    assert given == list(convert_onnx(path, check="none").inputs)
