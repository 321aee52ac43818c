"""Reshapes whose sizes ncnn would compute from another blob."""

import numpy as np

from edgewright.runtimes.ncnn.conversion.reshapes import fix_reshapes
from edgewright.runtimes.ncnn.param import ParamRow
from edgewright.schema.arrays import Array

LOOKS = {"6": "0w,1h,1c"}


def row(op: str, bottoms: str, tops: str, **params: str) -> ParamRow:
    return ParamRow(op, f"{op}-{tops}", tuple(bottoms.split()), tuple(tops.split()), params)


def sized(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


def test_sizes_take_the_place_of_what_computes_them() -> None:
    """As pnnx writes a linear layer over the last axis of three."""
    rows = [
        row("Input", "", "x"),
        row("Split", "x", "a b"),
        ParamRow("Reshape", "flat", ("a",), ("f",), {"6": "0w,-1"}),
        row("Gemm", "f", "g"),
        ParamRow("Reshape", "back", ("g", "b"), ("y",), LOOKS),
    ]
    blobs = {"f": sized(6, 4), "y": sized(2, 3, 8)}
    assert fix_reshapes(rows, blobs) == [
        rows[0],
        ParamRow("Reshape", "flat", ("x",), ("f",), {"0": "4", "1": "6"}),
        rows[3],
        ParamRow("Reshape", "back", ("g",), ("y",), {"0": "8", "1": "3", "2": "2"}),
    ]


def test_a_split_keeps_what_others_read_and_what_is_an_output() -> None:
    rows = [
        row("Input", "", "x"),
        row("Split", "x", "a b c"),
        row("Split", "a", "d out"),
        row("ReLU", "c", "r"),
        row("Sigmoid", "d", "s"),
        ParamRow("Reshape", "back", ("r", "b"), ("y",), LOOKS),
    ]
    fixed = fix_reshapes(rows, {"y": sized(2, 3)})
    assert fixed[1].tops == ("a", "c")
    assert fixed[2].tops == ("d", "out")
    assert fixed[-1].bottoms == ("r",)


def test_four_axes_have_their_depth() -> None:
    rows = [row("Input", "", "x"), row("Input", "", "z"), ParamRow("Reshape", "back", ("x", "z"), ("y",), LOOKS)]
    assert fix_reshapes(rows, {"y": sized(5, 4, 3, 2)})[-1].params == {"0": "2", "1": "3", "11": "4", "2": "5"}


def test_others_stay() -> None:
    rows = [row("Input", "", "x"), row("Split", "x", "a b"), row("ReLU", "a", "r"), row("BinaryOp", "r b", "y")]
    assert fix_reshapes(rows, {}) == rows
