"""Costs against figures worked out by hand, and MobileNetV2 against the published one."""

from math import prod
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgewright.formats.costs import ModelCosts, measure_costs
from edgewright.formats.onnx.typed import read_onnx_graph
from edgewright.formats.tflite.typed import read_tflite_graph
from edgewright.formats.typed_graph import TensorType, TypedGraph, TypedNode
from edgewright.schema.model import Signature
from tests.models.onnx_files import write_conv_net, write_qdq_net, write_residual_net
from tests.paths import ROOT

SHARED = ROOT.parent / "shared" / "data" / "models"
PUBLISHED_MACS = 300e6  # MobileNetV2 1.0 at 224²: Sandler et al. 2018, table 4


def tensor(*shape: int | str, dtype: str = "float32", stored: bool = False) -> TensorType:
    return TensorType(dtype=dtype, shape=tuple(shape), constant=stored, stored=stored)


def weight(*shape: int, dtype: str = "float32") -> TensorType:
    return tensor(*shape, dtype=dtype, stored=True)


def one_node(op: str, inputs: list[TensorType], output: TensorType, **attributes: Any) -> TypedGraph:
    names = [f"x{i}" for i in range(len(inputs))]
    node = TypedNode(name="node", op=op, inputs=tuple(names), outputs=("y",), attributes=attributes)
    fed = tuple(name for name, kind in zip(names, inputs, strict=True) if not kind.constant)
    return make_graph([node], dict(zip([*names, "y"], [*inputs, output], strict=True)), fed, ("y",))


def one_tflite_node(op: str, inputs: list[TensorType], output: TensorType) -> TypedGraph:
    return msgspec.structs.replace(one_node(op, inputs, output), format="tflite")


def make_graph(
    nodes: list[TypedNode], tensors: dict[str, TensorType], inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> TypedGraph:
    return TypedGraph(
        format="onnx",
        opset=18,
        domains={},
        signature=Signature(inputs=(), outputs=()),
        precision="fp32",
        nodes=tuple(nodes),
        tensors=tensors,
        inputs=inputs,
        outputs=outputs,
        shapes={},
    )


IMAGE = tensor(1, 8, 10, 12)


@pytest.mark.parametrize(
    ("graph", "macs"),
    [
        (one_node("Conv", [IMAGE, weight(16, 8, 3, 3)], tensor(1, 16, 10, 12)), 16 * 10 * 12 * 8 * 9),
        (one_node("Conv", [IMAGE, weight(8, 1, 3, 3)], tensor(1, 8, 10, 12), group=8), 8 * 10 * 12 * 9),
        (one_node("ConvTranspose", [IMAGE, weight(8, 4, 2, 2)], tensor(1, 4, 20, 24)), 8 * 10 * 12 * 4 * 4),
        (one_node("Gemm", [tensor(3, 16), weight(16, 5)], tensor(3, 5)), 3 * 16 * 5),
        (one_node("Gemm", [tensor(16, 3), weight(16, 5)], tensor(3, 5), transA=1), 3 * 16 * 5),
        (one_node("MatMul", [tensor(2, 4, 6, 16), tensor(2, 4, 16, 5)], tensor(2, 4, 6, 5)), 2 * 4 * 6 * 16 * 5),
        (one_node("Einsum", [tensor(2, 6, 16), tensor(2, 16, 5)], tensor(2, 6, 5), equation="bij, bjk -> bik"), 960),
        (one_node("LSTM", [tensor(7, 2, 16), weight(1, 32, 16), weight(1, 32, 8)], tensor(7, 1, 2, 8)), 14 * 32 * 24),
        (one_node("Attention", [tensor(1, 2, 6, 8), tensor(1, 2, 9, 8), tensor(1, 2, 9, 4)], tensor(1, 2, 6, 4)), 1296),
        (one_node("QLinearConv", [IMAGE, *[weight()] * 2, weight(4, 8, 1, 1)], tensor(1, 4, 10, 12)), 480 * 8),
        (one_node("Relu", [IMAGE], IMAGE), 0),
        (one_tflite_node("CONV_2D", [tensor(1, 10, 12, 8), weight(16, 3, 3, 8)], tensor(1, 10, 12, 16)), 16 * 120 * 72),
        (
            one_tflite_node("DEPTHWISE_CONV_2D", [tensor(1, 10, 12, 8), weight(1, 3, 3, 8)], tensor(1, 10, 12, 8)),
            960 * 9,
        ),
        (one_tflite_node("FULLY_CONNECTED", [tensor(3, 16), weight(5, 16)], tensor(3, 5)), 240),
        (one_tflite_node("BATCH_MATMUL", [tensor(2, 6, 16), tensor(2, 5, 16)], tensor(2, 6, 5)), 2 * 6 * 16 * 5),
        (
            one_tflite_node("RNN", [tensor(3, 8), weight(4, 8), weight(4, 4), weight(4), tensor(3, 4)], tensor(3, 4)),
            144,
        ),
        (one_tflite_node("LSTM", [tensor(1, 8), *[weight(4, 8)] * 4, *[weight(4, 4)] * 4], tensor(1, 4)), 192),
        (one_tflite_node("UNIDIRECTIONAL_SEQUENCE_RNN", [tensor(5, 2, 8), weight(4, 8)], tensor(5, 2, 4)), 320),
        (one_tflite_node("RNN", [tensor(3, 8), tensor(4, 8)], tensor(3, 4)), None),
        (one_node("LSTM", [tensor(7, 16), weight(1, 32, 16), weight(1, 32, 8)], tensor(7, 8)), None),
        (one_node("Attention", [tensor(1, 2, 3)] * 3, tensor(1, 2, 3), q_num_heads="x"), None),
        (one_node("MatMul", [tensor(2**40, 2**40), weight(2**40, 2)], tensor(2**40, 2**40)), None),
        (one_node("Conv", [tensor(1, 8, "h", 12), weight(16, 8, 3, 3)], tensor(1, 16, "h", 12)), None),
    ],
)
def test_multiply_accumulates(graph: TypedGraph, macs: int | None) -> None:
    costs = measure_costs(graph)
    assert costs.layers[0].macs == macs
    assert costs.macs == macs
    assert ("macs" in costs.unknown) == (macs is None)


def test_a_layer_by_hand() -> None:
    costs = measure_costs(one_node("Conv", [IMAGE, weight(16, 8, 3, 3), weight(16)], tensor(1, 16, 10, 12)))
    (layer,) = costs.layers
    read, written, weights = 8 * 120 * 4, 16 * 120 * 4, (16 * 8 * 9 + 16) * 4
    assert (layer.read_bytes, layer.written_bytes, layer.weight_bytes) == (read, written, weights)
    assert layer.parameters == costs.parameters == 16 * 8 * 9 + 16
    assert layer.intensity == pytest.approx(2 * 16 * 120 * 72 / (read + written + weights))
    assert costs.arena_bytes == read + written


def test_shared_weights_count_once() -> None:
    nodes = [
        TypedNode(name="a", op="MatMul", inputs=("x", "w"), outputs=("h",)),
        TypedNode(name="b", op="MatMul", inputs=("h", "w"), outputs=("y",)),
    ]
    tensors = {"x": tensor(1, 4), "h": tensor(1, 4), "y": tensor(1, 4), "w": weight(4, 4)}
    costs = measure_costs(make_graph(nodes, tensors, ("x",), ("y",)))
    assert costs.parameters == 16
    assert [layer.parameters for layer in costs.layers] == [16, 16]


def test_scales_are_no_parameters(tmp_path: Path) -> None:
    """Two convolutions of 8×8×3×3 and a Gemm of 8×5, all in int8 behind a DequantizeLinear."""
    costs = measure_costs(read_onnx_graph(write_qdq_net(tmp_path / "m.onnx")))
    assert costs.parameters == 2 * 8 * 8 * 9 + 8 * 5
    assert costs.macs == 2 * 8 * 8 * 9 * 64 + 8 * 5
    conv = next(layer for layer in costs.layers if layer.name == "conv1")
    assert conv.parameters == 8 * 8 * 9
    assert conv.weight_bytes == 8 * 8 * 9 + 4 + 1  # int8 weights, their scale and zero point


def chain(*ops: str, size: int = 100, kept: tuple[str, ...] = ()) -> ModelCosts:
    """Operators one behind the other, each of a value of `size` floats."""
    names = [f"v{i}" for i in range(len(ops) + 1)]
    nodes = [TypedNode(name=op, op=op, inputs=(names[i],), outputs=(names[i + 1],)) for i, op in enumerate(ops)]
    tensors = {name: tensor(size) for name in names}
    return measure_costs(make_graph(nodes, tensors, ("v0",), (names[-1], *kept)))


@pytest.mark.parametrize(
    ("costs", "values"),
    [
        (chain("ReduceX"), 2),
        (chain("ReduceX", "ReduceX"), 2),  # the input has died when the output is made
        (chain("ReduceX", "Relu"), 2),  # written over
        (chain("ReduceX", "Reshape", "Relu", "Flatten"), 2),
        (chain("Relu"), 2),  # the model's input is nobody's to overwrite
        (chain("ReduceX", "Relu", kept=("v1",)), 3 - 1),  # v1 is an output: kept, and x is dead by then
        (chain("ReduceX", "Relu", "ReduceX", kept=("v1",)), 3),
    ],
)
def test_the_arena_is_the_peak_of_what_lives(costs: ModelCosts, values: int) -> None:
    assert costs.arena_bytes == values * 400


def test_a_branch_keeps_its_source_alive() -> None:
    nodes = [
        TypedNode(name="a", op="Conv1", inputs=("x",), outputs=("a",)),
        TypedNode(name="b", op="Conv2", inputs=("a",), outputs=("b",)),
        TypedNode(name="c", op="Conv3", inputs=("b",), outputs=("c",)),
        TypedNode(name="add", op="Add", inputs=("a", "c"), outputs=("y",)),
    ]
    tensors = {name: tensor(100) for name in "xabcy"}
    costs = measure_costs(make_graph(nodes, tensors, ("x",), ("y",)))
    assert costs.arena_bytes == 3 * 400  # a, b and c; y is written over a
    assert costs.arena_at == "c"


def test_a_free_size_leaves_a_reason() -> None:
    costs = measure_costs(one_node("Relu", [tensor(1, "n")], tensor(1, "n")))
    assert costs.arena_bytes is None
    assert "x0" in costs.unknown["arena_bytes"]


def test_half_bytes() -> None:
    assert weight(3, dtype="int4").bytes() == 2
    assert weight(3, dtype="str").bytes() is None


@pytest.mark.parametrize("write", [write_conv_net, write_residual_net])
def test_networks(tmp_path: Path, write: Any) -> None:
    graph = read_onnx_graph(write(tmp_path / "m.onnx"))
    costs = measure_costs(graph)
    stored = [kind for kind in graph.tensors.values() if kind.stored]
    assert costs.parameters == sum(prod(map(int, kind.shape or ())) for kind in stored)
    assert costs.weight_bytes == 4 * costs.parameters
    assert costs.macs == sum(layer.macs or 0 for layer in costs.layers)
    assert np.isfinite(costs.intensity or np.nan)


@pytest.mark.shared_data
def test_mobilenet_v2_is_what_was_published() -> None:
    if not SHARED.is_dir():
        pytest.skip("the shared evaluation data is absent")
    onnx = measure_costs(read_onnx_graph(SHARED / "mobilenet_v2.onnx", {"x": (1, 3, 224, 224)}))
    tflite = measure_costs(read_tflite_graph(SHARED / "mobilenet_v2_coral_ptq.tflite"))
    assert onnx.macs == pytest.approx(PUBLISHED_MACS, rel=0.01)
    assert tflite.macs == pytest.approx(PUBLISHED_MACS, rel=0.01)
    assert onnx.parameters == pytest.approx(3.5e6, rel=0.01)
    assert tflite.arena_bytes == pytest.approx((onnx.arena_bytes or 0) / 4, rel=0.01)


def test_sums_that_no_number_of_64_bits_holds_are_unknown() -> None:
    nodes = [TypedNode(name=f"n{i}", op="Relu", inputs=("x",), outputs=(f"y{i}",)) for i in range(4)]
    sizes = {name: tensor(2**60) for name in ("x", "y0", "y1", "y2", "y3")}
    costs = measure_costs(make_graph(nodes, sizes, ("x",), ("y0", "y1", "y2", "y3")))
    assert costs.arena_bytes is None
    assert "64 bits" in costs.unknown["arena_bytes"]
    assert costs.layers[0].read_bytes == 2**62
    assert tensor(2**63).bytes() is None
    assert tensor(-3, 4).bytes() is None
    msgspec.json.encode(costs)
