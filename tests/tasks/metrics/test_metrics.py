"""Metrics against what can be counted by hand."""

from collections.abc import Sequence
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.errors import ConfigError, DataError
from edgewright.schema.metrics import METRICS
from edgewright.tasks.metrics.detection import apply_nms, compute_average_precision, compute_iou
from edgewright.tasks.metrics.intervals import wilson
from edgewright.tasks.metrics.metrics import (
    MEASURES,
    auc,
    compare_paired,
    compute_agreement,
    find_worst_classes,
    score,
    summarize_results,
)
from edgewright.tasks.metrics.samples import COUNTED_RANKS, evaluate_samples, finalize_results, join
from edgewright.tasks.metrics.similarity import OutputAgreement
from edgewright.tasks.spec.file import Task
from edgewright.tasks.spec.task import (
    BUILTIN_METRICS,
    Boxes,
    Classification,
    Embedding,
    ImageInput,
    NextToken,
    Regression,
    TensorInput,
)

TENSOR = (TensorInput(name="x"),)


def classes(metric: str = "top1", **more: Any) -> Task:
    return Task(inputs=TENSOR, output=Classification(**more), metric=metric)


def test_every_metric_is_computed() -> None:
    assert set(MEASURES) == {name for name in BUILTIN_METRICS if not METRICS[name].is_mean}
    assert set(COUNTED_RANKS) == {name for name, kinds in BUILTIN_METRICS.items() if Classification in kinds}


def test_top1_and_top5_with_wilsons_interval() -> None:
    scores = np.zeros((4, 1, 10), np.float32)
    scores[0, 0, 3] = scores[1, 0, 4] = 1
    scores[2, 0, :7] = range(7, 0, -1)
    scores[3, 0, :7] = range(7, 0, -1)
    labels = [3, 5, 4, 5]
    one = score(classes(), {"y": scores}, labels)
    assert (one.value, one.n, one.name) == (0.25, 4, "top1")
    assert (one.low, one.high) == tuple(wilson(1, 4))
    assert score(classes("top5"), {"y": scores}, labels).value == 0.5  # of equal scores the first counts


def test_a_background_class_and_a_named_output() -> None:
    scores = np.array([[9, 1, 0, 0], [9, 0, 0, 2]])
    task = classes(name="b", first_class=1)
    assert score(task, {"a": scores[:, ::-1], "b": scores}, [0, 2]).value == 1.0


def test_one_score_for_two_classes_and_nan() -> None:
    assert score(classes(), {"y": np.array([[1.0], [-1.0], [0.2]])}, [1, 0, 0]).value == pytest.approx(2 / 3)
    assert score(classes(softmax=False), {"y": np.array([[0.9], [0.4]])}, [1, 0]).value == 1.0
    scores = np.array([[np.nan, 1.0], [np.nan, np.nan]])
    assert score(classes(), {"y": scores}, [1, 1]).value == 0.5


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0], [0, None], [0, np.array([1.0])]])
def test_labels_that_are_no_class(labels: list[Any]) -> None:
    with pytest.raises(DataError):
        score(classes(), {"y": np.zeros((2, 3))}, labels)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=30))
def test_auc_is_the_share_of_ordered_pairs(rows: list[tuple[int, bool]]) -> None:
    up = [value for value, positive in rows if positive]
    down = [value for value, positive in rows if not positive]
    got = auc(np.array([[value] for value, _ in rows]), np.array([int(positive) for _, positive in rows]))
    if not up or not down:
        assert np.isnan(got)
        return
    pairs = [1.0 if u > d else 0.5 if u == d else 0.0 for u in up for d in down]
    assert got == pytest.approx(np.mean(pairs))


def test_auc_of_many_classes() -> None:
    scores = np.eye(3)[[0, 1, 2, 0, 1, 2]] * 5 + np.random.default_rng(0).standard_normal((6, 3)) * 0.01
    found = score(classes("auc"), {"y": scores}, [0, 1, 2, 0, 1, 2])
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def test_mean_absolute_error() -> None:
    task = Task(inputs=TENSOR, output=Regression(), metric="mae")
    found = score(task, {"y": np.array([[1.0, 2.0], [0.0, 0.0]])}, [np.array([1.0, 4.0]), np.array([3.0, 0.0])])
    assert found.value == 1.25
    assert not task.higher_is_better
    with pytest.raises(DataError, match="a label has 1 numbers"):
        score(task, {"y": np.zeros((1, 2))}, [np.array([1.0])])


def test_perplexity() -> None:
    task = Task(inputs=TENSOR, output=NextToken(ignore=-1), metric="perplexity")
    shares = np.array([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125], [0.2, 0.2, 0.6]])
    logits = np.log(np.stack([shares, shares]))[:, None] + 100
    found = score(task, {"y": logits}, [np.array([0, 1, -1]), np.array([2, -1, -1])])
    assert found.value == pytest.approx(exp(-(log(0.5) + log(0.75) + log(0.25)) / 3))
    assert found.low <= found.value <= found.high
    for bad in (np.array([0, 1]), np.array([0, 1, 3])):
        with pytest.raises(DataError):
            score(task, {"y": logits[:1]}, [bad])


def test_embeddings_by_their_nearest_other() -> None:
    task = Task(inputs=TENSOR, output=Embedding())
    vectors = np.array([[1, 0], [10, 0.1], [0, 1], [0.1, 5], [1, 0.9]], np.float32)
    found = score(task, {"e": vectors}, [0, 0, 1, 1, 1])
    assert found.value == pytest.approx(4 / 5)
    with pytest.raises(DataError, match="no neighbors"):
        score(task, {"e": vectors[:1]}, [0])


OWN = """
import numpy as np
def good(outputs, labels):
    return [float(np.argmax(row) == label) for row, label in zip(outputs["y"], labels)]
def whole(outputs, labels):
    return 0.5
def broken(outputs, labels):
    return outputs["nobody"]
"""


def test_a_metric_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    outputs, labels = {"y": np.eye(3)}, [0, 1, 0]
    own = f"{tmp_path}/own.py"
    found = score(classes(f"{own}:good"), outputs, labels, (f"{own}:good",))
    assert (found.value, found.low) == (2 / 3, wilson(2, 3).low)
    for name, words in (("whole", "return one number"), ("broken", "fix the function"), ("nobody", "FILE.py:function")):
        with pytest.raises(ConfigError) as caught:
            score(classes(f"{own}:{name}"), outputs, labels, (f"{own}:{name}",))
        assert words in caught.value.try_this


def test_chunks_sum_up_to_the_whole() -> None:
    random = np.random.default_rng(0)
    scores, labels = random.standard_normal((50, 7)), [int(label) for label in random.integers(0, 7, 50)]
    for metric in ("top1", "top5", "auc"):
        task = classes(metric)
        parts = [evaluate_samples(task, {"y": scores[i : i + 8]}, labels[i : i + 8]) for i in range(0, 50, 8)]
        assert summarize_results(task, finalize_results(task, join(parts))) == score(task, {"y": scores}, labels)


def test_pairs() -> None:
    random = np.random.default_rng(1)
    labels = [int(label) for label in random.integers(0, 3, 100)]
    good = np.eye(3)[labels] + 0.6 * random.standard_normal((100, 3))
    bad = good + 1.5 * random.standard_normal((100, 3))
    for metric in ("top1", "auc"):
        task = classes(metric)
        a, b = (evaluate_samples(task, {"y": scores}, labels) for scores in (good, bad))
        found = compare_paired(task, a, b)
        assert found.value == pytest.approx(
            score(task, {"y": bad}, labels).value - score(task, {"y": good}, labels).value
        )
        assert found.low <= found.value <= found.high < 0
        assert found.p < 0.01
        assert found.test == ("mcnemar" if metric == "top1" else "bootstrap")
        none = compare_paired(task, a, a)
        assert (none.value, none.p) == (0.0, 1.0)


def test_the_worst_classes() -> None:
    scores = np.eye(4)[[0, 1, 1, 2, 2, 3, 0, 0]]
    whole = evaluate_samples(classes(), {"y": scores}, [0, 0, 0, 2, 2, 1, 1, 1])
    rows = find_worst_classes(whole)
    assert [(row.label, row.n, row.correct, row.taken_for, row.times) for row in rows] == [
        (1, 3, 0, 0, 2),
        (0, 3, 1, 1, 2),
    ]
    assert len(find_worst_classes(whole, most=1)) == 1


def test_agreement_and_sqnr_over_chunks() -> None:
    random = np.random.default_rng(0)
    a = {"y": random.standard_normal((20, 1, 5)), "z": np.ones((20, 2))}
    b = {"y": a["y"] + 0.1 * random.standard_normal((20, 1, 5)), "z": np.ones((20, 2))}
    whole = OutputAgreement("y")
    for start in range(0, 20, 6):
        whole.add(*({name: array[start : start + 6] for name, array in one.items()} for one in (a, b)))
    assert whole.agreement() == compute_agreement(a, b, "y")
    noise = np.sum((a["y"] - b["y"]) ** 2)
    assert whole.sqnr_db() == pytest.approx(10 * np.log10(np.sum(a["y"] ** 2) / noise))
    same = OutputAgreement(None)
    same.add(a, a)
    assert (same.agreement(), same.sqnr_db()) == (None, 200.0)
    assert OutputAgreement(None).sqnr_db() is None


def test_nan_does_not_affect_the_likeness() -> None:
    one = OutputAgreement("y")
    one.add({"y": np.array([[1.0, np.inf]])}, {"y": np.array([[1.0, 2.0]])})
    assert one.sqnr_db() == 200.0


PICTURE = (ImageInput(name="x", size=(100, 200)),)


def boxes_task(**more: Any) -> Task:
    return Task(inputs=PICTURE, output=Boxes(**more), metric="map")


def test_overlaps() -> None:
    a = np.array([[0, 0, 10, 10], [0, 0, 0, 0]], float)
    b = np.array([[5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 10, 10]], float)
    assert compute_iou(a, b).tolist() == [[pytest.approx(1 / 3), 0, 1], [0, 0, 0]]


def test_average_precision_of_a_known_curve() -> None:
    # Hits at ranks 1 and 3 of two: precision 1 up to recall 0.5, then 2/3; 51 and 50 of the 101 recalls.
    found = compute_average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), 2)
    assert found == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)
    assert compute_average_precision(np.zeros(0), np.zeros(0, bool), 3) == 0.0


def outputs_of(rows: Sequence[Sequence[float]]) -> np.ndarray:
    return np.array(rows, np.float32)[None, None]


TRUE = [np.array([[0, 10, 10, 50, 50], [1, 100, 20, 180, 90]], float)]


def test_boxes_that_are_right() -> None:
    rows = [[10, 10, 50, 50, 0.9, 0.0], [100, 20, 180, 90, 0.1, 0.8], [11, 10, 50, 50, 0.5, 0.0]]
    found = score(boxes_task(), {"o": outputs_of(rows)}, TRUE)
    assert found.value == pytest.approx(1.0)  # the third is suppressed
    twice = score(boxes_task(nms_iou=1.0), {"o": outputs_of(rows)}, TRUE)
    assert twice.value == pytest.approx(1.0)  # it comes after all that is right


def test_a_box_that_is_off_counts_at_the_lower_overlaps_alone() -> None:
    rows = [[10, 10, 50, 50, 0.9, 0.0], [100, 20, 180, 69, 0.0, 0.8]]  # 49 of 70: 0.7
    found = score(boxes_task(), {"o": outputs_of(rows)}, TRUE)
    assert found.value == pytest.approx((1.0 + 0.5) / 2)
    task = Task(inputs=PICTURE, output=Boxes(), metric="map50")
    assert score(task, {"o": outputs_of(rows)}, TRUE).value == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("form", "box"),
    [
        ("xyxy", [0.05, 0.1, 0.25, 0.5]),
        ("yxyx", [0.1, 0.05, 0.5, 0.25]),
        ("xywh", [0.05, 0.1, 0.2, 0.4]),
        ("cxcywh", [0.15, 0.3, 0.2, 0.4]),
    ],
)
def test_every_format(form: Any, box: list[float]) -> None:
    true = [np.array([[1, 10, 10, 50, 50]], float)]
    task = boxes_task(format=form, normalized=True, boxes="b", scores="s")
    outputs = {"b": np.array([[[box]]]), "s": np.array([[[[0.1, 0.9]]]])}
    assert score(task, outputs, true).value == pytest.approx(1.0)
    task = boxes_task(format=form, normalized=True, boxes="b", scores="s", classes_out="c")
    outputs = {"b": np.array([[[box]]]), "s": np.array([[[0.9]]]), "c": np.array([[[1.0]]])}
    assert score(task, outputs, true).value == pytest.approx(1.0)
    task = boxes_task(format=form, normalized=True, columns=True, objectness=True)
    outputs = {"o": np.array([*box, 0.9, 0.1, 0.8]).reshape(1, 1, 7, 1)}
    assert score(task, outputs, true).value == pytest.approx(1.0)


def test_objectness_is_a_factor_of_the_score() -> None:
    rows = [[10, 10, 50, 50, 0.9, 0.8], [60, 60, 90, 90, 0.5, 0.9]]  # 0.72 and, where nothing is, 0.45
    found = score(boxes_task(objectness=True), {"o": outputs_of(rows)}, [TRUE[0][:1]])
    assert found.value == pytest.approx(1.0)


def test_the_outputs_of_one_sample_may_be_a_matrix() -> None:
    rows = np.array([[[10, 10, 50, 50, 0.9, 0.0], [100, 20, 180, 90, 0.1, 0.8]]], np.float32)
    assert score(boxes_task(), {"o": rows}, TRUE).value == pytest.approx(1.0)


def test_a_true_box_is_found_once_and_by_its_class() -> None:
    true = [np.array([[0, 10, 10, 50, 50], [0, 100, 20, 180, 90]], float)]
    rows = [[10, 10, 50, 50, 0.9, 0.0], [10, 10, 50, 50, 0.8, 0.0], [100, 20, 180, 90, 0.7, 0.0]]
    found = score(boxes_task(nms_iou=1.0), {"o": outputs_of(rows)}, true)
    assert found.value == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)  # the second is false
    other = [[10, 10, 50, 50, 0.0, 0.9], [100, 20, 180, 90, 0.7, 0.0]]
    assert score(boxes_task(), {"o": outputs_of(other)}, true).value == pytest.approx(51 / 101)


def test_an_overlap_of_just_the_limit_is_kept() -> None:
    corners = np.array([[0, 0, 2, 1], [0, 0, 1, 1]], float)
    for limit, kept in ((0.5, [0, 1]), (0.49, [0])):
        assert apply_nms(corners, np.array([0.9, 0.8]), np.zeros(2), Boxes(nms_iou=limit)).tolist() == kept


def test_no_object_is_not_known_and_bad_outputs_are_reported() -> None:
    assert np.isnan(score(boxes_task(), {"o": outputs_of([[1, 1, 2, 2, 0.9]])}, [np.zeros((0, 5))]).value)
    with pytest.raises(ConfigError, match="has no boxes"):
        score(boxes_task(), {"o": np.zeros((1, 1, 5, 3))}, TRUE)
    with pytest.raises(ConfigError, match="have no scores"):
        score(boxes_task(), {"o": np.zeros((1, 1, 5, 4))}, TRUE)
    with pytest.raises(DataError):
        score(boxes_task(), {"o": outputs_of([[1, 1, 2, 2, 0.9]])}, [3])


def test_suppression_keeps_other_classes_and_at_most_so_many() -> None:
    corners = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [50, 50, 60, 60]], float)
    scores, kinds = np.array([0.5, 0.9, 0.8, 0.1]), np.array([0, 0, 1, 0])
    assert apply_nms(corners, scores, kinds, Boxes()).tolist() == [1, 2, 3]
    assert apply_nms(corners, scores, kinds, Boxes(most=1)).tolist() == [1]
