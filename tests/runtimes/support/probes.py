"""Small models of one operator, each differing from its operator's plainest one in a single thing.

So a rejection has a known cause: the change. `scripts/support_tables.py` makes the support tables of the runtimes from
them, and `test_support_tables.py` holds the tables against the installed runtimes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx
from onnx import TensorProto

from tests.runtimes.support.bases import BINARY, OPSET, REDUCTIONS, UNARY, Probe, Value, bases, given, weights
from tests.runtimes.support.models import is_valid

DTYPES = ("float32", "float16", "float64", "int64", "int32", "int8", "uint8", "bool")
RANKS = (1, 2, 3, 4, 5)
WIDE = {1: (8,), 2: (1, 8), 3: (1, 8, 6), 4: (1, 8, 6, 5), 5: (1, 8, 4, 6, 5)}

# What is changed, one thing at a time: attributes by operator.
AROUND: dict[str, Sequence[Mapping[str, Any]]] = {
    "Conv": (
        {"group": 8}, {"group": 2},
        {"auto_pad": "SAME_UPPER", "pads": None}, {"auto_pad": "SAME_LOWER", "pads": None},
        {"auto_pad": "VALID", "pads": None}, {"strides": [2, 2]}, {"dilations": [2, 2]}, {"pads": [0, 1, 2, 1]},
    ),
    "ConvTranspose": (
        {"output_padding": [1, 1]}, {"dilations": [2, 2]}, {"auto_pad": "SAME_UPPER"}, {"pads": [1, 0, 0, 1]},
    ),
    "MaxPool": ({"ceil_mode": 1}, {"auto_pad": "SAME_UPPER"}, {"dilations": [2, 2]}, {"pads": [1, 0, 0, 1]}),
    "AveragePool": (
        {"ceil_mode": 1}, {"auto_pad": "SAME_UPPER"}, {"pads": [1, 1, 1, 1]},
        {"pads": [1, 1, 1, 1], "count_include_pad": 1},
    ),
    "LpPool": ({"p": 1},),
    "Resize": (
        {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
        {"mode": "cubic", "coordinate_transformation_mode": "half_pixel"},
        {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_floor"},
        {"mode": "linear", "coordinate_transformation_mode": "half_pixel", "antialias": 1},
    ),
    "Upsample": ({"mode": "linear"},),
    "GridSample": (
        {"mode": "bicubic"}, {"mode": "nearest"}, {"padding_mode": "border"}, {"padding_mode": "reflection"},
        {"align_corners": 1},
    ),
    "DepthToSpace": ({"mode": "CRD"},),
    "Gemm": ({"transA": 1}, {"transB": 1}, {"alpha": 0.5}),
    "LSTM": ({"direction": "reverse"}, {"direction": "bidirectional"}, {"layout": 1}),
    "GRU": ({"direction": "reverse"}, {"direction": "bidirectional"}, {"linear_before_reset": 1}, {"layout": 1}),
    "RNN": ({"direction": "reverse"}, {"direction": "bidirectional"}, {"layout": 1}),
    "Attention": ({"is_causal": 1},),
    "Pad": ({"mode": "reflect"}, {"mode": "edge"}, {"mode": "wrap"}),
    "Gelu": ({"approximate": "tanh"},),
    "ArgMax": ({"keepdims": 0}, {"select_last_index": 1}),
    "ArgMin": ({"keepdims": 0}, {"select_last_index": 1}),
    "CumSum": ({"exclusive": 1}, {"reverse": 1}),
    "TopK": ({"largest": 0}, {"sorted": 0}),
    "ScatterElements": ({"reduction": "add"}, {"reduction": "max"}),
    "ScatterND": ({"reduction": "add"}, {"reduction": "max"}),
    "Mod": ({"fmod": 1},),
    "Cast": tuple({"to": getattr(TensorProto, kind)} for kind in ("INT32", "BOOL", "UINT8", "FLOAT16", "DOUBLE")),
    "BitShift": ({"direction": "RIGHT"},),
    "Trilu": ({"upper": 0},),
    "Softmax": ({"axis": 1},),
    "LogSoftmax": ({"axis": 1},),
    "LpNormalization": ({"p": 1},),
    "LayerNormalization": ({"axis": 1},),
    "IsInf": ({"detect_negative": 0},),
    **{op: ({"keepdims": 0},) for op in REDUCTIONS},
}  # fmt: skip
# Operators whose inputs' shapes hang together: the rank is not changed.
FIXED_RANK = {
    "Gemm", "Einsum", "LSTM", "GRU", "RNN", "Attention", "Resize", "Upsample", "GridSample", "DepthToSpace",
    "SpaceToDepth", "Col2Im", "RoiAlign", "Trilu", "ConstantOfShape", "EyeLike", "Range", "CenterCropPad", "OneHot",
    "ReverseSequence", "Compress", "Unique", "NonMaxSuppression", "Det", "DFT", "AffineGrid", "If", "Loop", "Reshape",
    "Squeeze", "Unsqueeze", "Expand", "Tile", "Pad", "TopK", "GatherElements", "GatherND", "ScatterElements",
    "ScatterND", "QLinearMatMul", "MatMulInteger", "QLinearConv", "ConvInteger", "RMSNormalization",
}  # fmt: skip
OWN_LAST_AXIS = {"LayerNormalization", "MatMul"}  # their weights are as long as the last axis
LEAST_RANK = {
    **dict.fromkeys(("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"), 3),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "LRN"), 3),
    **dict.fromkeys(("InstanceNormalization", "GroupNormalization"), 3),
    "BatchNormalization": 2,
    "MatMul": 2,
}
SPATIAL = {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"}
AS_THEY_ARE = {"If", "Loop"}
# Operators to which a converter may give another layout if an image comes from a convolution.
BEHIND_CONV = {
    "PRelu", "Resize", "Pad", "ReduceMean", "Softmax", "MaxPool", "AveragePool", "Slice", "Split", "LeakyRelu",
    "HardSwish",
}  # fmt: skip
# Operators that stand between quantized values in a QDQ model.
QUANTIZABLE = {
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "AveragePool", "GlobalAveragePool", "MaxPool",
    "Relu", "Sigmoid", "Tanh", "Softmax", "Concat", "Reshape", "Transpose", "Pad", "Resize", "LeakyRelu", "HardSwish",
    "ReduceMean", "Split", "Slice", "Max", "Min", "Flatten", "Clip", "PRelu", "Gelu", "Elu", "Abs", "Neg", "Exp",
    "Sqrt", "LogSoftmax", "Div", "Squeeze", "Unsqueeze", "DepthToSpace", "Gather",
}  # fmt: skip
OPSETS = range(7, 29)


def probes() -> list[Probe]:
    """All bases and, behind each, what differs from it in one thing; only what ONNX itself allows."""
    found = []
    for probe in bases():
        found += [probe, *(changed for changed in vary(probe) if is_valid(changed))]
    relu = next(probe for probe in found if probe.op == "Relu")
    return found + [relu._replace(opset=opset, change=("opset", str(opset))) for opset in OPSETS if opset != OPSET]


def fewer_probes() -> list[Probe]:
    """For runtimes that take seconds for each: elementwise operators of one kind behave alike in rank and type."""
    alike = {*UNARY, *BINARY} - {"Relu", "Sigmoid", "Softmax", "Add", "Mul", "PRelu"}
    wanted = {
        "rank": ("2", "3", "5"),
        "dtype": ("float16", "int64", "bool"),
    }
    return [
        probe
        for probe in probes()
        if probe.change[:1] != ("after",)
        and (
            not probe.change
            or probe.change[0] not in wanted
            or (probe.op not in alike and probe.change[1] in wanted[probe.change[0]])
        )
    ]


def vary(probe: Probe) -> Iterator[Probe]:
    if probe.op not in FIXED_RANK:
        yield from vary_rank(probe)
    if probe.op in BEHIND_CONV:
        yield probe._replace(change=("after", "Conv"))
    if probe.op in QUANTIZABLE:
        yield probe._replace(change=("quantized", "int8"))
    if probe.op == "Conv":
        depthwise = shape_for(probe._replace(attributes={**probe.attributes, "group": 8}))
        yield depthwise._replace(change=("quantized", "int8,group=8"))
    if probe.op not in AS_THEY_ARE:
        yield from vary_dtype(probe)
        yield from vary_constants(probe)
    for change in AROUND.get(probe.op, ()):
        attributes = {key: value for key, value in {**probe.attributes, **change}.items() if value is not None}
        shown = ",".join(f"{key}={value}" for key, value in change.items() if value is not None).replace(" ", "")
        yield shape_for(probe._replace(attributes=attributes, change=("attribute", shown)))


def vary_rank(probe: Probe) -> Iterator[Probe]:
    main = probe.inputs[probe.main]
    assert main is not None
    for rank in RANKS:
        if rank != len(main.shape) and (made := with_rank(probe, rank, len(main.shape))) is not None:
            yield made._replace(change=("rank", str(rank)))


def with_rank(probe: Probe, rank: int, own: int) -> Probe | None:
    """The probe on a value of another rank; None where that says nothing."""
    attributes = dict(probe.attributes)
    if rank < LEAST_RANK.get(probe.op, 1):
        return None
    if probe.op in SPATIAL:
        axes = rank - 2
        for key in ("kernel_shape", "strides"):
            if key in attributes:
                attributes[key] = attributes[key][:1] * axes
        if "pads" in attributes:
            attributes["pads"] = [1] * (2 * axes)
    if "perm" in attributes:
        attributes["perm"] = list(range(rank))[::-1] if rank < 3 else [0, *range(2, rank), 1]
    if "axis" in attributes and rank <= attributes["axis"]:
        return None
    inputs = [resize(value, own, rank, probe.op) for value in probe.inputs]
    if probe.op in REDUCTIONS:
        if rank < 2:
            return None
        inputs[1] = given([rank - 1])
    if probe.op == "Slice" and rank < 2:
        return None
    return probe._replace(inputs=tuple(inputs), attributes=attributes)


def resize(value: Value | None, own: int, rank: int, op: str) -> Value | None:
    if value is None or (len(value.shape) != own and not (op in SPATIAL and len(value.shape) == 4)):
        return value
    if value.is_constant() and op not in SPATIAL:
        return value
    if value.is_constant():
        return weights(*value.shape[:2], *value.shape[2:3] * (rank - 2))
    return value._replace(shape=(*WIDE[rank][:-1], value.shape[-1]) if op in OWN_LAST_AXIS else WIDE[rank])


def vary_dtype(probe: Probe) -> Iterator[Probe]:
    schema = onnx.defs.get_schema(probe.op, probe.opset)
    tied = [formal(schema, position).type_str for position in range(len(probe.inputs))]
    main = probe.inputs[probe.main]
    assert main is not None
    allowed = {
        name
        for one in schema.type_constraints
        if one.type_param_str == tied[probe.main]
        for name in one.allowed_type_strs
    }
    for dtype in DTYPES:
        if dtype == main.dtype or f"tensor({ONNX_NAMES.get(dtype, dtype)})" not in allowed:
            continue
        inputs = [
            retype(value, dtype) if value is not None and tied[i] == tied[probe.main] else value
            for i, value in enumerate(probe.inputs)
        ]
        yield probe._replace(inputs=tuple(inputs), change=("dtype", dtype))


ONNX_NAMES = {"float32": "float", "float64": "double"}


def formal(schema: Any, position: int) -> Any:
    return schema.inputs[min(position, len(schema.inputs) - 1)]


def retype(value: Value, dtype: str) -> Value:
    return value._replace(dtype=dtype, data=None if value.data is None else value.data.astype(dtype))


def vary_constants(probe: Probe) -> Iterator[Probe]:
    """Each constant computed instead, and the second of two computed values constant."""
    for position, value in enumerate(probe.inputs):
        if value is not None and value.is_constant():
            yield replace_input(probe, position, value._replace(data=None), "computed")
    if len(probe.inputs) == 2 and probe.op in BINARY and probe.op != "PRelu":
        yield replace_input(probe, 1, weights(8, 1, 1), "constant")


def replace_input(probe: Probe, position: int, value: Value, how: str) -> Probe:
    inputs = tuple(value if i == position else old for i, old in enumerate(probe.inputs))
    return probe._replace(inputs=inputs, change=(how, str(position)))


def shape_for(probe: Probe) -> Probe:
    """Inputs that fit the attributes."""
    inputs = list(probe.inputs)
    if probe.op == "Conv" and "group" in probe.attributes:
        inputs[1:] = [weights(8, 8 // probe.attributes["group"], 3, 3), weights(8)]
    if probe.op in ("LSTM", "GRU", "RNN"):
        if probe.attributes.get("direction") == "bidirectional":
            inputs[1:] = [weights(2, *value.shape[1:]) for value in inputs[1:] if value is not None]
        if probe.attributes.get("layout"):
            inputs[0] = Value((1, 5, 16))
    if probe.op == "Gemm" and probe.attributes.get("transA"):
        inputs[0] = Value((16, 1))
    if probe.op == "Gemm" and probe.attributes.get("transB"):
        inputs[1] = weights(4, 16)
    if probe.op == "LayerNormalization" and probe.attributes.get("axis") == 1:
        inputs[1:] = [weights(6, 16), weights(6, 16)]
    return probe._replace(inputs=tuple(inputs))
