"""The plainest form of every ONNX operator, as an exporter writes it: what probes are made from."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from onnx import TensorProto

OPSET = 18
IMAGE = (1, 8, 6, 5)


class Value(NamedTuple):
    """An input: computed where `data` is None, else a constant of the model."""

    shape: tuple[int, ...] = IMAGE
    dtype: str = "float32"
    data: Any = None

    def is_constant(self) -> bool:
        return self.data is not None


class Probe(NamedTuple):
    """One node. `change` is what sets it apart from the operator's base: (kind, what); empty for the base itself."""

    op: str
    inputs: tuple[Value | None, ...]
    attributes: Mapping[str, Any]
    outputs: int = 1
    opset: int = OPSET
    change: tuple[str, ...] = ()
    main: int = 0

    @property
    def name(self) -> str:
        return " ".join([self.op, *self.change])


def weights(*shape: int, dtype: str = "float32", scale: float = 0.2) -> Value:
    """A constant of seeded numbers."""
    numbers = np.random.default_rng(0).standard_normal(shape) * (scale if dtype.startswith("float") else 3)
    return Value(shape, dtype, numbers.astype(dtype))


def given(data: Any, dtype: str = "int64") -> Value:
    array = np.asarray(data, dtype)
    return Value(array.shape, dtype, array)


def base(
    op: str, *inputs: Value | None, outputs: int = 1, opset: int = OPSET, main: int = 0, **attributes: Any
) -> Probe:
    return Probe(op, inputs or (Value(),), attributes, outputs, opset, (), main)


UNARY = """Abs Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Erf Exp Floor Log Neg Reciprocal Round Sigmoid Sign Sin
Sinh Softplus
Softsign Sqrt Tan Tanh Relu Elu Selu Celu HardSigmoid HardSwish LeakyRelu ThresholdedRelu Mish Shrink IsNaN
IsInf Identity Dropout Softmax LogSoftmax Hardmax""".split()  # noqa: SIM905 - read as words
BINARY = "Add Sub Mul Div Pow Max Min Sum Mean Equal Greater GreaterOrEqual Less LessOrEqual PRelu".split()  # noqa: SIM905 - read as words
REDUCTIONS = [
    f"Reduce{kind}" for kind in ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")
]
SCALE, ZERO = given(0.05, "float32"), given(3, "uint8")


def bases() -> Iterator[Probe]:
    """The plainest form of every operator, as an exporter writes it."""
    yield from (base(op) for op in UNARY)
    yield base("Gelu", opset=20)
    yield base("Swish", opset=24)
    yield base("Not", Value(IMAGE, "bool"))
    yield base("BitwiseNot", Value(IMAGE, "int32"))
    yield from (base(op, Value(), Value()) for op in BINARY if op != "PRelu")
    yield base("PRelu", Value(), weights(8, 1, 1))
    yield base("Mod", Value(IMAGE, "int64"), given(3))
    yield from (base(op, Value(IMAGE, "bool"), Value(IMAGE, "bool")) for op in ("And", "Or", "Xor"))
    yield from (base(f"Bitwise{op}", Value(IMAGE, "int32"), Value(IMAGE, "int32")) for op in ("And", "Or", "Xor"))
    yield base("BitShift", Value(IMAGE, "uint8"), Value(IMAGE, "uint8"), direction="LEFT")
    yield base("Where", Value(IMAGE, "bool"), Value(), Value(), main=1)
    yield base("Clip", Value(), given(0, "float32"), given(6, "float32"))
    yield base("Cast", to=TensorProto.INT64)
    yield base("CastLike", Value(), given(0, "int32"))
    yield from windows()
    yield from products()
    yield from normalizations()
    yield from reductions()
    yield from structure()
    yield from picking()
    yield from quantized()
    yield from rare()


def windows() -> Iterator[Probe]:
    yield base("Conv", Value(), weights(4, 8, 3, 3), weights(4), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    yield base("ConvTranspose", Value(), weights(8, 4, 2, 2), weights(4), kernel_shape=[2, 2], strides=[2, 2])
    yield base("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    yield base("AveragePool", kernel_shape=[2, 2], strides=[2, 2])
    yield base("LpPool", kernel_shape=[2, 2], strides=[2, 2])
    yield from (base(op) for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"))
    yield base("LRN", size=3)
    yield base(
        "Resize",
        Value(),
        None,
        given([1, 1, 2, 2], "float32"),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    yield base("Upsample", Value(), given([1, 1, 2, 2], "float32"), opset=9)
    yield base("GridSample", Value(), Value((1, 4, 4, 2)))
    yield base("DepthToSpace", blocksize=2)
    yield base("SpaceToDepth", Value((1, 8, 6, 4)), blocksize=2)
    yield base("Col2Im", Value((1, 12, 4)), given([4, 4]), given([2, 2]), strides=[2, 2])
    yield base("RoiAlign", Value(), Value((2, 4)), given([0, 0]), output_height=2, output_width=2)


def products() -> Iterator[Probe]:
    yield base("Gemm", Value((1, 16)), weights(16, 4), weights(4))
    yield base("MatMul", Value((1, 6, 16)), weights(16, 4))
    yield base("Einsum", Value((1, 6, 16)), Value((1, 16, 4)), equation="bij,bjk->bik")
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        recurrent = [weights(1, gates * 8, 16), weights(1, gates * 8, 8), weights(1, gates * 16)]
        yield base(op, Value((5, 1, 16)), *recurrent, outputs=2, hidden_size=8)
    heads = Value((1, 2, 6, 8))
    yield base("Attention", heads, heads, heads, opset=23)


def normalizations() -> Iterator[Probe]:
    channel = [weights(8), weights(8)]
    positive = given(np.full(8, 0.5), "float32")
    yield base("BatchNormalization", Value(), *channel, weights(8), positive)
    yield base("InstanceNormalization", Value(), *channel)
    yield base("LayerNormalization", Value((1, 6, 16)), weights(16), weights(16))
    yield base("GroupNormalization", Value(), *channel, num_groups=2, opset=21)
    yield base("RMSNormalization", Value((1, 6, 16)), weights(16), opset=23)
    yield base("LpNormalization", axis=1)
    yield base("MeanVarianceNormalization")


def reductions() -> Iterator[Probe]:
    for op in REDUCTIONS:
        yield base(op, Value(), given([2, 3]))
    yield base("ArgMax", axis=1)
    yield base("ArgMin", axis=1)
    yield base("CumSum", Value(), given(1))
    yield base("TopK", Value((1, 16)), given([3]), outputs=2)


def structure() -> Iterator[Probe]:
    yield base("Reshape", Value(), given([1, 8, 30]))
    yield base("Flatten")
    yield base("Squeeze", Value((1, 8, 1, 5)), given([2]))
    yield base("Unsqueeze", Value((1, 8, 5)), given([2]))
    yield base("Transpose", perm=[0, 2, 3, 1])
    yield base("Concat", Value(), Value(), axis=1)
    yield base("Split", Value(), given([3, 5]), outputs=2, axis=1)
    yield base("Slice", Value(), given([1]), given([5]), given([1]))
    yield base("Pad", Value(), given([0, 0, 1, 1, 0, 0, 1, 1]))
    yield base("Expand", Value((1, 8, 1, 5)), given([1, 8, 6, 5]))
    yield base("Tile", Value(), given([1, 1, 2, 1]))
    yield base("Trilu", Value((1, 6, 6)))
    yield base("Shape")
    yield base("Size")
    yield base("ConstantOfShape", Value((2,), "int64"))
    yield base("EyeLike", Value((6, 6)))
    yield base("Range", Value((), "int64"), given(9), given(1))
    yield base("CenterCropPad", Value(), given([4, 4]), axes=[2, 3])


def picking() -> Iterator[Probe]:
    yield base("Gather", Value(), given([0, 2, 1]), axis=1)
    yield base("GatherElements", Value((1, 6)), given([[0, 2, 1]]), axis=1)
    yield base("GatherND", Value((4, 6)), given([[0, 1], [2, 3]]))
    yield base("ScatterElements", Value((1, 6)), given([[0, 2]]), Value((1, 2)), axis=1)
    yield base("ScatterND", Value((4, 6)), given([[0], [2]]), Value((2, 6)))
    yield base("OneHot", Value((1, 6), "int64"), given(4), given([0, 1], "float32"))
    yield base("ReverseSequence", Value((4, 1, 6)), given([4]), batch_axis=1, time_axis=0)
    yield base("NonZero")
    yield base("Compress", Value((6, 4)), given([True, False, True, True, False, True], "bool"), axis=0)
    yield base("Unique", Value((6,)))
    yield base("NonMaxSuppression", Value((1, 6, 4)), Value((1, 1, 6)), given([3]), given([0.5], "float32"))


def quantized() -> Iterator[Probe]:
    yield base("QuantizeLinear", Value(), SCALE, ZERO)
    yield base("DequantizeLinear", Value(IMAGE, "uint8"), SCALE, ZERO)
    yield base("DynamicQuantizeLinear", outputs=3)
    stored = [weights(4, 8, 3, 3, dtype="int8"), SCALE, given(0, "int8")]
    image = [Value(IMAGE, "uint8"), SCALE, ZERO]
    yield base("QLinearConv", *image, *stored, SCALE, ZERO, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    yield base("ConvInteger", Value(IMAGE, "uint8"), stored[0], kernel_shape=[3, 3])
    matrix = [weights(16, 4, dtype="int8"), SCALE, given(0, "int8")]
    yield base("QLinearMatMul", Value((1, 16), "uint8"), SCALE, ZERO, *matrix, SCALE, ZERO)
    yield base("MatMulInteger", Value((1, 16), "uint8"), matrix[0])


def rare() -> Iterator[Probe]:
    yield base("Det", Value((1, 3, 3)))
    yield base("RandomNormalLike")
    yield base("Bernoulli")
    yield base("DFT", Value((1, 8, 2)), opset=17)
    yield base("AffineGrid", Value((1, 2, 3)), given([1, 1, 4, 4]), opset=20)
    yield base("If", Value((), "bool"))
    yield base("Loop", Value((), "int64"), Value((), "bool"), Value((2, 4)))
