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
    assert extracted.output_params == {name: params_of(0.01, 0) for name in ("n", "n__n_quantize")}
    x = np.array([[-1.0, -0.5, 0.5, 1.0]], np.float32)
    np.testing.assert_allclose(run(extracted.model, {"x": x}), [[2.0, 1.0, -0.5, -1.0]], atol=1e-6)
    np.testing.assert_allclose(run(extracted.model, {"x": x}), run(model, {"x": x}), atol=0.02)


def test_outputs_keep_their_names() -> None:
    extracted = extract_float_model(
        rounded([node("Neg", ["x"], ["n"], "neg"), *quantize("n")], {"n": (0.1, 128)}, "n_dq")
    )
    assert [(one.op_type, list(one.output)) for one in extracted.model.graph.node] == [("Neg", ["n_dq"])]
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
    with pytest.raises(ModelNotConvertible) as caught:
        extract_float_model(rounded(nodes, {"x": (0.1, 100)}, kind=kind))
    assert why in caught.value.why
    assert "QDQ form" in caught.value.try_this


def test_integers_as_inputs_and_outputs_are_rejected(tmp_path: Path) -> None:
    model = rounded([quantize("x")[0]], {"x": (0.1, 100)}, "x_q")
    with pytest.raises(ModelNotConvertible, match="the model has an integer output"):
        extract_float_model(model)
    nodes, constants = quantized_constant("w", 1, 4)
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("w_q", [1, 4], "INT8")], [value("w_dq", None)], constants[1:])
    with pytest.raises(ModelNotConvertible) as caught:
        extract_float_model(onnx.load(str(path)))
    assert "the model's input 'w_q' has integers" in caught.value.why
    assert "onnxruntime, litert or openvino" in caught.value.try_this


def test_an_activation_with_many_scales_and_half_scales_are_rejected() -> None:
    model = rounded([*quantize("x"), node("Identity", ["x_dq"], ["y"], "same")], {"x": (0.1, 100)})
    scale = next(one for one in model.graph.initializer if one.name == "x_scale")
    scale.CopyFrom(constant("x_scale", [0.1] * 4))
    with pytest.raises(ModelNotConvertible) as caught:
        extract_float_model(model)
    assert "more than one scale" in caught.value.why
    scale.CopyFrom(constant("x_scale", 0.1, np.float16))
    with pytest.raises(ModelNotConvertible) as caught:
        extract_float_model(model)
    assert "its scale is float16" in caught.value.why
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


def params_of(scale: float, zero: int, kind: Any = np.uint8) -> ActivationQuantParams:
    limits = np.iinfo(kind)
    return ActivationQuantParams(float(np.float32(scale)), zero, int(limits.min), int(limits.max))


def test_scales_may_come_from_constant_nodes() -> None:
    """Nodes that nothing reads afterwards are left out; a Constant without a tensor stays what it is."""
    model = rounded(
        [
            node("Constant", [], ["x_scale"], "scale", value=constant("", 0.1)),
            node("Constant", [], ["one"], "one", value_float=1.0),
            *quantize("x"),
            node("Add", ["x_dq", "one"], ["y"], "add"),
        ],
        {"x": (0.1, 128)},
    )
    del model.graph.initializer[0]
    model.opset_import.insert(0, onnx.helper.make_opsetid("com.microsoft", 1))
    extracted = extract_float_model(model)
    assert [one.name for one in extracted.model.graph.node] == ["one", "add"]
    assert extracted.input_params == {("add", 0): params_of(0.1, 128)}
    np.testing.assert_allclose(run(extracted.model, {"x": np.ones((1, 4), np.float32)}), [[2.0] * 4])


def test_a_tensor_that_is_rounded_twice_is_one_tensor() -> None:
    again = [
        node("QuantizeLinear", ["x_dq", "x_scale", "x_zero"], ["again_q"], "again"),
        node("DequantizeLinear", ["again_q", "x_scale", "x_zero"], ["again_dq"], "back"),
    ]
    extracted = extract_float_model(
        rounded([*quantize("x"), *again, node("Neg", ["again_dq"], ["y"], "neg")], {"x": (0.1, 128)})
    )
    assert [list(one.input) for one in extracted.model.graph.node] == [["x"]]
    assert extracted.output_params == {"x": params_of(0.1, 128)}


def test_output_and_bound_have_their_quantization_parameters() -> None:
    """Who reads a tensor besides its output, or the output's bound, still reads it."""
    product = node("MatMul", ["x", "w"], ["n"], "product")
    model = rounded([product, *quantize("n"), node("Neg", ["n_dq"], ["m"], "neg")], {"n": (0.1, 128)}, "n_dq")
    model.graph.initializer.append(constant("w", np.eye(4)))
    extracted = extract_float_model(model)
    (clip,) = [one for one in extracted.model.graph.node if one.op_type == "Clip"]
    assert extracted.output_params == {"n": params_of(0.1, 128), "n_dq": params_of(0.1, 128)}
    assert clip.name == "n_quantize"
    x = np.array([[-99.0, -1.0, 1.0, 99.0]], np.float32)
    np.testing.assert_allclose(run(extracted.model, {"x": x}), [[-12.8, -1.0, 1.0, 12.7]], rtol=1e-5)


@pytest.mark.parametrize(
    ("source", "bounded"),
    [
        (node("Clip", ["x", "least"], ["n"], "clip"), False),
        (node("Clip", ["x"], ["n"], "clip"), True),
        (node("Clip", ["x", "less"], ["n"], "clip"), True),
        (node("Clip", ["x"], ["n"], "clip", max=6.0, min=0.0), False),
        (node("Clip", ["x"], ["n"], "clip", max=6.0), True),
        (node("Relu", ["x"], ["n"], "relu"), False),
        (node("Neg", ["x"], ["n"], "neg"), True),
    ],
    ids=["limit", "no limit", "negative limit", "attribute", "other attribute", "relu", "neg"],
)
def test_only_what_may_be_negative_is_bounded_at_zero(source: Any, *, bounded: bool) -> None:
    model = rounded([source, *quantize("n"), node("Neg", ["n_dq"], ["y"], "back")], {"n": (0.1, 0)})
    model.graph.initializer.extend([constant("least", 0.0), constant("less", -1.0)])
    clips = [one.name for one in extract_float_model(model).model.graph.node if one.op_type == "Clip"]
    assert ("n_quantize" in clips) == bounded


def test_weights_are_scaled_along_their_axis() -> None:
    """The default axis is 1; a vector has none of that number, and its scales go along the only one."""
    model = rounded(
        [
            node("DequantizeLinear", ["w", "w_scales"], ["w_dq"], "weights"),
            node("DequantizeLinear", ["b", "w_scales"], ["b_dq"], "bias"),
            node("DequantizeLinear", ["two", "two_scales"], ["two_dq"], "unused"),
            node("Gemm", ["x", "w_dq", "b_dq"], ["y"], "gemm"),
        ],
        {},
    )
    scales = [0.1, 0.2, 0.3, 0.4]
    stored = np.arange(16).reshape(4, 4)
    model.graph.initializer.extend(
        [constant("w", stored, np.uint8), constant("b", [1, 2, 3, 4], np.uint8), constant("w_scales", scales)]
    )
    model.graph.initializer.extend([constant("two", [1, 2], np.uint8), constant("two_scales", [0.1, 0.2])])
    extracted = extract_float_model(model)
    assert {name: one.axis for name, one in extracted.weights.items()} == {"w_dq": 1, "b_dq": 1, "two_dq": 1}
    made = {one.name: onnx.numpy_helper.to_array(one) for one in extracted.model.graph.initializer}
    np.testing.assert_allclose(made["w_dq"], stored * np.array(scales), rtol=1e-6)
    np.testing.assert_allclose(made["b_dq"], [0.1, 0.4, 0.9, 1.6], rtol=1e-6)


def test_computed_and_differing_and_blockwise_parameters_are_refused() -> None:
    quantizer, dequantizer = quantize("x")
    end = node("Identity", ["x_dq"], ["y"], "same")
    computed = node("Identity", ["x_zero"], ["zero"], "zero")
    for nodes, why in (
        ([computed, node("QuantizeLinear", ["x", "x_scale", "zero"], ["x_q"], "q")], "its zero point is computed"),
        ([quantizer, node("DequantizeLinear", ["x_q", "other_scale", "x_zero"], ["x_dq"], "d")], "differs from that"),
        ([quantizer, node("DequantizeLinear", ["x_q", "x_scale", "other_zero"], ["x_dq"], "d")], "differs from that"),
        (
            [node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["x_q"], "q", block_size=2), dequantizer],
            "it has blockwise scales",
        ),
    ):
        with pytest.raises(ModelNotConvertible) as refused:
            extract_float_model(rounded([*nodes, end], {"x": (0.1, 100), "other": (0.2, 101)}))
        assert why in refused.value.why
