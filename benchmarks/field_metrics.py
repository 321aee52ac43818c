"""Metrics of the field models, named by their task files: agreement with what the float model reads or finds.

Labels are text that `benchmarks.field_samples` makes from the float model's outputs by the same functions.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray[Any, Any]]
Box = tuple[int, float, tuple[float, ...]]
SCORE, OVERLAP, TEXT = 0.25, 0.5, 0.3


def list_matrices(outputs: Arrays) -> np.ndarray[Any, Any]:
    """Return the first output without its axes of one: a matrix for each sample."""
    array = next(iter(outputs.values()))
    return array.reshape(len(array), *array.shape[-2:])


def characters(outputs: Arrays, labels: Sequence[str]) -> list[float]:
    """Return for each line 1 − edit distance / length, of the characters that the float model reads."""
    read = map(read_line, list_matrices(outputs))
    return [
        1 - distance(got.split(), label.split()) / max(len(label.split()), 1)
        for got, label in zip(read, labels, strict=True)
    ]


def read_line(scores: np.ndarray[Any, Any]) -> str:
    """Return the indices of the characters (greedy CTC, 0 is blank), separated by spaces; scores are [steps, n]."""
    best = scores.argmax(-1)
    return " ".join(str(now) for before, now in zip([0, *best[:-1]], best, strict=True) if now and now != before)


def distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Return Levenshtein's edit distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def text_areas(outputs: Arrays, labels: Sequence[str]) -> list[float]:
    """Return for each page the IoU of its text pixels with those of the float model."""
    found = [find_text(page) for page in list_matrices(outputs)]
    return [overlap_of_bits(bytes.fromhex(a), bytes.fromhex(b)) for a, b in zip(found, labels, strict=True)]


def find_text(page: np.ndarray[Any, Any]) -> str:
    """Return the bits of pixels whose probability is above the application's threshold, as hexadecimal digits."""
    return np.packbits(page > TEXT).tobytes().hex()


def overlap_of_bits(a: bytes, b: bytes) -> float:
    one, other = (np.unpackbits(np.frombuffer(part, np.uint8)) for part in (a, b))
    return float((one & other).sum() / max((one | other).sum(), 1))


def detections(outputs: Arrays, labels: Sequence[str]) -> list[float]:
    """Return for each picture the F1 score of its detections (same class, IoU ≥ 0.5); 1 where both find nothing."""
    found = [find_boxes(rows) for rows in list_matrices(outputs)]
    return [match(json.loads(a), json.loads(b)) for a, b in zip(found, labels, strict=True)]


def match(ours: Sequence[Box], theirs: Sequence[Box]) -> float:
    left, hits = list(theirs), 0
    for kind, _, box in ours:
        same = [other for other in left if other[0] == kind and overlap(box, other[2]) >= OVERLAP]
        if same:
            left.remove(max(same, key=lambda other: overlap(box, other[2])))
            hits += 1
    return 2 * hits / (len(ours) + len(theirs)) if ours or theirs else 1.0


def find_boxes(rows: np.ndarray[Any, Any]) -> str:
    """Return [class, score, [x, y, width, height]] as JSON after suppression; rows are [4 + classes, boxes]."""
    scores = rows[4:].max(0)
    order = [int(i) for i in np.argsort(-scores) if scores[i] >= SCORE]
    kept: list[Box] = []
    for i in order:
        kind, box = int(rows[4:, i].argmax()), tuple(round(float(v), 2) for v in rows[:4, i])
        if all(overlap(box, other) < OVERLAP for _, _, other in kept):
            kept.append((kind, round(float(scores[i]), 4), box))
    return json.dumps(kept)


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the IoU of two boxes given by center and size."""
    sides = [
        min(a[k] + a[k + 2] / 2, b[k] + b[k + 2] / 2) - max(a[k] - a[k + 2] / 2, b[k] - b[k + 2] / 2) for k in (0, 1)
    ]
    both = max(sides[0], 0.0) * max(sides[1], 0.0)
    return both / max(a[2] * a[3] + b[2] * b[3] - both, 1e-9)
