"""Phrases of what changed: which difference is shown, in which direction, and where it holds."""

import pytest

from edgewright.report.outcome import (
    Change,
    Difference,
    describe_difference,
    describe_size,
    describe_speed,
    join_changes,
    merge_changes,
)


@pytest.mark.parametrize(
    ("difference", "expected", "mark"),
    [
        (
            Difference("top1", -0.14, -0.5, 0.22, "higher", "points"),
            "−0.14 points top-1 accuracy (−0.50 to +0.22), no difference shown",
            "",
        ),
        (
            Difference("top1", -2.5, -3.0, -2.0, "higher", "points"),
            "−2.50 points top-1 accuracy (−3.00 to −2.00), shown to be worse",
            "worse",
        ),
        (
            Difference("mae", -0.125, -0.25, -0.0625, "lower", ""),
            "−0.125 mean absolute error (−0.25 to −0.0625), shown to be better",
            "better",
        ),
        (
            Difference("top1", 1.0, None, None, "higher", "points"),
            "+1.00 points top-1 accuracy, not compared sample by sample",
            "",
        ),
    ],
)
def test_a_difference_is_shown_if_its_interval_excludes_zero(difference: Difference, expected: str, mark: str) -> None:
    change = describe_difference(difference)
    assert (change.text, change.mark) == (expected, mark)


def test_sizes_and_speeds_name_their_direction() -> None:
    assert describe_size(313_000, 93_400) == Change(what="size", text="3.35× smaller (313 kB → 93.4 kB)", mark="better")
    assert describe_size(100, 125) == Change(what="size", text="1.25× larger (100 B → 125 B)", mark="worse")
    assert describe_speed(1.46, "faster", "onnxruntime").text == "1.46× faster in ONNX Runtime"
    assert describe_speed(0.8, "slower", "litert") == Change(what="speed", text="1.25× slower in LiteRT", mark="worse")
    assert describe_speed(0.97, "inconclusive", "mnn") == Change(
        what="speed", text="speed in MNN inconclusive (0.97×)", mark=""
    )


def test_phrases_that_hold_everywhere_stand_once() -> None:
    same, other = describe_size(4, 2), describe_size(4, 1)
    assert [one.text for one in merge_changes([("litert", same), ("ncnn", same)])] == [same.text]
    mixed = merge_changes([("litert", same), ("ncnn", same), ("mnn", other)])
    assert [one.text for one in mixed] == [f"{same.text} in LiteRT and ncnn", f"{other.text} in MNN"]
    assert join_changes([same], [other]).answer == f"{same.text} · {other.text}."
    assert join_changes([]).answer == ""
