"""Inputs of the numerical check."""

from pathlib import Path

import numpy as np
import pytest

from edgewright.bench.check_inputs import draw_sample, list_kinds
from edgewright.bench.integer_inputs import IntegerRole, draw_integers, find_roles
from edgewright.formats.onnx.typing_process import read_typed
from edgewright.schema.model import Signature, TensorSpec
from tests.models.onnx_files import constant, node, value, weights, write_onnx

INT64 = np.dtype(np.int64)


def read_roles(path: Path, *nodes: object, dtype: str = "FLOAT", **inputs: list[int]) -> dict[str, IntegerRole]:
    stored = [weights("table", 20, 3), constant("three", 3, np.int64), constant("flat", [-1], np.int64)]
    given = [value(name, shape, "INT64") for name, shape in inputs.items()]
    write_onnx(path, nodes, given, [value("y", None, dtype)], stored)  # type: ignore[arg-type]
    return find_roles(read_typed(path, {}))


def test_indices_know_the_rows_that_they_read(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    rows = IntegerRole(sizes=(20,))
    assert read_roles(path, node("Gather", ["table", "x"], ["y"]), x=[4]) == {"x": rows}
    moved = [node("Cast", ["x"], ["c"], to=6), node("Reshape", ["c", "flat"], ["r"])]
    assert read_roles(path, *moved, node("Gather", ["table", "r"], ["y"]), x=[2, 4]) == {"x": rows}
    axis = node("Gather", ["table", "x"], ["y"], axis=1)
    assert read_roles(path, axis, x=[4]) == {"x": IntegerRole(sizes=(3,))}
    parts = node("GatherND", ["table", "x"], ["y"])
    assert read_roles(path, parts, x=[5, 2]) == {"x": IntegerRole(sizes=(20, 3))}
    written = node("ScatterND", ["table", "x", "u"], ["y"])
    assert read_roles(path, node("Gather", ["table", "x"], ["u"]), written, x=[6, 1])["x"].distinct == 0


def test_only_arithmetic_on_integers_gets_large_numbers(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    add, divide = node("Add", ["x", "three"], ["y"]), node("Div", ["three", "x"], ["y"])
    assert read_roles(path, add, dtype="INT64", x=[4]) == {"x": IntegerRole()}
    assert read_roles(path, divide, dtype="INT64", x=[4]) == {"x": IntegerRole(divides=True)}
    computed = [node("Add", ["x", "three"], ["c"]), node("Gather", ["table", "c"], ["y"])]
    assert read_roles(path, *computed, x=[4]) == {}
    assert read_roles(path, node("Cast", ["x"], ["y"], to=1), x=[4]) == {}
    assert read_roles(path, node("Equal", ["x", "three"], ["y"]), dtype="BOOL", x=[4]) == {}


def test_drawn_integers() -> None:
    random = np.random.default_rng(0)
    rows = draw_integers((50,), INT64, IntegerRole(sizes=(7,)), "plain", random)
    assert set(rows.tolist()) == set(range(7))
    assert draw_integers((1,), INT64, IntegerRole(sizes=(7,)), "plain", random) == [6]
    negative = draw_integers((50,), INT64, IntegerRole(sizes=(7,)), "negative", random)
    assert negative.min() == -7
    assert negative.max() == 6
    distinct = draw_integers((2, 4, 3), INT64, IntegerRole(sizes=(5,), distinct=1), "plain", random)
    assert all(len(set(distinct[i, :, j])) == 4 for i in range(2) for j in range(3))
    pairs = draw_integers((6, 2), INT64, IntegerRole(sizes=(2, 3), distinct=0), "plain", random)
    assert sorted(map(tuple, pairs.tolist())) == [(i, j) for i in range(2) for j in range(3)]
    wide = draw_integers((50,), INT64, IntegerRole(), "beyond-31-bits", random)
    assert np.abs(wide).min() > 2**31
    assert wide.min() < 0 < wide.max()
    assert 0 not in draw_integers((500,), INT64, IntegerRole(divides=True), "plain", random)


@pytest.mark.parametrize(("samples", "plain"), [(1, 1), (2, 1), (8, 5)])
def test_kinds_of_samples(samples: int, plain: int) -> None:
    signature = Signature(inputs=(TensorSpec(name="x", dtype="float32", shape=(500,)),), outputs=())
    kinds = list_kinds(signature, {}, samples)
    assert len(kinds) == samples
    assert kinds.count("plain") == plain
    large, again = (draw_sample(signature, {"x": (500,)}, {}, "large", 3)["x"] for _ in range(2))
    assert np.array_equal(large, again)
    assert 500 < np.abs(large).max() <= 1000
