"""Evaluation metrics: computed chunk by chunk, so that outputs are not stored, and summarized with an interval."""

from collections.abc import Collection, Mapping, Sequence
from math import exp
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgewright.errors import ConfigError, DataError
from edgewright.schema.metrics import METRICS
from edgewright.tasks.data.labels import Label
from edgewright.tasks.metrics.detection import ImageDetections, compute_mean_average_precision, evaluate_detections
from edgewright.tasks.metrics.intervals import (
    ConfidenceInterval,
    PairedDifference,
    bootstrap,
    bootstrap_difference,
    compare_paired_means,
    mcnemar,
    weighted_mean,
    wilson,
)
from edgewright.tasks.spec.functions import USER_CODE_ERRORS, load_function
from edgewright.tasks.spec.task import Boxes, Classification, Embedding, NextToken, Regression, Task

Array = NDArray[Any]

FEWER_RESAMPLES = 300  # for metrics that are slower than a mean


class Score(Struct, frozen=True, kw_only=True):
    """A metric between `low` and `high` (95 %) over `n` samples."""

    name: str
    value: float
    low: float
    high: float
    n: int


class SampleResults(Struct, frozen=True, kw_only=True):
    """Results of some samples.

    Attributes:
        values: value of each sample, [n]: 1 or 0 for hit or miss, an error, a mean negative log likelihood.
        weights: weight of each sample, [n]: tokens for perplexity, else 1.
        labels: class of each sample, [n]; empty without classes.
        predicted: the class with the highest score, [n]; empty without classes.
        scores: [n, classes] for AUC, [n, d] of embeddings; otherwise empty.
        objects: detections of each sample, for boxes.
    """

    values: Array
    weights: Array
    labels: Array
    predicted: Array
    scores: Array
    objects: tuple[ImageDetections, ...] = ()


EMPTY = np.zeros(0)


def evaluate_samples(
    task: Task, outputs: Mapping[str, Array], labels: Sequence[Label], code: Collection[str] = ()
) -> SampleResults:
    """Evaluate some samples.

    Args:
        outputs: by the source's names, stacked: [n, …], including the model's batch of 1.
        labels: one for each sample.
        code: functions that the user allowed to run.

    Raises DataError if labels and outputs do not match, ConfigError for a failing custom metric.
    """
    output = task.output
    if ":" in task.metric:
        return _evaluate_with_function(task, outputs, labels, code)
    if isinstance(output, Boxes):
        size = _get_image_size(task)
        objects = tuple(evaluate_detections(output, outputs, labels, size))
        return _make_results(np.array([one.hits(0) for one in objects], np.float64), objects=objects)
    array = _select_output(output.name, outputs)
    match output:
        case Classification():
            return _evaluate_classes(task.metric, output, array, labels)
        case Regression():
            return _make_results(_compute_absolute_errors(array, labels))
        case Embedding():
            vectors = array.reshape(len(array), -1).astype(np.float32)
            return _make_results(np.zeros(len(array)), labels=np.array(_to_class_numbers(labels)), scores=vectors)
        case NextToken():
            return _evaluate_tokens(output, array, labels)


def _make_results(
    values: Array,
    *,
    weights: Array | None = None,
    labels: Array = EMPTY,
    predicted: Array = EMPTY,
    scores: Array = EMPTY,
    objects: tuple[ImageDetections, ...] = (),
) -> SampleResults:
    weights = np.ones(len(values)) if weights is None else weights
    return SampleResults(
        values=values, weights=weights, labels=labels, predicted=predicted, scores=scores, objects=objects
    )


def _select_output(name: str, outputs: Mapping[str, Array]) -> Array:
    """Return the named output, else the first."""
    return outputs[name] if name else next(iter(outputs.values()))


def _get_image_size(task: Task) -> tuple[int, int]:
    """Return height and width of the task's first image input."""
    size = next((one.size for one in task.inputs if hasattr(one, "size")), None)
    if size is None:
        raise ConfigError("boxes require an image input", "the task has none", 'add an input with kind = "image"')
    return size


def _to_class_numbers(labels: Sequence[Label]) -> list[int]:
    if unknown := [label for label in labels if not isinstance(label, int)]:
        raise DataError("a label is not a class number", f"it is {unknown[0]!r}"[:200], "number classes from 0")
    return [label for label in labels if isinstance(label, int)]


def _evaluate_classes(metric: str, output: Classification, array: Array, labels: Sequence[Label]) -> SampleResults:
    """Count hits: labels with the highest score (or among the five highest); of equal scores the first one wins."""
    scores = array.reshape(len(array), -1)[:, output.first_class :]
    classes = np.array(_to_class_numbers(labels))
    if scores.dtype.kind == "f":
        scores = np.where(np.isnan(scores), -np.inf, scores)
    single = scores.shape[1] == 1  # a single score is that of the second of two classes
    if len(classes) and (classes.min() < 0 or classes.max() >= (2 if single else scores.shape[1])):
        raise DataError(
            f"the label {int(classes.max())} is out of range",
            f"the model has {scores.shape[1]} scores",
            "number classes from 0; if the model's first score is a background class, set first_class = 1 in the task",
        )
    if single:
        predicted = (scores[:, 0] > (0 if output.softmax else 0.5)).astype(np.int64)
        hits = predicted == classes
    else:
        predicted = scores.argmax(axis=1)
        hits = _compute_ranks(scores, classes) < (5 if metric == "top5" else 1)
    kept = _to_probabilities(scores, output) if metric == "auc" else EMPTY
    return _make_results(hits.astype(np.float64), labels=classes, predicted=predicted, scores=kept)


def _compute_ranks(scores: Array, classes: Array) -> Array:
    """Return the number of scores before that of the class, [n]."""
    own = scores[np.arange(len(scores)), classes][:, None]
    earlier = np.arange(scores.shape[1]) < classes[:, None]
    ranks: Array = ((scores > own) | ((scores == own) & earlier)).sum(axis=1)
    return ranks


def _to_probabilities(scores: Array, output: Classification) -> Array:
    """Return scores that are comparable between samples, float64."""
    values = scores.astype(np.float64)
    if not output.softmax or values.shape[1] < 2:
        return values
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _compute_absolute_errors(array: Array, labels: Sequence[Label]) -> Array:
    """Compute the mean absolute error of each sample, [n]."""
    values = array.reshape(len(array), -1).astype(np.float64)
    wanted = [np.asarray(label, np.float64).reshape(-1) for label in labels]
    if any(len(one) != values.shape[1] for one in wanted):
        raise DataError(
            f"a label has {len(wanted[0])} numbers, the model gives {values.shape[1]}",
            "",
            "give one number for each output",
        )
    errors: Array = np.abs(values - np.stack(wanted)).mean(axis=1)
    return np.where(np.isfinite(errors), errors, np.inf)


def _evaluate_tokens(output: NextToken, array: Array, labels: Sequence[Label]) -> SampleResults:
    """Compute the mean negative log likelihood of each sample's next tokens, weighted by their number."""
    values, weights = [], []
    for logits, label in zip(array, labels, strict=True):
        table = logits.reshape(-1, logits.shape[-1]).astype(np.float64)
        wanted = np.asarray(label).reshape(-1)
        if len(wanted) != len(table):
            raise DataError(
                f"{len(wanted)} labels for {len(table)} positions", "", "give one next token for each position"
            )
        counted = (wanted != output.ignore).nonzero()[0]
        if len(counted) and not 0 <= wanted[counted].min() <= wanted[counted].max() < table.shape[1]:
            raise DataError(
                "a next token is out of range",
                f"the model's vocabulary has {table.shape[1]} tokens",
                "check the tokenizer",
            )
        rows = table[counted]
        top = rows.max(axis=1, keepdims=True) if len(rows) else rows
        logs = np.log(np.exp(rows - top).sum(axis=1)) + (top[:, 0] if len(rows) else 0)
        losses = logs - rows[np.arange(len(counted)), wanted[counted]]
        values.append(float(losses.mean()) if len(losses) else 0.0)
        weights.append(len(counted))
    return _make_results(np.array(values), weights=np.array(weights, np.float64))


def _evaluate_with_function(
    task: Task, outputs: Mapping[str, Array], labels: Sequence[Label], code: Collection[str]
) -> SampleResults:
    function = load_function(task.metric, code)
    try:
        given = np.asarray(function(dict(outputs), list(labels)), np.float64)
    except USER_CODE_ERRORS as error:
        raise ConfigError(
            f"the metric {task.metric} failed", f"{type(error).__name__}: {error}", "fix the function"
        ) from error
    if given.shape != (len(labels),):
        raise ConfigError(
            f"the metric {task.metric} returned an array of shape {list(given.shape)}",
            f"it was called with {len(labels)} samples",
            "return one number for each sample; their mean is the metric",
        )
    return _make_results(given)


def join(parts: Sequence[SampleResults]) -> SampleResults:
    """Concatenate results."""
    first = parts[0]
    if len(parts) == 1:
        return first

    def together(name: str) -> Array:
        return np.concatenate([getattr(part, name) for part in parts])

    return SampleResults(
        values=together("values"),
        weights=together("weights"),
        labels=together("labels"),
        predicted=together("predicted"),
        scores=together("scores"),
        objects=tuple(one for part in parts for one in part.objects),
    )


def finalize_results(task: Task, results: SampleResults) -> SampleResults:
    """Add values that depend on all samples: the nearest neighbor of an embedding."""
    if not isinstance(task.output, Embedding) or ":" in task.metric:
        return results
    predicted = results.labels[_find_nearest_neighbors(results.scores)]
    hits = (predicted == results.labels).astype(np.float64)
    return _make_results(hits, labels=results.labels, predicted=predicted, scores=results.scores)


def _find_nearest_neighbors(vectors: Array) -> Array:
    """Return the index of the other vector with the largest cosine, [n]. Raises DataError for fewer than two."""
    if len(vectors) < 2:
        raise DataError(
            "one sample has no neighbors", "an embedding is scored by its nearest neighbor", "give more samples"
        )
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    chosen = []
    for start in range(0, len(units), 256):
        similarity = units[start : start + 256] @ units.T
        similarity[np.arange(len(similarity)), np.arange(start, start + len(similarity))] = -np.inf
        chosen.append(similarity.argmax(axis=1))
    return np.concatenate(chosen)


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
    everything = np.arange(n)
    resamples = {"auc": FEWER_RESAMPLES, "map": FEWER_RESAMPLES, "map50": FEWER_RESAMPLES}.get(task.metric)
    value = measure(everything)
    return value, bootstrap(n, measure, resamples) if resamples else bootstrap(n, measure)


def _is_proportion(task: Task, results: SampleResults) -> bool:
    """Return whether the metric is a proportion of correct samples."""
    own = ":" in task.metric and bool(np.isin(results.values, (0.0, 1.0)).all())
    return own or task.metric in ("top1", "top5", "accuracy")


def make_metric(task: Task, results: SampleResults) -> Any:
    """Return the metric as a function of sample indices."""
    match task.metric:
        case "auc":
            return lambda chosen: auc(results.scores[chosen], results.labels[chosen])
        case "map":
            return lambda chosen: compute_mean_average_precision([results.objects[i] for i in chosen])
        case "map50":
            return lambda chosen: compute_mean_average_precision([results.objects[i] for i in chosen], first_only=True)
        case "perplexity":
            return lambda chosen: exp(min(700.0, weighted_mean(results.values[chosen], results.weights[chosen])))
    return lambda chosen: weighted_mean(results.values[chosen], results.weights[chosen])


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
