"""Decomposed QDQ graphs: the float graph computes the same, with the source's quantization parameters."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from edgewright.errors import ModelNotConvertible
from edgewright.formats.onnx.qdq import (
    ActivationQuantParams,
    ExtractedFloatModel,
    extract_float_model,
    iterate_quantized_layers,
)
from tests.models.onnx_files import constant, node, normal_feed, quantize, quantized_constant, value, write_onnx
from tests.models.qdq_files import images, write_mobile_qdq

LAYERS = ["stem_conv", "wide_conv", "deep_conv", "narrow_conv", "left_conv", "right_conv", "gemm"]


def run(model: Any, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feeds)[0])


def sqnr_db(wanted: NDArray[Any], given: NDArray[Any]) -> float:
    return float(10 * np.log10(np.sum(wanted**2) / np.sum((wanted - given) ** 2)))


def extract_from(path: Path) -> ExtractedFloatModel:
    return extract_float_model(onnx.load(str(path)))


def rounded(nodes: list[Any], tensors: dict[str, tuple[float, int]], output: str = "y", kind: Any = np.uint8) -> Any:
    """x float32[1,4] through `nodes` to `output`, with a scale and a zero point for each of the tensors."""
    constants = [constant(f"{name}_scale", scale) for name, (scale, _) in tensors.items()]
    constants += [constant(f"{name}_zero", zero, kind) for name, (_, zero) in tensors.items()]
    inputs, outputs = [value("x", [1, 4])], [value(output, [1, 4])]
    from onnx import helper

    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("kind", ["QUInt8", "QInt8"])
def test_the_float_graph_computes_what_the_rounded_one_does(kind: str, tmp_path: Path) -> None:
    path = write_mobile_qdq(tmp_path, kind=kind)
    extracted = extract_from(path)
    onnx.checker.check_model(extracted.model)
    ops = [one.op_type for one in extracted.model.graph.node]
    assert not {"QuantizeLinear", "DequantizeLinear"}.intersection(ops)
    assert [one.name for one, _, _ in iterate_quantized_layers(extracted)] == LAYERS
    for feeds in images(4, seed=5):
        assert sqnr_db(run(onnx.load(str(path)), feeds), run(extracted.model, feeds)) > 30


def test_a_bound_that_the_quantizer_left_out_is_put_back(tmp_path: Path) -> None:
    """Without it the sum would be of negative numbers too."""
    path = write_mobile_qdq(tmp_path)
    source = onnx.load(str(path))
    assert not any(one.op_type in ("Clip", "Relu") for one in source.graph.node)
    clips = {one.output[0]: one for one in extract_from(path).model.graph.node if one.op_type == "Clip"}
    assert {"stem", "wide", "deep", "left", "right"} <= clips.keys()
    assert clips["stem"].name in {one.name for one in source.graph.node}  # that of its QuantizeLinear
    assert not {"joined", "peaks", "mean"}.intersection(clips)  # nothing negative comes to them


def test_weights_keep_their_integers(tmp_path: Path) -> None:
    path = write_mobile_qdq(tmp_path)
    extracted = extract_from(path)
    (stem, *_), stored = list(iterate_quantized_layers(extracted)), onnx.load(str(path)).graph.initializer
    integers = next(onnx.numpy_helper.to_array(one) for one in stored if one.name == "w0_quantized")
    np.testing.assert_array_equal(stem[1].values, integers)
    assert stem[1].scales.shape == (8,)
    assert stem[1].axis == 0
    assert stem[2].signed() == extracted.input_params["stem_conv", 0].signed()


def test_a_grid_on_signed_integers_holds_the_same_values() -> None:
    quant_params = ActivationQuantParams(0.5, 10, 0, 255)
    assert quant_params.signed() == ActivationQuantParams(0.5, -118, -128, 127)
    assert (quant_params.floor, quant_params.ceiling, quant_params.max_abs) == (-5.0, 122.5, 122.5)
    assert (quant_params.signed().floor, quant_params.signed().ceiling) == (-5.0, 122.5)
    assert quant_params.signed().signed() == quant_params.signed()


def test_a_tensor_that_is_also_read_as_it_is_keeps_its_values() -> None:
    """The grid begins at zero: who reads it rounded gets no negative numbers, who reads it itself does."""
    nodes = [
        node("Neg", ["x"], ["n"], "neg"),
        *quantize("n"),
        node("Abs", ["n_dq"], ["a"], "abs"),
        node("Add", ["a", "n"], ["y"], "add"),
    ]
    model = rounded(nodes, {"n": (0.01, 0)})
    extracted = extract_float_model(model)
    x = np.array([[-1.0, -0.5, 0.5, 1.0]], np.float32)
    np.testing.assert_allclose(run(extracted.model, {"x": x}), [[2.0, 1.0, -0.5, -1.0]], atol=1e-6)
    np.testing.assert_allclose(run(extracted.model, {"x": x}), run(model, {"x": x}), atol=0.02)


def test_outputs_keep_their_names() -> None:
    extracted = extract_float_model(
        rounded([node("Neg", ["x"], ["n"], "neg"), *quantize("n")], {"n": (0.1, 128)}, "n_dq")
    )
    x = normal_feed(1, 4)
    np.testing.assert_allclose(run(extracted.model, {"x": x}), -x)
    both = [node("Neg", ["x"], ["n"], "neg"), *quantize("n"), node("Neg", ["n"], ["m"], "other")]
    extracted = extract_float_model(rounded(both, {"n": (0.1, 128)}, "n_dq"))
    np.testing.assert_allclose(run(extracted.model, {"x": x}), -x)


def test_float_weights_that_are_rounded_in_the_graph_become_integers(tmp_path: Path) -> None:
    nodes = [*quantize("x"), *quantize("w"), node("MatMul", ["x_dq", "w_dq"], ["y"], "product")]
    model = rounded(nodes, {"x": (0.1, 128)})
    stored = np.array([[0.5, -1.0, 0.26, 9.0]] * 4, np.float32)
    model.graph.initializer.extend([constant("w", stored), constant("w_scale", 0.05), constant("w_zero", 0, np.int8)])
    ((_, weights, quant_params),) = iterate_quantized_layers(extract_float_model(model))
    assert weights.values.dtype == np.int8
    assert weights.values[0].tolist() == [10, -20, 5, 127]
    assert quant_params == ActivationQuantParams(float(np.float32(0.1)), 128, 0, 255)


@pytest.mark.parametrize(
    ("nodes", "kind", "why"),
    [
        ([*quantize("x"), node("Cast", ["x_q"], ["y"], "cast", to=1)], np.uint8, "reads the integers 'x_q' directly"),
        ([quantize("x")[0], node("Identity", ["x_q"], ["y"], "same")], np.uint8, "reads the integers"),
    ],
    ids=["integers", "moved"],
)  # fmt: skip
def test_what_cannot_be_decomposed_is_rejected_by_name(nodes: list[Any], kind: Any, why: str) -> None:
    with pytest.raises(ModelNotConvertible) as refused:
        extract_float_model(rounded(nodes, {"x": (0.1, 100)}, kind=kind))
    assert why in refused.value.why
    assert "QDQ form" in refused.value.try_this


def test_integers_as_inputs_and_outputs_are_rejected(tmp_path: Path) -> None:
    model = rounded([quantize("x")[0]], {"x": (0.1, 100)}, "x_q")
    with pytest.raises(ModelNotConvertible, match="the model has an integer output"):
        extract_float_model(model)
    nodes, constants = quantized_constant("w", 1, 4)
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("w_q", [1, 4], "INT8")], [value("w_dq", None)], constants[1:])
    with pytest.raises(ModelNotConvertible) as refused:
        extract_float_model(onnx.load(str(path)))
    assert "not the output of a QuantizeLinear" in refused.value.why


def test_an_activation_with_many_scales_and_half_scales_are_rejected() -> None:
    model = rounded([*quantize("x"), node("Identity", ["x_dq"], ["y"], "same")], {"x": (0.1, 100)})
    scale = next(one for one in model.graph.initializer if one.name == "x_scale")
    scale.CopyFrom(constant("x_scale", [0.1] * 4))
    with pytest.raises(ModelNotConvertible) as refused:
        extract_float_model(model)
    assert "more than one scale" in refused.value.why
    scale.CopyFrom(constant("x_scale", 0.1, np.float16))
    with pytest.raises(ModelNotConvertible) as refused:
        extract_float_model(model)
    assert "its scale is float16" in refused.value.why
    model.opset_import[0].version = 10
    with pytest.raises(ModelNotConvertible, match="cannot be extracted"):
        extract_float_model(model)


def test_sixteen_bits_are_floats_within_their_bounds() -> None:
    model = rounded(
        [node("Neg", ["x"], ["n"], "neg"), *quantize("n"), node("Neg", ["n_dq"], ["y"], "back")],
        {"n": (0.001, 0)},
        kind=np.uint16,
    )
    extracted = extract_float_model(model)
    assert not extracted.input_params
    assert not extracted.output_params
    x = np.array([[-99.0, -0.5, 0.5, -0.25]], np.float32)
    np.testing.assert_allclose(run(extracted.model, {"x": x}), [[-65.535, -0.5, 0.0, -0.25]], atol=1e-5)
    np.testing.assert_allclose(run(extracted.model, {"x": x}), run(model, {"x": x}), atol=1e-3)
