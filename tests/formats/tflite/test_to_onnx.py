"""TFLite files converted to ONNX: each operator gives LiteRT's numbers, and networks look as converters need them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import copy
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edgewright.formats.tflite.reader import name_ports, read_signature, read_tflite
from edgewright.formats.tflite.to_onnx.convert import convert
from edgewright.formats.tflite.to_onnx.operators import TABLE
from edgewright.formats.tflite.to_onnx.read import ConversionRequest, OnnxConversion
from edgewright.limits import ResourceBudget
from edgewright.runtimes.litert.writer import convert_onnx
from tests.models.onnx_files import write_conv_net
from tests.models.tflite_files import Node, Tensor, alter_tflite, weights, write_int8_convnet, write_tflite
from tests.paths import SHARED

Array = NDArray[Any]
FLOAT_DB = 100.0


def sqnr_db(expected: Array, result: Array) -> float:
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    a, b = expected.astype(np.float64), result.astype(np.float64)
    noise = float(np.sum((a - b) ** 2))
    return 200.0 if noise == 0 else 10 * float(np.log10(max(float(np.sum(a**2)), 1e-30) / noise))


def to_onnx(path: Path, shapes: Mapping[str, Sequence[int]] | None = None) -> tuple[onnx.ModelProto, OnnxConversion]:
    to = path.with_suffix(".onnx")
    fixed = {name: tuple(sizes) for name, sizes in (shapes or {}).items()}
    made = convert(path, ConversionRequest(shapes=fixed, to=str(to)), ResourceBudget())
    model = onnx.load(str(to)) if to.is_file() else onnx.ModelProto()
    if not made.rejected:
        onnx.checker.check_model(model, full_check=True)
    return model, made


def compare(path: Path, shapes: Mapping[str, Sequence[int]] | None = None) -> tuple[onnx.ModelProto, float]:
    """The ONNX model, and its worst output's SQNR against LiteRT on the untouched file."""
    model, found = compare_each(path, shapes)
    return model, min(found.values())


def compare_each(
    path: Path, shapes: Mapping[str, Sequence[int]] | None = None
) -> tuple[onnx.ModelProto, dict[str, float]]:
    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter

    model, made = to_onnx(path, shapes)
    assert made.rejected == ()
    random, graph, signature = np.random.default_rng(0), read_tflite(path), read_signature(path)
    interpreter, feeds = Interpreter(str(path)), dict[str, Array]()
    for spec, index in zip(signature.inputs, graph.inputs, strict=True):
        sizes = (shapes or {}).get(spec.name) or [size if isinstance(size, int) else 1 for size in spec.shape]
        if spec.dtype == "float32":
            feeds[spec.name] = random.standard_normal(sizes).astype(np.float32)
        elif spec.dtype == "int8":
            feeds[spec.name] = random.integers(-128, 128, sizes).astype(np.int8)
        else:
            feeds[spec.name] = random.integers(0, 2, sizes).astype(spec.dtype)
        interpreter.resize_tensor_input(index, sizes)
    interpreter.allocate_tensors()
    for spec, index in zip(signature.inputs, graph.inputs, strict=True):
        interpreter.set_tensor(index, feeds[spec.name])
    interpreter.invoke()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = name_ports(graph)[1]
    expected = [interpreter.get_tensor(index) for index in graph.outputs]
    given = zip(names, expected, session.run(list(names), feeds), strict=True)
    return model, {name: sqnr_db(a, b) for name, a, b in given}


def count(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


class Feed(NamedTuple):
    """An input of the model."""

    shape: tuple[int, ...]
    dtype: str = "float32"


def x(*shape: int) -> Feed:
    return Feed(shape)


def ints(*numbers: int) -> Array:
    return np.array(numbers, np.int32)


def number(value: float | bool, dtype: str = "float32") -> Array:
    return np.array(value, dtype)


class Case(NamedTuple):
    """One operator with its inputs (constants as arrays), its options, and the types of its results."""

    op: str
    inputs: tuple[Feed | Array, ...]
    kind: str = ""
    options: Mapping[str, Any] = {}
    outputs: tuple[str, ...] = ("float32",)


IMAGE = x(1, 7, 6, 3)
STRIDES = {"strideH": 2, "strideW": 2, "dilationHFactor": 1, "dilationWFactor": 1}
POOL = {"filterHeight": 3, "filterWidth": 2, "strideH": 2, "strideW": 1}
VOLUME = {f"{name}{axis}": 1 for name in ("stride", "dilation") for axis in "DHW"}
VOLUME = {key + "Factor" * key.startswith("dilation"): value for key, value in VOLUME.items()}
PAIR, MIXED = (x(2, 3, 4), x(2, 3, 4)), (x(2, 3, 4), weights((4,)))
TRUTH = Feed((2, 3), "bool")
WHOLE = Feed((2, 3), "int32")
UNARY = (
    "ABS NEG EXP SIN COS FLOOR CEIL ROUND SIGN RELU RELU6 RELU_N1_TO_1 RELU_0_TO_1 LOGISTIC TANH ELU HARD_SWISH "
    "SQUARE LOG_SOFTMAX ZEROS_LIKE"
)
CASES = [
    *(Case(op, (x(2, 3, 4),)) for op in UNARY.split()),
    *(Case(op, PAIR, f"{op.title()}Options", {"fusedActivationFunction": i})
      for i, op in enumerate(["ADD", "SUB", "MUL"], 1)),
    *(Case(op, MIXED, f"{op.title()}Options") for op in ["ADD", "SUB", "MUL", "DIV"]),
    *(Case(op, MIXED) for op in ["MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "FLOOR_DIV", "FLOOR_MOD"]),
    Case("ATAN2", PAIR),
    *(Case(op, PAIR, outputs=("bool",))
      for op in ["EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL"]),
    *(Case(op, (TRUTH, TRUTH), outputs=("bool",)) for op in ["LOGICAL_AND", "LOGICAL_OR"]),
    *(Case(op, (x(2, 5, 4), ints(1)), "ReducerOptions", {"keepDims": op == "SUM"})
      for op in ["MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"]),
    *(Case(op, (TRUTH, ints(1)), "ReducerOptions", outputs=("bool",)) for op in ["REDUCE_ANY", "REDUCE_ALL"]),
    *(Case(op, (x(2, 5), ints(1)), f"{kind}Options", {"outputType": 2}, ("int32",))
      for op, kind in (("ARG_MAX", "ArgMax"), ("ARG_MIN", "ArgMin"))),
    *(Case(op, (np.abs(weights((2, 3))) + 1,)) for op in ["LOG", "SQRT", "RSQRT"]),
    Case("POW", (x(2, 3), number(2.0))),
    Case("ADD_N", (*PAIR, x(2, 3, 4))),
    Case("LOGICAL_NOT", (TRUTH,), outputs=("bool",)),
    Case("BITWISE_XOR", (WHOLE, ints(1, 2, 3)), outputs=("int32",)),
    Case("FLOOR_DIV", (ints(7, -7, 8), ints(2, 2, -3)), outputs=("int32",)),
    Case("FLOOR_MOD", (ints(7, -7, 8), ints(2, 2, -3)), outputs=("int32",)),
    Case("SELECT", (TRUTH, x(2, 3), x(2, 3))),
    Case("SELECT_V2", (TRUTH, x(2, 3), number(1.5))),
    Case("CAST", (x(2, 3),), outputs=("int32",)),
    Case("LEAKY_RELU", (x(2, 3),), "LeakyReluOptions", {"alpha": 0.1}),
    Case("PRELU", (IMAGE, weights((1, 1, 3)))),
    Case("GELU", (x(2, 3),), "GeluOptions", {"approximate": False}),
    Case("GELU", (x(2, 3),), "GeluOptions", {"approximate": True}),
    Case("SOFTMAX", (x(2, 5),), "SoftmaxOptions", {"beta": 2.0}),
    Case("CONV_2D", (IMAGE, weights((4, 3, 3, 3)), weights((4,))), "Conv2DOptions", {**STRIDES, "padding": 0}),
    Case("CONV_2D", (IMAGE, weights((4, 3, 2, 3)), weights((4,))), "Conv2DOptions",
         {**STRIDES, "strideH": 1, "strideW": 1, "dilationHFactor": 2, "padding": 1, "fusedActivationFunction": 3}),
    Case("CONV_2D", (x(1, 7, 6, 4), weights((6, 1, 1, 2)), weights((6,))), "Conv2DOptions", STRIDES),
    Case("CONV_3D", (x(1, 5, 4, 4, 2), weights((3, 2, 2, 2, 4)), weights((4,))), "Conv3DOptions", VOLUME),
    Case("DEPTHWISE_CONV_2D", (IMAGE, weights((1, 3, 3, 6)), weights((6,))), "DepthwiseConv2DOptions",
         {**STRIDES, "depthMultiplier": 2}),
    Case("TRANSPOSE_CONV", (ints(1, 13, 12, 4), weights((4, 3, 3, 3)), IMAGE, weights((4,))), "TransposeConvOptions",
         {"strideH": 2, "strideW": 2, "padding": 0}),
    Case("TRANSPOSE_CONV", (ints(1, 15, 13, 4), weights((4, 3, 3, 3)), IMAGE), "TransposeConvOptions",
         {"strideH": 2, "strideW": 2, "padding": 1}),
    Case("CONV_3D_TRANSPOSE", (ints(1, 5, 5, 5, 3), weights((2, 2, 2, 3, 2)), x(1, 4, 4, 4, 2)), "Conv3DOptions",
         {**VOLUME, "padding": 1}),
    Case("AVERAGE_POOL_2D", (IMAGE,), "Pool2DOptions", POOL),
    Case("MAX_POOL_2D", (IMAGE,), "Pool2DOptions", {**POOL, "padding": 1}),
    Case("FULLY_CONNECTED", (x(2, 8), weights((4, 8)), weights((4,))), "FullyConnectedOptions"),
    Case("FULLY_CONNECTED", (x(2, 3, 8), weights((4, 8)), weights((4,))), "FullyConnectedOptions",
         {"keepNumDims": True, "fusedActivationFunction": 1}),
    Case("BATCH_MATMUL", (x(2, 3, 4), x(2, 5, 4)), "BatchMatMulOptions", {"adjY": True}),
    Case("L2_NORMALIZATION", (x(2, 5),), "L2NormOptions"),
    Case("LOCAL_RESPONSE_NORMALIZATION", (IMAGE,), "LocalResponseNormalizationOptions",
         {"radius": 1, "bias": 1.0, "alpha": 0.3, "beta": 0.5}),
    Case("CUMSUM", (x(2, 5), number(1, "int32")), "CumsumOptions", {"exclusive": True, "reverse": True}),
    Case("RESHAPE", (x(2, 3, 4), ints(4, -1)), "ReshapeOptions"),
    Case("SQUEEZE", (x(2, 1, 4),), "SqueezeOptions", {"squeezeDims": [1]}),
    Case("EXPAND_DIMS", (x(2, 4), number(-1, "int32")), "ExpandDimsOptions"),
    Case("TRANSPOSE", (x(2, 3, 4), ints(2, 0, 1)), "TransposeOptions"),
    Case("CONCATENATION", (*PAIR,), "ConcatenationOptions", {"axis": -1}),
    Case("SPLIT", (number(1, "int32"), x(2, 4)), "SplitOptions", {"numSplits": 2}, ("float32",) * 2),
    Case("SPLIT_V", (x(2, 4), ints(1, -1), number(1, "int32")), "SplitVOptions", {"numSplits": 2}, ("float32",) * 2),
    Case("SLICE", (x(1, 5, 4), ints(0, 1, 3), ints(-1, 1, -1)), "SliceOptions"),
    Case("STRIDED_SLICE", (x(2, 5, 4), ints(1, 4, 0), ints(2, 0, 0), ints(1, -2, 1)), "StridedSliceOptions",
         {"endMask": 4, "shrinkAxisMask": 1}),
    Case("PAD", (IMAGE, np.array([[0, 0], [1, 2], [0, 1], [0, 0]], np.int32)), "PadOptions"),
    Case("PADV2", (x(2, 3), np.array([[1, 0], [0, 2]], np.int32), number(1.5)), "PadV2Options"),
    Case("MIRROR_PAD", (x(3, 3), np.array([[1, 0], [0, 2]], np.int32)), "MirrorPadOptions", {"mode": 0}),
    Case("TILE", (x(2, 3), ints(2, 1)), "TileOptions"),
    Case("BROADCAST_TO", (x(1, 3), ints(2, 3)), "BroadcastToOptions"),
    Case("FILL", (ints(2, 3), number(1.5))),
    Case("PACK", PAIR, "PackOptions", {"axis": 1, "valuesCount": 2}),
    Case("UNPACK", (x(2, 3),), "UnpackOptions", {"axis": 0, "num": 2}, ("float32",) * 2),
    Case("SHAPE", (x(2, 3),), "ShapeOptions", {"outType": 2}, ("int32",)),
    Case("RANGE", (number(1, "int32"), number(8, "int32"), number(3, "int32")), outputs=("int32",)),
    Case("REVERSE_V2", (x(2, 3), ints(1))),
    Case("DEPTH_TO_SPACE", (x(1, 2, 3, 8),), "DepthToSpaceOptions", {"blockSize": 2}),
    Case("SPACE_TO_DEPTH", (x(1, 4, 6, 2),), "SpaceToDepthOptions", {"blockSize": 2}),
    *(Case(f"RESIZE_{op}", (x(1, 4, 5, 2), ints(7, 3)), f"Resize{kind}Options",
           {"halfPixelCenters": way == 1, "alignCorners": way == 2})
      for op, kind in (("BILINEAR", "Bilinear"), ("NEAREST_NEIGHBOR", "NearestNeighbor")) for way in range(3)),
    Case("GATHER", (x(2, 5), ints(4, 0, 4)), "GatherOptions", {"axis": 1}),
    Case("GATHER_ND", (x(2, 5), np.array([[1, 2], [0, 4]], np.int32))),
    Case("EMBEDDING_LOOKUP", (WHOLE._replace(shape=(3,)), weights((4, 2)))),
    Case("SCATTER_ND", (np.array([[3], [0], [3]], np.int32), x(3, 2), ints(5, 2))),
    Case("TOPK_V2", (x(2, 6), number(3, "int32")), outputs=("float32", "int32")),
    Case("ONE_HOT", (WHOLE, number(4, "int32"), number(2.0), number(-1.0)), "OneHotOptions", {"axis": -1}),
    Case("REVERSE_SEQUENCE", (x(4, 2, 3), ints(4, 2)), "ReverseSequenceOptions", {"seqDim": 0, "batchDim": 1}),
]  # fmt: skip
# Their results are other operators' inputs in test_quantized_values_become_pairs.
PAIRS = {"QUANTIZE", "DEQUANTIZE"}


def test_every_operator_gives_litert_s_numbers(tmp_path: Path) -> None:
    """All cases are in one file, each with inputs and outputs of its own."""
    tensors, nodes, feeds, outputs = list[Tensor](), list[Node](), list[str](), list[str]()
    for place, case in enumerate(CASES):
        names = [f"{case.op}-{place}/{i}" for i in range(len(case.inputs))]
        for name, one in zip(names, case.inputs, strict=True):
            if isinstance(one, Feed):
                feeds.append(name)
                tensors.append(Tensor(name, one.shape, one.dtype))
            else:
                tensors.append(Tensor(name, one.shape, one.dtype.name, one))
        made = [f"{case.op}-{place}/result{i}" for i in range(len(case.outputs))]
        rank = len(case.inputs[0].shape)  # LiteRT computes the sizes itself; SLICE requires the rank
        tensors += [Tensor(name, (1,) * rank, kind) for name, kind in zip(made, case.outputs, strict=True)]
        nodes.append(Node(case.op, tuple(names), tuple(made), case.kind, case.options))
        outputs += made
    path = write_tflite(tmp_path / "m.tflite", tensors, nodes, feeds, outputs)
    _, found = compare_each(alter_tflite(path, raise_version))
    assert {name: db for name, db in found.items() if not db >= FLOAT_DB} == {}
    assert {case.op for case in CASES} | PAIRS == set(TABLE)
    page = (Path(__file__).parents[3] / "docs/tflite-sources.md").read_text().partition("## Operators")[2]
    assert re.findall(r"`([A-Z][A-Z0-9_]+)`", page) == list(TABLE)


def raise_version(model: Any) -> None:
    """BROADCAST_TO has no version 1."""
    for code in model.operatorCodes:
        code.version = 2 if code.builtinCode == 130 else 1


def write_litert(source: Path, path: Path, precision: Any = "fp32") -> Path:
    path.write_bytes(convert_onnx(source, precision=precision, check="none").data)
    return path


def test_a_network_is_plain_nchw(tmp_path: Path) -> None:
    """The one transposition is that of the input, which stays NHWC."""
    path = write_litert(write_conv_net(tmp_path / "m.onnx"), tmp_path / "m.tflite")
    model, db = compare(path)
    assert db >= FLOAT_DB
    assert count(model) == {"Transpose": 1, "Conv": 1, "Relu": 1, "GlobalAveragePool": 1, "Reshape": 1, "Gemm": 1}
    assert [node.name for node in model.graph.node if node.op_type == "Conv"] == ["CONV_2D#0"]
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert (model.graph.input[0].name, shape, model.graph.output[0].name) == ("x", [1, 8, 8, 3], "y")


def test_half_precision_weights_are_constants(tmp_path: Path) -> None:
    from tests.models.tflite_files import write_dense

    model, db = compare(write_dense(tmp_path / "m.tflite", "float16"))
    assert db >= FLOAT_DB
    assert count(model) == {"Gemm": 1}


def test_quantized_values_become_pairs(tmp_path: Path) -> None:
    """Weights along the channels, biases of 32 bits; a rounding differs by one step where float32 sums differ."""
    model, db = compare(write_int8_convnet(tmp_path / "m.tflite"))
    assert db >= 40
    assert count(model)["QuantizeLinear"] == 6  # of each result, and of the input as NCHW
    shapes = {one.name: list(one.dims) for one in model.graph.initializer}
    assert shapes["w/scale"] == [4]
    assert shapes["x/scale"] == []
    assert {one.data_type for one in model.graph.initializer if one.name == "b/quantized"} == {onnx.TensorProto.INT32}
    kinds = [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)]
    assert kinds == [onnx.TensorProto.INT8] * 2


def test_a_convolution_of_a_sequence_has_no_inner_transposition(tmp_path: Path) -> None:
    """Keras writes Conv1D as an image of height 1, with a reshape before and behind."""
    options = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    tensors = [Tensor("x", (1, 16, 3)), Tensor("one", (4,), "int32", ints(1, 1, 16, 3)), Tensor("e", (1, 1, 16, 3)),
               Tensor("w", (4, 1, 3, 3), data=weights((4, 1, 3, 3))), Tensor("c", (1, 1, 16, 4)),
               Tensor("s", (1, 16, 4)), Tensor("axis", (), "int32", np.array(1, np.int32)), Tensor("t", (1, 1, 16, 4)),
               Tensor("v", (2, 1, 3, 4), data=weights((2, 1, 3, 4))), Tensor("b", (4,), data=weights((4,))),
               Tensor("d", (2,), data=weights((2,))), Tensor("y", (1, 1, 16, 2))]  # fmt: skip
    nodes = [
        Node("RESHAPE", ("x", "one"), ("e",)),
        Node("CONV_2D", ("e", "w", "b"), ("c",), "Conv2DOptions", {**options, "fusedActivationFunction": 1}),
        Node("SQUEEZE", ("c",), ("s",), "SqueezeOptions", {"squeezeDims": [1]}),
        Node("EXPAND_DIMS", ("s", "axis"), ("t",)),
        Node("CONV_2D", ("t", "v", "d"), ("y",), "Conv2DOptions", options),
    ]
    model, db = compare(write_tflite(tmp_path / "m.tflite", tensors, nodes, ["x"], ["y"]))
    assert db >= FLOAT_DB
    assert count(model)["Transpose"] == 2  # of the input and of the output


def test_free_sizes_are_followed(tmp_path: Path) -> None:
    """TensorFlow stores 1 for sizes that follow from a free input; the reader computes them."""
    path = write_litert(write_conv_net(tmp_path / "m.onnx"), tmp_path / "m.tflite")

    def free(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            if model.buffers[tensor.buffer].data is None:
                tensor.shapeSignature = [-1] * (len(tensor.shape) - 1) + [tensor.shape[-1]]
                tensor.shape = [1] * (len(tensor.shape) - 1) + [tensor.shape[-1]]

    alter_tflite(path, free)
    model, db = compare(path, {"x": (1, 12, 10, 3)})
    assert db >= FLOAT_DB
    assert [dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim] == [1, 5]
    assert to_onnx(path, {"x": (1, 12, 10, 3)})[1].sizes[0] == (1, 12, 10, 3)
    model, _ = to_onnx(path)
    assert [dim.dim_param for dim in model.graph.input[0].type.tensor_type.shape.dim] == ["x_0", "x_1", "x_2", ""]


def test_what_cannot_be_converted_is_named_with_its_place(tmp_path: Path) -> None:
    tensors = [Tensor(name, (2, 3)) for name in "xabcy"]
    nodes = [
        Node("RELU", ("x",), ("a",)),
        Node("Landmarks", ("a",), ("b",)),
        Node("RELU", ("b",), ("c",)),
        Node("RFFT2D", ("c",), ("y",)),
    ]
    _, made = to_onnx(write_tflite(tmp_path / "m.tflite", tensors, nodes, ["x"], ["y"]))
    assert [(one.node, one.op) for one in made.rejected] == [("Landmarks#1", "Landmarks"), ("RFFT2D#3", "RFFT2D")]
    assert "custom operator" in made.rejected[0].reason
    assert ["litert" in one.remedy for one in made.rejected] == [False, True]  # LiteRT does not run the first either


def test_damaged_files_are_rejected(tmp_path: Path) -> None:
    """Bytes changed at random places: a result, a rejection or ModelUnreadable, nothing else."""
    from edgewright.errors import ModelUnreadable

    whole = write_int8_convnet(tmp_path / "m.tflite").read_bytes()
    random, outcomes = np.random.default_rng(1), Counter[str]()
    for _ in range(150):
        damaged = bytearray(whole)
        for at in random.integers(0, len(whole), 3):
            damaged[at] = random.integers(0, 256)
        path = tmp_path / "damaged.tflite"
        path.write_bytes(damaged)
        try:
            made = convert(path, ConversionRequest(shapes={}, to=str(tmp_path / "d.onnx")), ResourceBudget())
            outcomes["rejected" if made.rejected else "converted"] += 1
        except ModelUnreadable:
            outcomes["unreadable"] += 1
    assert outcomes.total() == 150
    assert len(outcomes) == 3


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "least_db"),
    [
        ("vww_96_float", FLOAT_DB),
        ("ad01_fp32", FLOAT_DB),
        ("pretrainedResnet", FLOAT_DB),
        ("pretrainedResnet_quant", 40),
    ],
)
def test_shipped_models(name: str, least_db: float, tmp_path: Path) -> None:
    source = SHARED / "models" / f"{name}.tflite"
    if not source.is_file():
        pytest.skip("the evaluation data does not lie beside the checkout")
    path = Path(copy(source, tmp_path))
    shapes = {spec.name: spec.default_shape or () for spec in read_signature(path).inputs}
    model, db = compare(path, {name: shape for name, shape in shapes.items() if shape})
    assert db >= least_db
    assert count(model)["Transpose"] <= 1
