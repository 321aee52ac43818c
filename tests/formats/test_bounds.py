"""Small files that ask for much are read within the budget, and what they would need is said."""

from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

import numpy as np
import pytest

from edgewright.errors import LimitReached
from edgewright.formats.memory_estimate import check_file_memory, find_need
from edgewright.formats.onnx.typed import read_onnx_graph
from edgewright.formats.onnx.typing_process import read_typed
from edgewright.limits import ResourceBudget
from tests.formats.bounds import write_range, write_slow_pattern
from tests.models.onnx_files import constant, node, value, write_conv_net, write_onnx
from tests.models.tflite_files import write_convnet

SMALL = ResourceBudget(memory_bytes=64_000_000, seconds=60)


def test_a_long_range_is_not_counted_out(tmp_path: Path) -> None:
    graph = read_onnx_graph(write_range(tmp_path / "m.onnx", 6_000_000), budget=SMALL)
    assert graph.tensors["rf"].shape == (6_000_000,)
    assert graph.tensors["q"].shape == (1,) or graph.tensors["q"].shape == ()
    assert find_need(graph).size == 6_000_000 * 12


@pytest.mark.parametrize("op", ["Tile", "Expand", "ConstantOfShape", "OneHot", "Pad", "EyeLike", "Range"])
def test_no_large_constant_is_computed(op: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []

    def run_node(node: Any, opset: object, values: object) -> list[Any]:
        computed.append(node.op_type)
        return []

    monkeypatch.setattr("edgewright.formats.onnx.fold.run_node", run_node)
    numbers = {name: constant(name, number, np.int64) for name, number in (("0", 0), ("1", 1), ("n", 9_000_000))}
    rows = {name: constant(name, row, np.int64) for name, row in (("[n]", [9_000_000]), ("[0n]", [0, 9_000_000]))}
    one = constant("one", [1.0])
    inputs = {
        "Tile": ["one", "[n]"],
        "Expand": ["one", "[n]"],
        "ConstantOfShape": ["[n]"],
        "OneHot": ["[1]", "n", "[01]"],
        "Pad": ["one", "[0n]"],
        "EyeLike": ["grid"],
        "Range": ["0", "n", "1"],
    }[op]
    more = [constant("[01]", [0.0, 1.0]), constant("[1]", [1], np.int64), constant("[3000]", [3000, 3000], np.int64)]
    nodes = [node(op, inputs, ["big"]), node("ReduceMax", ["big"], ["q"]), node("Add", ["x", "q"], ["y"])]
    if op == "EyeLike":
        nodes.insert(0, node("ConstantOfShape", ["[3000]"], ["grid"]))
    constants = [*numbers.values(), *rows.values(), one, *more]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1])], [value("y", [1])], constants)
    graph = read_typed(path, {}, ResourceBudget(seconds=60))
    assert graph.tensors["big"].elements() == 9_000_000 + (op == "Pad")
    assert computed == []


def test_a_constant_that_takes_too_long_stays_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert current_thread() is main_thread(), "nothing else can be interrupted"
    monkeypatch.setattr("edgewright.formats.onnx.fold.NODE_SHARE", 0.0005)
    graph = read_typed(write_slow_pattern(tmp_path / "m.onnx"), {}, ResourceBudget(seconds=600))
    assert graph.tensors["y"].shape == (1, 4)
    assert any("'match'" in note and "EDGEWRIGHT_TIME_LIMIT" in note for note in graph.notes)


def test_needs_of_a_file_are_compared_with_the_budget(tmp_path: Path) -> None:
    net = write_convnet(tmp_path / "m.tflite")
    check_file_memory(net, {}, ResourceBudget(memory_bytes=1e6))
    with pytest.raises(LimitReached, match="of the model"):
        check_file_memory(net, {}, ResourceBudget(memory_bytes=100.0))
    large = write_range(tmp_path / "m.onnx", 6_000_000)
    with pytest.raises(LimitReached, match="the constant that 'Cast#1' computes") as caught:
        check_file_memory(large, {}, SMALL)
    assert "72.0 MB is needed" in caught.value.why
    check_file_memory(write_conv_net(tmp_path / "n.onnx"), {}, SMALL)
