"""Small models that ask for much."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from tests.models.onnx_files import constant, node, value, write_onnx


def nested_functions(depth: int) -> onnx.ModelProto:
    """`depth` functions that call each other ten times each."""
    functions = []
    for level in range(depth):
        last = level == depth - 1
        names = ["a", *(f"t{i}" for i in range(9)), "z"]
        calls = [
            helper.make_node("Relu" if last else f"F{level + 1}", [before], [after], domain="" if last else "d")
            for before, after in pairwise(names)
        ]
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("d", 1)]
        functions.append(helper.make_function("d", f"F{level}", ["a"], ["z"], calls, opsets))
    call = helper.make_node("F0", ["x"], ["y"], domain="d")
    graph = helper.make_graph([call], "g", [value("x", [1, 4])], [value("y", [1, 4])])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("d", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=10)


def write_range(path: Path, count: int) -> Path:
    """A constant of `count` numbers, counted up, summed up and added to the input."""
    nodes = [
        node("Range", ["a", "b", "s"], ["r"]),
        node("Cast", ["r"], ["rf"], to=1),
        node("ReduceSum", ["rf"], ["q"]),
        node("Add", ["x", "q"], ["y"]),
    ]
    numbers = [constant(name, number, np.int64) for name, number in (("a", 0), ("b", count), ("s", 1))]
    return write_onnx(path, nodes, [value("x", [1, 4])], [value("y", [1, 4])], numbers)


def write_slow_pattern(path: Path) -> Path:
    """A constant text whose match with a pattern takes Python's `re` days."""
    text = onnx.TensorProto(name="s", data_type=8, dims=[1], string_data=[b"a" * 60 + b"!"])
    nodes = [
        node("RegexFullMatch", ["s"], ["m"], name="match", pattern="(a+)+$"),
        node("Cast", ["m"], ["q"], to=1),
        node("Add", ["x", "q"], ["y"]),
    ]
    return write_onnx(path, nodes, [value("x", [1, 4])], [value("y", [1, 4])], [text])
