"""Evaluation metrics of sample results, with an interval."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from math import exp

import numpy as np
from msgspec import Struct

from edgewright.errors import DataError
from edgewright.schema.arrays import Array
from edgewright.schema.metrics import METRICS, get_metric_info, is_share
from edgewright.tasks.data.labels import Label
from edgewright.tasks.metrics.detection import compute_mean_average_precision
from edgewright.tasks.metrics.intervals import (
    RESAMPLES,
    ConfidenceInterval,
    PairedDifference,
    bootstrap,
    bootstrap_difference,
    compare_paired_means,
    mcnemar,
    weighted_mean,
    wilson,
)
from edgewright.tasks.metrics.samples import SampleResults, evaluate_samples, finalize_results
from edgewright.tasks.spec.task import Task

SLOW_METRICS = ("auc", "map", "map50")
FEWER_RESAMPLES = 300  # for them, and for differences of metrics that are not a mean


class Score(Struct, frozen=True, kw_only=True):
    """A metric between `low` and `high` (95 %) over `n` samples."""

    name: str
    value: float
    low: float
    high: float
    n: int


def summarize_results(task: Task, results: SampleResults) -> Score:
    """Return the metric of finalized results. Proportions have Wilson's interval, others a bootstrap interval."""
    n = len(results.values)
    if not n:
        raise DataError("nothing was evaluated", "there are no samples", "give at least one sample")
    value, bounds = _compute_metric(task, results)
    return Score(name=task.metric, value=value, low=bounds.low, high=bounds.high, n=n)


def _compute_metric(task: Task, results: SampleResults) -> tuple[float, ConfidenceInterval]:
    n = len(results.values)
    if _is_proportion(task, results):
        hits = int(results.values.sum())
        return hits / n, wilson(hits, n)
    measure = make_metric(task, results)
    return measure(np.arange(n)), bootstrap(n, measure, FEWER_RESAMPLES if task.metric in SLOW_METRICS else RESAMPLES)


def _is_proportion(task: Task, results: SampleResults) -> bool:
    """Return whether the metric is a proportion of correct samples."""
    if ":" in task.metric:
        return bool(np.isin(results.values, (0.0, 1.0)).all())
    return get_metric_info(task.metric).is_mean and is_share(task.metric)


def make_metric(task: Task, results: SampleResults) -> Callable[[Array], float]:
    """Return the metric as a function of sample indices."""
    return partial(MEASURES.get(task.metric, _compute_mean), results)


def _compute_mean(results: SampleResults, chosen: Array) -> float:
    return weighted_mean(results.values[chosen], results.weights[chosen])


def auc(scores: Array, labels: Array) -> float:
    """Compute the area under the ROC curve, ties counted half (Mann and Whitney's U); for more than two classes the
    mean of one-vs-rest over classes that occur. NaN if a class is missing."""
    if scores.shape[1] == 1:
        return _compute_binary_auc(scores[:, 0], labels == 1)
    if scores.shape[1] == 2:
        return _compute_binary_auc(scores[:, 1] - scores[:, 0], labels == 1)
    areas = [_compute_binary_auc(scores[:, number], labels == number) for number in np.unique(labels)]
    return float(np.mean(areas)) if areas else float("nan")


def _compute_binary_auc(scores: Array, positive: Array) -> float:
    up, down = int(positive.sum()), int((~positive).sum())
    if not up or not down:
        return float("nan")
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return float((ranks[positive].sum() - up * (up + 1) / 2) / (up * down))


# Metrics that are not a mean over samples: by name, the value for the chosen samples.
MEASURES: dict[str, Callable[[SampleResults, Array], float]] = {
    "auc": lambda results, chosen: auc(results.scores[chosen], results.labels[chosen]),
    "map": lambda results, chosen: compute_mean_average_precision([results.objects[i] for i in chosen]),
    "map50": lambda results, chosen: compute_mean_average_precision(
        [results.objects[i] for i in chosen], first_only=True
    ),
    "perplexity": lambda results, chosen: exp(min(700.0, _compute_mean(results, chosen))),
}


def score(task: Task, outputs: Mapping[str, Array], labels: Sequence[Label], code: Collection[str] = ()) -> Score:
    """Compute the metric of stacked outputs [n, …] by the source's names."""
    return summarize_results(task, finalize_results(task, evaluate_samples(task, outputs, labels, code)))


def compare_paired(task: Task, a: SampleResults, b: SampleResults) -> PairedDifference:
    """Compare b − a on the same samples: McNemar for proportions, random signs for means, else a bootstrap."""
    if _is_proportion(task, a) and _is_proportion(task, b):
        return mcnemar(a.values > 0.5, b.values > 0.5)
    if (info := METRICS.get(task.metric)) and not info.is_mean:
        return bootstrap_difference(len(a.values), make_metric(task, a), make_metric(task, b), FEWER_RESAMPLES)
    return compare_paired_means(a.values, b.values, a.weights)


def is_same_class(reference: Array, other: Array) -> Array:
    """Return whether the argmax along the last axis is the same, for each vector."""
    a, b = (array.reshape(-1, array.shape[-1]) for array in (reference, other))
    same: Array = a.argmax(axis=1) == b.argmax(axis=1)
    return same


def compute_agreement(reference: Mapping[str, Array], other: Mapping[str, Array], name: str = "") -> Score:
    """Compute the share of samples with the same class in both models, with Wilson's interval.

    Args:
        reference, other: outputs by the source's names, stacked [n, …, classes].
        name: of the output to compare; empty for the first.
    """
    chosen = name or next(iter(reference))
    same = is_same_class(reference[chosen], other[chosen])
    return make_agreement_score(int(same.sum()), len(same))


def make_agreement_score(hits: int, n: int) -> Score:
    bounds = wilson(hits, n)
    return Score(name="agreement", value=hits / n, low=bounds.low, high=bounds.high, n=n)


class ClassErrors(Struct, frozen=True, kw_only=True):
    """One class: number of samples, number of correct ones, and the most frequent wrong class."""

    label: int
    n: int
    correct: int
    taken_for: int
    times: int


def find_worst_classes(results: SampleResults, most: int = 10) -> tuple[ClassErrors, ...]:
    """Return the classes with the most misses; among equals the lowest share first."""
    if not len(results.predicted):
        return ()
    rows = []
    for label in np.unique(results.labels):
        own = results.predicted[results.labels == label]
        wrong = own[own != label]
        if not len(wrong):
            continue
        others, counts = np.unique(wrong, return_counts=True)
        top = int(counts.argmax())
        correct, taken_for, times = len(own) - len(wrong), int(others[top]), int(counts[top])
        row = ClassErrors(label=int(label), n=len(own), correct=correct, taken_for=taken_for, times=times)
        rows.append(row)
    return tuple(sorted(rows, key=lambda row: (row.correct - row.n, row.correct / row.n, row.label))[:most])
