"""Fields of the operators' options tables.

Source: `tflite/converter/schema/schema.fbs` of google-ai-edge/LiteRT. Fields are in the order of their slots, each with
its flatbuffer code, and a default that is not zero; `*` marks a vector, `_` a slot that is not read.
"""

from typing import Any, NamedTuple

_REDUCER = "keep b"
_POOL = "padding b, stride_w i, stride_h i, filter_w i, filter_h i, activation b"
_FUSED = "activation b"
_TABLES = {
    "CONV_2D": "padding b, stride_w i, stride_h i, activation b, dilation_w i 1, dilation_h i 1",
    "DEPTHWISE_CONV_2D": "padding b, stride_w i, stride_h i, _, activation b, dilation_w i 1, dilation_h i 1",
    "CONV_3D": "padding b, stride_d i, stride_w i, stride_h i, activation b, dilation_d i 1, dilation_w i 1, "
    "dilation_h i 1",
    "CONV_3D_TRANSPOSE": "padding b, stride_d i, stride_w i, stride_h i, activation b, dilation_d i 1, "
    "dilation_w i 1, dilation_h i 1",
    "TRANSPOSE_CONV": "padding b, stride_w i, stride_h i, activation b",
    "AVERAGE_POOL_2D": _POOL,
    "MAX_POOL_2D": _POOL,
    "FULLY_CONNECTED": "activation b, layout b, keep_dims b",
    "BATCH_MATMUL": "adjoint_x b, adjoint_y b",
    "SOFTMAX": "beta f",
    "CONCATENATION": "axis i, activation b",
    "ADD": _FUSED,
    "SUB": _FUSED,
    "MUL": _FUSED,
    "DIV": _FUSED,
    "L2_NORMALIZATION": _FUSED,
    "RESHAPE": "shape i*",
    "SQUEEZE": "axes i*",
    "MEAN": _REDUCER,
    "SUM": _REDUCER,
    "REDUCE_MAX": _REDUCER,
    "REDUCE_MIN": _REDUCER,
    "REDUCE_PROD": _REDUCER,
    "REDUCE_ANY": _REDUCER,
    "REDUCE_ALL": _REDUCER,
    "RESIZE_BILINEAR": "_, _, align_corners b, half_pixel b",
    "RESIZE_NEAREST_NEIGHBOR": "align_corners b, half_pixel b",
    "STRIDED_SLICE": "begin_mask i, end_mask i, ellipsis_mask i, new_axis_mask i, shrink_mask i, offset b",
    "SPLIT": "count i",
    "PACK": "count i, axis i",
    "UNPACK": "count i, axis i",
    "GATHER": "axis i, batch_dims i",
    "LEAKY_RELU": "alpha f",
    "GELU": "approximate b",
    "MIRROR_PAD": "mode b",
    "CUMSUM": "exclusive b, reverse b",
    "ONE_HOT": "axis i",
    "REVERSE_SEQUENCE": "sequence_axis i, batch_axis i",
    "SPACE_TO_DEPTH": "block i",
    "DEPTH_TO_SPACE": "block i",
    "LOCAL_RESPONSE_NORMALIZATION": "radius i, bias f, alpha f, beta f",
}


class OptionField(NamedTuple):
    """A field of an options table: its slot, its flatbuffer code, whether it is a vector, and its default."""

    name: str
    slot: int
    code: str
    vector: bool
    default: Any


def _parse(text: str) -> tuple[OptionField, ...]:
    found = []
    for slot, part in enumerate(text.split(", ")):
        name, *rest = part.split()
        if rest:
            code, *default = rest
            kind = float if code == "f" else int
            found.append(OptionField(name, slot, code.rstrip("*"), code.endswith("*"), kind(*default)))
    return tuple(found)


OPTIONS = {name: _parse(text) for name, text in _TABLES.items()}
