"""Parts of outputs that a Concat joins, and their comparison."""

from pathlib import Path

import numpy as np
import pytest

from edgewright.bench.numerics import compare_outputs, find_faults
from edgewright.bench.output_parts import OutputPart, find_parts
from edgewright.formats.onnx.typing_process import read_typed
from tests.models.onnx_files import constant, node, value, write_onnx

RANDOM = np.random.default_rng(0)
BOXES, SCORES = 300 * RANDOM.random((4, 4, 50)), 0.02 * RANDOM.random((4, 2, 50))
PARTS = {"y": (OutputPart("boxes", {0: (0, 4)}), OutputPart("scores", {0: (4, 6)}))}


def test_parts_behind_moves_and_inside_parts(tmp_path: Path) -> None:
    nodes = [
        node("Concat", ["a", "b"], ["one"], axis=1),
        node("Concat", ["one", "c"], ["both"], axis=2),
        node("Sigmoid", ["both"], ["s"]),
        node("Transpose", ["s"], ["t"], perm=[0, 2, 1]),
        node("Reshape", ["t", "sizes"], ["y"]),
    ]
    inputs = [value("a", [1, 2, 5]), value("b", [1, 4, 5]), value("c", [1, 6, 3])]
    sizes = constant("sizes", [2, 4, 6], np.int64)
    path = write_onnx(tmp_path / "m.onnx", nodes, inputs, [value("s", None), value("y", None)], [sizes])
    parts = find_parts(read_typed(path, {}))
    first = OutputPart("a", {1: (0, 2), 2: (0, 5)}), OutputPart("b", {1: (2, 6), 2: (0, 5)})
    assert parts == {"s": (*first, OutputPart("c", {2: (5, 8)}))}  # a Reshape that mixes them has none
    nodes[-1] = node("Unsqueeze", ["t", "axis"], ["y"])
    path = write_onnx(tmp_path / "m.onnx", nodes, inputs, [value("y", None)], [constant("axis", [0], np.int64)])
    assert find_parts(read_typed(path, {}))["y"][2] == OutputPart("c", {2: (5, 8)})


@pytest.mark.parametrize("axis", [5, "1", 1.0])
def test_an_axis_that_is_none_has_no_parts(tmp_path: Path, axis: object) -> None:
    join = node("Concat", ["x", "x"], ["y"], axis=axis)
    path = write_onnx(tmp_path / "m.onnx", [join], [value("x", [1, 4])], [value("y", [1, 8])])
    assert find_parts(read_typed(path, {})) == {}


@pytest.mark.parametrize(("scale", "fails"), [(0.5, True), (1.0, False)])
def test_wrong_scores_beside_boxes(scale: float, fails: bool) -> None:
    source = {"y": np.concatenate([BOXES, SCORES], 1)}
    given = {"y": np.concatenate([BOXES * (1 + 1e-6), SCORES * scale], 1)}
    assert find_faults(compare_outputs(source, given, 0), "fp32") == []  # the whole output hides them
    numerics = compare_outputs(source, given, 0, parts=PARTS)
    assert bool(find_faults(numerics, "fp32")) == fails
    assert list(numerics.outputs[0].parts) == (["scores", "boxes"] if fails else ["boxes", "scores"])
    assert numerics.sqnr_db == min(numerics.outputs[0].parts.values())


def test_a_part_of_one_step_is_not_better_than_its_rounding() -> None:
    boxes, scores = np.round(BOXES / 2) * 2, np.where(SCORES > 0.019, 2.0, 0.0)
    shifted = scores.copy()
    shifted[0, 0, :3] = 2 - shifted[0, 0, :3]
    source, given = ({"y": np.concatenate([boxes, own], 1)} for own in (scores, shifted))
    assert find_faults(compare_outputs(source, given, 0, parts=PARTS), "w8a8") == []


def test_figures_of_elements() -> None:
    source = np.array([[1.0, 1.0, 1.0, np.nan, -np.inf]], np.float32)
    given = np.array([[1.0, 1.5, 1.0, np.nan, -np.inf]], np.float32)
    numerics = compare_outputs({"y": source}, {"y": given}, 0)
    assert (numerics.not_finite, numerics.source_not_finite) == (0, 2)
    assert numerics.beyond_tolerance == pytest.approx(0.2)
    assert numerics.max_relative == pytest.approx(0.5 / (1 + np.sqrt(3 / 5)), rel=1e-5)
