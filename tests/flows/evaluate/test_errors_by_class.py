"""Errors by class and disagreements, from the series of stored evaluations."""

import msgspec

from edgewright.flows.evaluate.errors_by_class import ClassRow, Disagreement, find_disagreement, find_errors
from edgewright.schema.run import Run, Series
from tests.web.records import make_run


def make(labels: tuple[int, ...], predicted: tuple[int, ...]) -> Run:
    columns = {
        "sample.index": range(len(labels)),
        "sample.value": [float(a == b) for a, b in zip(labels, predicted, strict=True)],
        "sample.label": labels,
        "sample.predicted": predicted,
    }
    series = tuple(Series(name=name, unit="1", data=tuple(map(float, data))) for name, data in columns.items())
    return msgspec.structs.replace(make_run(samples=0, layers=0), kind="evaluate", series=series)


def test_the_worst_classes_and_the_matrix() -> None:
    found = find_errors(make((0, 0, 0, 1, 1, 2), (0, 2, 2, 1, 0, 2)))
    assert found is not None
    assert found.matrix == ((1, 0, 2), (1, 1, 0), (0, 0, 1))
    assert found.worst == (
        ClassRow(label=0, count=3, correct=1, taken_for=2, times=2),
        ClassRow(label=1, count=2, correct=1, taken_for=0, times=1),
    )


def test_many_classes_have_no_matrix_and_old_runs_nothing() -> None:
    many = find_errors(make(tuple(range(31)), (*range(30), 0)))
    assert many is not None
    assert (many.matrix, [row.label for row in many.worst]) == ((), [30])
    bare = make_run(samples=0, layers=0)
    assert find_errors(bare) is None
    assert find_disagreement(bare, bare) is None


def test_who_disagrees_with_the_reference() -> None:
    reference, own = make((0, 1, 2, 3), (0, 1, 2, 0)), make((0, 1, 2, 3), (0, 0, 0, 3))
    assert find_disagreement(own, reference) == Disagreement(lost=2, gained=1, common=4)
