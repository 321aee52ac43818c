"""Control flow whose course is known while converting."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from edgewright.errors import ModelNotConvertible
from edgewright.runtimes.litert.writer import convert_onnx
from tests.models.onnx_files import node
from tests.runtimes.litert.writer.compare import compare


def write(
    folder: Path, nodes: list[Any], constants: dict[str, Any], shape: list[int], outputs: tuple[str, ...]
) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(data), name) for name, data in constants.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / "m.onnx")
    return folder / "m.onnx"


def info(name: str, kind: int = TensorProto.FLOAT, shape: list[int] | None = None) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def branches() -> dict[str, Any]:
    double = helper.make_graph([node("Add", ["x", "x"], ["t"])], "then", [], [info("t")])
    negate = helper.make_graph([node("Neg", ["x"], ["e"])], "else", [], [info("e")])
    return {"then_branch": double, "else_branch": negate}


@pytest.mark.parametrize("chosen", [True, False])
def test_a_decided_branch(tmp_path: Path, chosen: bool) -> None:
    nodes = [node("If", ["c"], ["y"], "choice", **branches())]
    compared = compare(write(tmp_path, nodes, {"c": chosen}, [2, 3], ("y",)))
    assert compared.converted.operators == (("ADD",) if chosen else ("NEG",))
    assert compared.converted.sources[0][0] == "choice"
    assert compared.sqnr_db == 300


def test_a_branch_that_depends_on_numbers_is_rejected(tmp_path: Path) -> None:
    nodes = [
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("Cast", ["s"], ["c"], to=TensorProto.BOOL),
        node("If", ["c"], ["y"], "choice", **branches()),
    ]
    with pytest.raises(ModelNotConvertible, match="condition"):
        convert_onnx(write(tmp_path, nodes, {}, [2, 3], ("y",)))


def test_a_counted_loop(tmp_path: Path) -> None:
    body = helper.make_graph(
        [
            node("Identity", ["on"], ["still"]),
            node("Cast", ["turn"], ["number"], to=1),
            node("Add", ["state", "number"], ["next"]),
            node("Mul", ["next", "x"], ["row"]),
        ],
        "body",
        [info("turn", TensorProto.INT64, []), info("on", TensorProto.BOOL, []), info("state", shape=[3])],
        [info("still", TensorProto.BOOL, []), info("next", shape=[3]), info("row", shape=[3])],
    )
    nodes = [node("Loop", ["count", "go", "x"], ["y", "rows"], "loop", body=body)]
    path = write(tmp_path, nodes, {"count": np.int64(4), "go": True}, [3], ("y", "rows"))
    compared = compare(path)
    assert compared.sqnr_db >= 100
    assert compared.litert["rows"].shape == (4, 3)


@pytest.mark.parametrize("way", [0, 1])
def test_a_scan_over_rows(tmp_path: Path, way: int) -> None:
    body = helper.make_graph(
        [node("Add", ["state", "row"], ["next"]), node("Identity", ["next"], ["out"])],
        "body",
        [info("state", shape=[3]), info("row", shape=[3])],
        [info("next", shape=[3]), info("out", shape=[3])],
    )
    attributes: dict[str, Any] = {"num_scan_inputs": 1, "body": body, "scan_input_directions": [way]}
    nodes = [node("Scan", ["start", "x"], ["y", "rows"], "scan", **attributes, scan_output_directions=[way])]
    path = write(tmp_path, nodes, {"start": np.zeros(3, np.float32)}, [5, 3], ("y", "rows"))
    assert compare(path).sqnr_db >= 100


def test_rows_chosen_by_a_constant_condition(tmp_path: Path) -> None:
    nodes = [node("Compress", ["x", "c"], ["y"], "pick", axis=0)]
    compared = compare(write(tmp_path, nodes, {"c": np.array([True, False, True])}, [3, 4], ("y",)))
    assert compared.litert["y"].shape == (2, 4)
    assert compared.sqnr_db == 300
