"""Errors of a stored evaluation by class, and the samples that it and its reference predict differently."""

from collections import Counter

from msgspec import Struct

from edgewright.bench.summary import parse_counts
from edgewright.schema.run import Run

MAX_CLASSES = 30  # of a matrix that a page shows
MAX_WORST = 10


class ClassRow(Struct, frozen=True, kw_only=True):
    """One class: its samples, those predicted right, and the class that the others are predicted as most often."""

    label: int
    count: int
    correct: int
    taken_for: int | None
    times: int


class ErrorsByClass(Struct, frozen=True, kw_only=True):
    """Errors of an evaluation.

    Attributes:
        classes: of all samples, in order.
        matrix: number of samples by class (row) and predicted class (column); empty with more than 30 classes.
        worst: the classes with the most errors, those first.
    """

    classes: tuple[int, ...]
    matrix: tuple[tuple[int, ...], ...]
    worst: tuple[ClassRow, ...]


class Disagreement(Struct, frozen=True, kw_only=True):
    """Samples that both evaluated: right in the reference and wrong here, the reverse, and their number."""

    lost: int
    gained: int
    common: int


def find_errors(run: Run) -> ErrorsByClass | None:
    """Return the errors; None for an evaluation without classes, or of a version that did not store the labels."""
    series = {one.name: one.data for one in run.series}
    labels, predicted = parse_counts(series.get("sample.label", ())), parse_counts(series.get("sample.predicted", ()))
    if not labels or len(labels) != len(predicted):
        return None
    counts: dict[int, Counter[int]] = {}
    for label, other in zip(labels, predicted, strict=True):
        counts.setdefault(label, Counter())[other] += 1
    classes = tuple(sorted({*labels, *predicted}))
    rows = [_describe_class(label, counts[label]) for label in sorted(counts)]
    worst = sorted((row for row in rows if row.correct < row.count), key=lambda row: row.correct - row.count)
    shown = classes if len(classes) <= MAX_CLASSES else ()
    matrix = tuple(tuple(counts.get(label, Counter())[other] for other in shown) for label in shown)
    return ErrorsByClass(classes=classes, matrix=matrix, worst=tuple(worst[:MAX_WORST]))


def _describe_class(label: int, own: Counter[int]) -> ClassRow:
    wrong = {other: count for other, count in own.items() if other != label}
    taken_for = max(wrong, key=lambda other: wrong[other], default=None)
    return ClassRow(
        label=label,
        count=sum(own.values()),
        correct=own[label],
        taken_for=taken_for,
        times=wrong[taken_for] if taken_for is not None else 0,
    )


def find_disagreement(run: Run, reference: Run) -> Disagreement | None:
    """Return the counts for a metric that is a hit or a miss of each sample; None for others."""
    own, other = _read_hits(run), _read_hits(reference)
    common = own.keys() & other.keys()
    if not common:
        return None
    return Disagreement(
        lost=sum(other[index] > own[index] for index in common),
        gained=sum(own[index] > other[index] for index in common),
        common=len(common),
    )


def _read_hits(run: Run) -> dict[int, float]:
    """Return 1 or 0 by the index of the sample; empty if other values occur."""
    series = {one.name: one.data for one in run.series}
    found = dict(zip(parse_counts(series.get("sample.index", ())), series.get("sample.value", ()), strict=False))
    return found if set(found.values()) <= {0.0, 1.0} else {}
