"""Outputs of detectors in every form that a task describes."""

import numpy as np

from edgewright.schema.arrays import Array
from edgewright.tasks.spec.task import Boxes

BOXES = [
    Boxes(boxes="y", format="cxcywh", columns=True, score_threshold=0.3, nms_iou=0.4),
    Boxes(boxes="y", format="xyxy", objectness=True, score_threshold=0.1, nms_iou=0.6, most=7),
    Boxes(boxes="b", scores="s", format="yxyx", normalized=True, score_threshold=0.2, nms_iou=1.0),
    Boxes(boxes="b", scores="t", classes_out="c", format="xywh", score_threshold=0.2, nms_iou=0.3),
]


def make_box_outputs(answer: Boxes) -> dict[str, Array]:
    rng = np.random.default_rng(7)
    rows = np.concatenate([rng.uniform(0, 60, (80, 2)), rng.uniform(5, 50, (80, 2)), rng.uniform(size=(80, 4))], axis=1)
    if answer.format == "xyxy":
        rows[:, 2:4] += rows[:, :2]
    share = rng.uniform(size=(80, 4))
    shares = np.concatenate([share[:, :2], share[:, :2] + share[:, 2:]], axis=1)
    outputs = {
        "y": (rows.T if answer.columns else rows)[None],
        "b": (shares if answer.normalized else rows[:, :4])[None],
        "s": rng.uniform(size=(1, 3, 80)),
        "t": rng.uniform(size=(1, 80, 1)),
        "c": rng.integers(0, 3, (1, 80)),
    }
    return {name: array.astype(np.float32) for name, array in outputs.items()}
