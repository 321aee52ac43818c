"""Results of samples, computed chunk by chunk, so that outputs are not stored."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from msgspec import Struct

from edgewright.errors import ConfigError, DataError
from edgewright.schema.arrays import Array
from edgewright.tasks.data.labels import Label
from edgewright.tasks.metrics.detection import ImageDetections, evaluate_detections
from edgewright.tasks.spec.functions import USER_CODE_ERRORS, load_function
from edgewright.tasks.spec.task import Boxes, Classification, Embedding, NextToken, Regression, Task

# By metric of a classification: a sample is a hit if its class is among so many highest scores.
COUNTED_RANKS = {"top1": 1, "top5": 5, "accuracy": 1, "auc": 1}


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
    if text := next((label for label in labels if isinstance(label, str)), None):
        raise DataError(f"the label {text!r} is text"[:200], f"{task.metric} needs numbers", "use a metric of your own")
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
    """Count hits: labels with the highest score (or among the highest); of equal scores the first one wins."""
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
        hits = _compute_ranks(scores, classes) < COUNTED_RANKS[metric]
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
