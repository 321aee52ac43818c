"""Checks that ncnn supports pnnx's result, and that it computes the same as the source."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.ncnn.param import ParamRow
from edgewright.runtimes.ncnn.session import find_unknown_layers
from edgewright.schema.arrays import Array
from edgewright.schema.vocabulary import Precision

MAX_RELATIVE_DIFFERENCE = 0.1  # relative difference from which an output counts as different
LARGEST_SHARE = 10.0  # larger ones are shown in words
MOST_NAMED = 5
HINT = "choose another runtime for this model, or replace the operators"
# Operators that were observed to convert; others are reported as the probable cause.
COMMON = (
    "Conv ConvTranspose Gemm MatMul Add Sub Mul Div Neg Abs Sqrt Exp Log Erf Floor Ceil Round Sin Cos Tanh "
    "Sigmoid Sign Relu LeakyRelu PRelu Elu Selu Celu HardSigmoid HardSwish Softplus Softmax LogSoftmax Clip Max "
    "Min Reciprocal Concat Split Slice Squeeze Unsqueeze Transpose Flatten Reshape Expand Pad Resize MaxPool "
    "AveragePool GlobalAveragePool GlobalMaxPool BatchNormalization InstanceNormalization LayerNormalization LSTM "
    "GRU LRN Gather Atan ReduceMean ReduceMax DepthToSpace Einsum Pow Identity"
)


def blame_nodes(complaint: str, nodes: Sequence[Any]) -> NotConvertible:
    """Return the error for a model on which pnnx fails: with the nodes that its log or their rarity suggests."""
    words = set(re.findall(r"\w+", complaint))
    suspects = [node for node in nodes if node.op_type in words] or find_uncommon(nodes)
    if not suspects:
        return NotConvertible(complaint, HINT)
    return NotConvertible(f"ncnn's converter pnnx fails on the model, probably on {describe_nodes(suspects)}", HINT)


def check_layers(ncnn: Any, rows: Sequence[ParamRow], plain: Any) -> None:
    """Raise NotConvertible for a layer that this build of ncnn does not support, with the source's likely nodes."""
    unknown = find_unknown_layers(ncnn, rows)
    if not unknown:
        return
    lines = [
        (f"ncnn has no layer '{op}', which pnnx writes for {describe_nodes(_suspects(op, plain.graph.node))}")
        for op in unknown
    ]
    raise NotConvertible("\n".join(lines), HINT)


def _suspects(op: str, nodes: Sequence[Any]) -> list[Any]:
    """Return the nodes with the layer's name in ONNX, else those with uncommon operators."""
    word = op.rsplit(".", 1)[-1].lower().replace("_", "")
    same = [node for node in nodes if node.op_type.lower() == word]
    return same or find_uncommon(nodes)


def find_uncommon(nodes: Sequence[Any]) -> list[Any]:
    known = set(COMMON.split())
    return [node for node in nodes if node.op_type not in known]


def describe_nodes(nodes: Sequence[Any]) -> str:
    if not nodes:
        return "a group of operators that it fuses"
    named = list(dict.fromkeys(node.doc_string or f"{node.op_type} '{node.name}'" for node in nodes))
    rest = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    return ", ".join(named[:MOST_NAMED]) + rest


def check_outputs(
    outputs: Mapping[str, str],
    values: Mapping[str, Array],
    blobs: Mapping[str, Array],
    rows: Sequence[ParamRow],
    precision: Precision,
) -> None:
    """Raise NotConvertible if an output has another size or very different values than the source's.

    The caller evaluates the accuracy; this detects a conversion into another model.
    """
    for name, blob in outputs.items():
        if blob not in blobs:
            stopped = next(
                (row for row in rows if any(top not in blobs for top in row.tops) and row.op != "Input"), None
            )
            where = f"at its layer {stopped.op} '{stopped.name}'" if stopped else "before its end"
            raise NotConvertible(f"ncnn fails on pnnx's result {where}, so output '{name}' is never computed", HINT)
        wanted, given = values[name], blobs[blob]
        if wanted.size != given.size:
            reason = f"pnnx wrote output '{name}' with shape {list(given.shape)} instead of {list(wanted.shape)}"
            raise NotConvertible(f"{reason}: it lost an operator's attribute", HINT)
        off = _difference(wanted.reshape(-1), given.reshape(-1))
        if off > MAX_RELATIVE_DIFFERENCE:
            share = f"{off:.0%}" if off < LARGEST_SHARE else "many times"
            reason = f"pnnx's result computes other values: output '{name}' differs by {share} of its norm"
            raise NotConvertible(f"{reason} in {precision}", HINT)


def _difference(wanted: Array, given: Array) -> float:
    """Return the norm of the difference relative to the expected values, without values that are not finite in both."""
    a, b = wanted.astype(np.float64), given.astype(np.float64)
    both = np.isfinite(a)
    if not np.isfinite(b[both]).all():
        return float("inf")
    size = float(np.linalg.norm(a[both]))
    distance = float(np.linalg.norm(a[both] - b[both]))
    return distance / size if size else distance
