"""QDQ graphs as ONNX Runtime's quantizer makes them, of small networks with the parts of mobile ones."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from tests.models.onnx_files import Node, constant, node, value, weights, write_onnx

SHAPE = (1, 3, 16, 16)
Feeds = dict[str, NDArray[Any]]


def images(count: int, seed: int = 1) -> Iterator[Feeds]:
    random = np.random.default_rng(seed)
    return ({"x": random.uniform(-1, 1, SHAPE).astype(np.float32)} for _ in range(count))


def bounded(name: str, source: str, weight: str, **attributes: Any) -> list[Node]:
    """A convolution and a ReLU6."""
    return [
        node("Conv", [source, weight, f"{weight}b"], [f"{name}_c"], f"{name}_conv", **attributes),
        node("Clip", [f"{name}_c", "zero", "six"], [name], f"{name}_clip"),
    ]


def write_mobile_net(path: Path) -> Path:
    """x float32[1,3,16,16] → y float32[1,5]: a bottleneck with a sum, branches that are joined, a pool, a product."""
    nodes = [
        *bounded("stem", "x", "w0", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
        *bounded("wide", "stem", "w1", kernel_shape=[1, 1]),
        *bounded("deep", "wide", "w2", kernel_shape=[3, 3], pads=[1] * 4, group=16),
        node("Conv", ["deep", "w3", "w3b"], ["narrow"], "narrow_conv", kernel_shape=[1, 1]),
        node("Add", ["stem", "narrow"], ["sum"], "sum"),
        *bounded("left", "sum", "w4", kernel_shape=[1, 1]),
        node("Conv", ["sum", "w5", "w5b"], ["right_c"], "right_conv", kernel_shape=[3, 3], pads=[1] * 4),
        node("Relu", ["right_c"], ["right"], "right_relu"),
        node("Concat", ["left", "right"], ["joined"], "join", axis=1),
        node("MaxPool", ["joined"], ["peaks"], "peaks", kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["peaks"], ["mean"], "mean"),
        node("Flatten", ["mean"], ["flat"], "flatten"),
        node("Gemm", ["flat", "w6", "w6b"], ["y"], "gemm"),
    ]
    sizes = [(8, 3, 3, 3), (16, 8, 1, 1), (16, 1, 3, 3), (8, 16, 1, 1), (8, 8, 1, 1), (8, 8, 3, 3), (16, 5)]
    constants = [constant("zero", 0.0), constant("six", 6.0)]
    for i, size in enumerate(sizes):
        outputs = size[0] if len(size) > 2 else size[1]
        constants += [weights(f"w{i}", *size, seed=i), weights(f"w{i}b", outputs, seed=i + 10)]
    return write_onnx(path, nodes, [value("x", list(SHAPE))], [value("y", [1, 5])], constants)


def quantize_network(
    source: Path, target: Path, feeds: Iterator[Feeds], *, kind: str = "QUInt8", **options: Any
) -> Path:
    """Per channel, with int8 weights; `kind` is that of activations."""

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime asks for a subclass and ships no types
        def get_next(self) -> object:
            return next(feeds, None)

    quantize_static(
        source,
        target,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=getattr(QuantType, kind),
        weight_type=QuantType.QInt8,
        **options,
    )
    return target


def write_mobile_qdq(folder: Path, *, kind: str = "QUInt8", **options: Any) -> Path:
    """The network above, quantized, with a name on every node; the quantizer leaves out its ReLUs."""
    source = write_mobile_net(folder / "float.onnx")
    path = quantize_network(source, folder / "q.onnx", images(8), kind=kind, **options)
    model = onnx.load(str(path))
    for position, one in enumerate(model.graph.node):
        one.name = one.name or f"{one.op_type}#{position}"
    onnx.save(model, str(path))
    return path
