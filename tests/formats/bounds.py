"""Small models that ask for much."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

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


def write_endless_loop(path: Path) -> Path:
    """A model that takes days to run: a Loop of 10¹² steps."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["a", "a"], ["b"])],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, 4]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, [1, 4]),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["steps", "yes", "x"], ["y"], body=body)],
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [
            helper.make_tensor("steps", TensorProto.INT64, [], [10**12]),
            helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.save(model, path)
    return path
