"""Mean average precision, compared with COCO's own evaluation code (pycocotools)."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from edgewright.tasks.metrics.detection import compute_mean_average_precision, evaluate_detections
from edgewright.tasks.spec.task import Boxes

SIZE = (200, 300)  # height, width in pixels


def make_image(random: np.random.Generator) -> tuple[Any, Any, Any]:
    """Return true boxes [g, 5] (class and corners), found boxes [d, 4] and their class scores [d, 3]."""
    corner = random.uniform(0, 150, (int(random.integers(0, 7)), 2))
    true = np.hstack([random.integers(0, 3, (len(corner), 1)), corner, corner + random.uniform(40, 90, corner.shape)])
    near = np.repeat(true, 3, axis=0)
    found = np.vstack([near[:, 1:] + random.normal(0, 5, (len(near), 4)), np.tile([5.0, 5.0, 60.0, 90.0], (4, 1))])
    scores = random.uniform(0.01, 0.4, (len(found), 3))
    scores[np.arange(len(near)), near[:, 0].astype(int)] += random.uniform(0, 0.6, len(near))
    return true, found, scores


def evaluate_with_coco(images: list[tuple[Any, Any, Any]]) -> tuple[float, float]:
    """Return pycocotools' AP over ten overlaps, and at 0.5."""
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    evaluation = pytest.importorskip("pycocotools.cocoeval", reason="pycocotools is not installed")
    boxes: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for number, (true, found, scores) in enumerate(images, start=1):
        for kind, left, top, right, bottom in true:
            width, height = right - left, bottom - top
            boxes.append({"id": len(boxes) + 1, "image_id": number, "category_id": int(kind), "iscrowd": 0,
                          "bbox": [left, top, width, height], "area": width * height})  # fmt: skip
        for box, score in zip(found, scores, strict=True):
            rows.append({"image_id": number, "category_id": int(score.argmax()), "score": float(score.max()),
                         "bbox": [*box[:2], *(box[2:] - box[:2])]})  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {"images": [{"id": n + 1} for n in range(len(images))], "annotations": boxes,
                         "categories": [{"id": kind} for kind in range(3)]}  # fmt: skip
        truth.createIndex()
        judged = evaluation.COCOeval(truth, truth.loadRes(rows), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return float(judged.stats[0]), float(judged.stats[1])


@pytest.mark.parametrize("seed", range(4))
def test_mean_average_precision_is_that_of_coco(seed: int) -> None:
    random = np.random.default_rng(seed)
    images = [make_image(random) for _ in range(12)]
    output = Boxes(boxes="boxes", scores="scores", nms_iou=1.0, score_threshold=0.0)
    found = [
        one
        for true, boxes, scores in images
        for one in evaluate_detections(output, {"boxes": boxes[None], "scores": scores[None]}, [true], SIZE)
    ]
    ours = compute_mean_average_precision(found), compute_mean_average_precision(found, first_only=True)
    assert ours == pytest.approx(evaluate_with_coco(images), abs=1e-6)
    assert 0.05 < ours[0] < ours[1] < 0.98
