"""Object detection: box decoding, non-maximum suppression and mean average precision as in COCO."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from edgewright.errors import ConfigError, DataError
from edgewright.schema.arrays import Array
from edgewright.tasks.data.labels import Label
from edgewright.tasks.spec.task import Boxes

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # COCO's thresholds of intersection over union
RECALL_LEVELS = np.linspace(0.0, 1.0, 101)


class ImageDetections(NamedTuple):
    """Detections and ground truth of one image.

    Attributes:
        scores: [d], of the detected boxes, highest first.
        classes: [d].
        matched: [overlaps, d]: whether the box matches a true box at each of `IOU_THRESHOLDS`.
        wanted: [g], classes of the true boxes.
    """

    scores: Array
    classes: Array
    matched: Array
    wanted: Array

    def hits(self, overlap: int) -> float:
        """Return the share of detected true boxes; 1 if there are none."""
        return float(self.matched[overlap].sum() / len(self.wanted)) if len(self.wanted) else 1.0


def evaluate_detections(
    output: Boxes, outputs: Mapping[str, Array], labels: Sequence[Label], size: tuple[int, int]
) -> Iterator[ImageDetections]:
    """Evaluate each sample; labels are [k, 5]: class, left, top, right, bottom in pixels of the model's input."""
    for index, label in enumerate(labels):
        if not isinstance(label, np.ndarray) or label.ndim != 2 or label.shape[1] != 5:
            raise DataError("a label is not a list of boxes", repr(label)[:100], "file,label,left,top,right,bottom")
        single = {name: array[index] for name, array in outputs.items()}
        corners, scores, classes = detect_boxes(output, single, size)
        wanted = label[:, 0].astype(np.int64)
        yield ImageDetections(scores, classes, _match(corners, classes, label[:, 1:], wanted), wanted)


def detect_boxes(output: Boxes, single: Mapping[str, Array], size: tuple[int, int]) -> tuple[Array, Array, Array]:
    """Return corners [d, 4] in pixels, scores [d] and classes [d] of one image after non-maximum suppression."""
    corners, scores, classes = _decode_boxes(output, single, output.boxes or next(iter(single)), size)
    kept = apply_nms(corners, scores, classes, output)
    return corners[kept], scores[kept], classes[kept]


def detect_objects(output: Boxes, single: Mapping[str, Array], size: tuple[int, int]) -> tuple[Array, Array, Array]:
    """Return corners [d, 4] in pixels, scores [d] and classes [d] of one image, highest score first."""
    corners, scores, classes = _decode_boxes(output, single, output.boxes or next(iter(single)), size)
    kept = apply_nms(corners, scores, classes, output)
    return corners[kept], scores[kept], classes[kept]


def _decode_boxes(
    output: Boxes, single: Mapping[str, Array], named: str, size: tuple[int, int]
) -> tuple[Array, Array, Array]:
    """Return corners [d, 4] in pixels, scores [d] and classes [d] of one image above the score threshold."""
    rows = _as_rows(single[named], columns=output.columns)
    if rows.shape[1] < 4:
        raise ConfigError(
            f"the output '{named}' has no boxes",
            f"its shape is {list(single[named].shape)}",
            "set boxes = OUTPUT in the task",
        )
    table = rows[:, 4:]
    if output.scores:
        table = _as_rows(single[output.scores], columns=False)
        table = table.T if len(table) != len(rows) and table.shape[1] == len(rows) else table
    if output.objectness and not output.scores:
        table = table[:, 1:] * table[:, :1]
    if not table.shape[1] or len(table) != len(rows):
        raise ConfigError(
            f"the boxes of '{named}' have no scores",
            f"the shape is {list(table.shape)}",
            "set scores = OUTPUT in the task",
        )
    if output.classes_out:
        classes = np.rint(single[output.classes_out].reshape(-1)).astype(np.int64)
        scores = table[:, 0]
    else:
        classes, scores = table.argmax(axis=1), table.max(axis=1)
    chosen = scores >= output.score_threshold
    return _to_corners(rows[chosen, :4], output, size), scores[chosen], classes[chosen]


def _as_rows(array: Array, *, columns: bool) -> Array:
    flat = array.reshape(array.shape[-2:]) if array.ndim >= 2 else array.reshape(-1, 1)
    return (flat.T if columns else flat).astype(np.float64)


def _to_corners(boxes: Array, output: Boxes, size: tuple[int, int]) -> Array:
    """Convert boxes to left, top, right, bottom in pixels of the model's input."""
    a, b, c, d = boxes.T
    match output.format:
        case "xyxy":
            corners = (a, b, c, d)
        case "yxyx":
            corners = (b, a, d, c)
        case "xywh":
            corners = (a, b, a + c, b + d)
        case "cxcywh":
            corners = (a - c / 2, b - d / 2, a + c / 2, b + d / 2)
    scale = np.array([size[1], size[0], size[1], size[0]], np.float64) if output.normalized else 1.0
    stacked: Array = np.stack(corners, axis=1) * scale
    return stacked


def compute_iou(a: Array, b: Array) -> Array:
    """Compute the intersection over union, [a, b]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(np.clip(x[:, 2:] - x[:, :2], 0, None), axis=1) for x in (a, b)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    ratios: Array = np.where(union > 0, shared / np.where(union > 0, union, 1), 0.0)
    return ratios


def apply_nms(corners: Array, scores: Array, classes: Array, output: Boxes) -> Array:
    """Return the indices of the boxes that non-maximum suppression keeps, highest score first, per class."""
    order = np.argsort(-scores, kind="stable")
    if output.nms_iou >= 1:
        return order[: output.most]
    kept: list[int] = []
    remaining = np.ones(len(order), bool)
    for place, position in enumerate(order):
        if not remaining[place]:
            continue
        kept.append(int(position))
        if len(kept) == output.most:
            break
        rest = order[place + 1 :]
        same = classes[rest] == classes[position]
        remaining[place + 1 :] &= ~(same & (compute_iou(corners[position][None], corners[rest])[0] > output.nms_iou))
    return np.array(kept, np.int64)


def _match(corners: Array, classes: Array, true: Array, wanted: Array) -> Array:
    """Match each box in order to the unmatched true box of its class with the largest overlap, [overlaps, d]."""
    ratios = compute_iou(corners, true) if len(true) and len(corners) else np.zeros((len(corners), len(true)))
    matched = np.zeros((len(IOU_THRESHOLDS), len(corners)), bool)
    for number, least in enumerate(IOU_THRESHOLDS):
        free = np.ones(len(true), bool)
        for box in range(len(corners)):
            fitting = np.where(free & (wanted == classes[box]), ratios[box], -1.0) if len(true) else np.zeros(0)
            if len(fitting) and fitting.max() >= least:
                free[fitting.argmax()] = False
                matched[number, box] = True
    return matched


def compute_mean_average_precision(found: Sequence[ImageDetections], *, first_only: bool = False) -> float:
    """Return average precision at 101 recalls, averaged over classes that occur and over `IOU_THRESHOLDS` (or only
    0.5).

    Lin et al., "Microsoft COCO", ECCV 2014, and its evaluation code. NaN without objects.
    """
    classes = np.unique(np.concatenate([one.wanted for one in found])) if found else np.zeros(0)
    if not len(classes):
        return float("nan")
    numbers = range(1) if first_only else range(len(IOU_THRESHOLDS))
    scores = np.concatenate([one.scores for one in found])
    kinds = np.concatenate([one.classes for one in found])
    hits = np.concatenate([one.matched for one in found], axis=1)
    total = np.concatenate([one.wanted for one in found])
    return float(
        np.mean(
            [
                compute_average_precision(
                    scores[kinds == kind], hits[number, kinds == kind], int((total == kind).sum())
                )
                for kind in classes
                for number in numbers
            ]
        )
    )


def compute_average_precision(scores: Array, hits: Array, wanted: int) -> float:
    order = np.argsort(-scores, kind="stable")
    true = np.cumsum(hits[order])
    precision = true / np.arange(1, len(order) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(true / wanted, RECALL_LEVELS, side="left")
    return float(
        np.where(places < len(precision), np.append(precision, 0.0)[np.minimum(places, len(precision))], 0.0).mean()
    )
