"""How well a model does: judged chunk by chunk, so that no output has to be kept, and summed up with an interval."""

from collections.abc import Collection, Mapping, Sequence
from math import exp
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgewright.errors import ConfigError, DataError
from edgewright.tasks.contract import Boxes, Classification, Embedding, NextToken, Regression, Task
from edgewright.tasks.detection import Objects, judge_objects, mean_precision
from edgewright.tasks.functions import MISTAKES, load_function
from edgewright.tasks.intervals import (
    Bounds,
    Difference,
    bootstrap,
    bootstrap_difference,
    paired_means,
    weighted_mean,
    wilson,
)
from edgewright.tasks.intervals import mcnemar as mcnemar  # part of this file's words too
from edgewright.tasks.labels import Label

Array = NDArray[Any]

FEWER_RESAMPLES = 300  # where one draw costs more than a mean


class Score(Struct, frozen=True, kw_only=True):
    """A metric between `low` and `high` (95 %) over `n` samples."""

    name: str
    value: float
    low: float
    high: float
    n: int


class Judged(Struct, frozen=True, kw_only=True):
    """What is kept of some samples.

    Attributes:
        values: the figure of each sample, [n]: 1 or 0 for hit or miss, an error, a mean negative log likelihood.
        weights: what each counts, [n]: tokens for perplexity, else 1.
        labels: class of each sample, [n]; empty where samples have none.
        predicted: the class with the highest score, [n]; empty where there is none.
        scores: [n, classes] for AUC, [n, d] of embeddings; empty elsewhere.
        objects: one for each sample, of boxes.
    """

    values: Array
    weights: Array
    labels: Array
    predicted: Array
    scores: Array
    objects: tuple[Objects, ...] = ()


NONE = np.zeros(0)


def judge(task: Task, outputs: Mapping[str, Array], labels: Sequence[Label], code: Collection[str] = ()) -> Judged:
    """Judge some samples.

    Args:
        outputs: by the source's names, stacked: [n, …], the model's own batch of 1 included.
        labels: one for each sample.
        code: functions that the user allowed to run.

    Raises DataError where labels and outputs do not belong together, ConfigError for a metric of the user's own.
    """
    output = task.output
    if ":" in task.metric:
        return judge_by_function(task, outputs, labels, code)
    if isinstance(output, Boxes):
        size = image_size(task)
        objects = tuple(judge_objects(output, outputs, labels, size))
        return judged(np.array([one.hits(0) for one in objects], np.float64), objects=objects)
    array = chosen_output(output.name, outputs)
    match output:
        case Classification():
            return judge_classes(task.metric, output, array, labels)
        case Regression():
            return judged(absolute_errors(array, labels))
        case Embedding():
            vectors = array.reshape(len(array), -1).astype(np.float32)
            return judged(np.zeros(len(array)), labels=np.array(class_numbers(labels)), scores=vectors)
        case NextToken():
            return judge_tokens(output, array, labels)


def judged(
    values: Array,
    *,
    weights: Array | None = None,
    labels: Array = NONE,
    predicted: Array = NONE,
    scores: Array = NONE,
    objects: tuple[Objects, ...] = (),
) -> Judged:
    weights = np.ones(len(values)) if weights is None else weights
    return Judged(values=values, weights=weights, labels=labels, predicted=predicted, scores=scores, objects=objects)


def chosen_output(name: str, outputs: Mapping[str, Array]) -> Array:
    """The one that is named, else the first."""
    return outputs[name] if name else next(iter(outputs.values()))


def image_size(task: Task) -> tuple[int, int]:
    """Height and width of the first picture of the task."""
    size = next((one.size for one in task.inputs if hasattr(one, "size")), None)
    if size is None:
        raise ConfigError("boxes need a picture", "the task has no image input", 'kind = "image"')
    return size


def class_numbers(labels: Sequence[Label]) -> list[int]:
    if strangers := [label for label in labels if not isinstance(label, int)]:
        raise DataError("a label is no class", f"it is {strangers[0]!r}"[:200], "write class numbers from 0")
    return [label for label in labels if isinstance(label, int)]


def judge_classes(metric: str, output: Classification, array: Array, labels: Sequence[Label]) -> Judged:
    """A hit is a label whose score is the highest (or among the five highest); of equal scores the first counts."""
    scores = array.reshape(len(array), -1)[:, output.first_class :]
    classes = np.array(class_numbers(labels))
    if scores.dtype.kind == "f":
        scores = np.where(np.isnan(scores), -np.inf, scores)
    single = scores.shape[1] == 1  # one score of the second of two classes
    if len(classes) and (classes.min() < 0 or classes.max() >= (2 if single else scores.shape[1])):
        raise DataError(
            f"the label {int(classes.max())} is out of range",
            f"the model has {scores.shape[1]} scores",
            "count classes from 0; first_class = 1 in the task skips a background class",
        )
    if single:
        predicted = (scores[:, 0] > (0 if output.softmax else 0.5)).astype(np.int64)
        hits = predicted == classes
    else:
        predicted = scores.argmax(axis=1)
        hits = rank_of(scores, classes) < (5 if metric == "top5" else 1)
    kept = probabilities(scores, output) if metric == "auc" else NONE
    return judged(hits.astype(np.float64), labels=classes, predicted=predicted, scores=kept)


def rank_of(scores: Array, classes: Array) -> Array:
    """How many scores come before that of the class, [n]."""
    own = scores[np.arange(len(scores)), classes][:, None]
    earlier = np.arange(scores.shape[1]) < classes[:, None]
    ranks: Array = ((scores > own) | ((scores == own) & earlier)).sum(axis=1)
    return ranks


def probabilities(scores: Array, output: Classification) -> Array:
    """Scores that can be compared between samples, float64."""
    values = scores.astype(np.float64)
    if not output.softmax or values.shape[1] < 2:
        return values
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def absolute_errors(array: Array, labels: Sequence[Label]) -> Array:
    """Mean absolute error of each sample, [n]."""
    values = array.reshape(len(array), -1).astype(np.float64)
    wanted = [np.asarray(label, np.float64).reshape(-1) for label in labels]
    if any(len(one) != values.shape[1] for one in wanted):
        raise DataError(
            f"a label has {len(wanted[0])} numbers, the model gives {values.shape[1]}", "", "give one for each output"
        )
    errors: Array = np.abs(values - np.stack(wanted)).mean(axis=1)
    return np.where(np.isfinite(errors), errors, np.inf)


def judge_tokens(output: NextToken, array: Array, labels: Sequence[Label]) -> Judged:
    """Mean negative log likelihood of each sample's next tokens, weighted by how many count."""
    values, weights = [], []
    for logits, label in zip(array, labels, strict=True):
        table = logits.reshape(-1, logits.shape[-1]).astype(np.float64)
        wanted = np.asarray(label).reshape(-1)
        if len(wanted) != len(table):
            raise DataError(f"{len(wanted)} labels for {len(table)} positions", "", "give one next token for each")
        counted = (wanted != output.ignore).nonzero()[0]
        if len(counted) and not 0 <= wanted[counted].min() <= wanted[counted].max() < table.shape[1]:
            raise DataError("a next token is out of range", f"the model knows {table.shape[1]}", "check the tokenizer")
        rows = table[counted]
        top = rows.max(axis=1, keepdims=True) if len(rows) else rows
        logs = np.log(np.exp(rows - top).sum(axis=1)) + (top[:, 0] if len(rows) else 0)
        losses = logs - rows[np.arange(len(counted)), wanted[counted]]
        values.append(float(losses.mean()) if len(losses) else 0.0)
        weights.append(len(counted))
    return judged(np.array(values), weights=np.array(weights, np.float64))


def judge_by_function(
    task: Task, outputs: Mapping[str, Array], labels: Sequence[Label], code: Collection[str]
) -> Judged:
    function = load_function(task.metric, code)
    try:
        given = np.asarray(function(dict(outputs), list(labels)), np.float64)
    except MISTAKES as error:
        raise ConfigError(f"the metric {task.metric} failed", f"{type(error).__name__}: {error}", "mend it") from error
    if given.shape != (len(labels),):
        raise ConfigError(
            f"the metric {task.metric} gave {list(given.shape)}",
            f"it was asked about {len(labels)} samples",
            "return one number for each sample; their mean is the metric",
        )
    return judged(given)


def join(parts: Sequence[Judged]) -> Judged:
    """The parts one after the other."""
    first = parts[0]
    if len(parts) == 1:
        return first

    def together(name: str) -> Array:
        return np.concatenate([getattr(part, name) for part in parts])

    return Judged(
        values=together("values"),
        weights=together("weights"),
        labels=together("labels"),
        predicted=together("predicted"),
        scores=together("scores"),
        objects=tuple(one for part in parts for one in part.objects),
    )


def settle(task: Task, whole: Judged) -> Judged:
    """With what can only be told of all samples: the nearest neighbour of an embedding."""
    if not isinstance(task.output, Embedding) or ":" in task.metric:
        return whole
    predicted = whole.labels[nearest(whole.scores)]
    hits = (predicted == whole.labels).astype(np.float64)
    return judged(hits, labels=whole.labels, predicted=predicted, scores=whole.scores)


def nearest(vectors: Array) -> Array:
    """Of each vector the other one with the largest cosine, [n]. DataError for fewer than two."""
    if len(vectors) < 2:
        raise DataError("one sample has no neighbours", "an embedding is scored by its nearest other", "give more")
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    chosen = []
    for start in range(0, len(units), 256):
        likeness = units[start : start + 256] @ units.T
        likeness[np.arange(len(likeness)), np.arange(start, start + len(likeness))] = -np.inf
        chosen.append(likeness.argmax(axis=1))
    return np.concatenate(chosen)


def summarise(task: Task, whole: Judged) -> Score:
    """The metric of all that was judged and settled. Shares have Wilson's interval, all else a bootstrap's."""
    n = len(whole.values)
    if not n:
        raise DataError("nothing was evaluated", "there are no samples", "give more")
    value, bounds = statistic(task, whole)
    return Score(name=task.metric, value=value, low=bounds.low, high=bounds.high, n=n)


def statistic(task: Task, whole: Judged) -> tuple[float, Bounds]:
    n = len(whole.values)
    if is_share(task, whole):
        hits = int(whole.values.sum())
        return hits / n, wilson(hits, n)
    measure = measure_of(task, whole)
    everything = np.arange(n)
    many = {"auc": FEWER_RESAMPLES, "map": FEWER_RESAMPLES, "map50": FEWER_RESAMPLES}.get(task.metric)
    value = measure(everything)
    return value, bootstrap(n, measure, many) if many else bootstrap(n, measure)


def is_share(task: Task, whole: Judged) -> bool:
    """Whether the metric is the share of samples that are right."""
    own = ":" in task.metric and bool(np.isin(whole.values, (0.0, 1.0)).all())
    return own or task.metric in ("top1", "top5", "accuracy")


def measure_of(task: Task, whole: Judged) -> Any:
    """The metric as a function of sample numbers."""
    match task.metric:
        case "auc":
            return lambda chosen: auc(whole.scores[chosen], whole.labels[chosen])
        case "map":
            return lambda chosen: mean_precision([whole.objects[i] for i in chosen])
        case "map50":
            return lambda chosen: mean_precision([whole.objects[i] for i in chosen], first_only=True)
        case "perplexity":
            return lambda chosen: exp(min(700.0, weighted_mean(whole.values[chosen], whole.weights[chosen])))
    return lambda chosen: weighted_mean(whole.values[chosen], whole.weights[chosen])


def auc(scores: Array, labels: Array) -> float:
    """Area under the ROC curve, ties counted half (Mann and Whitney's U); of more than two classes the mean of each
    against the rest, over those that occur. NaN where a class is missing."""
    if scores.shape[1] == 1:
        return auc_of(scores[:, 0], labels == 1)
    if scores.shape[1] == 2:
        return auc_of(scores[:, 1] - scores[:, 0], labels == 1)
    areas = [auc_of(scores[:, number], labels == number) for number in np.unique(labels)]
    return float(np.mean(areas)) if areas else float("nan")


def auc_of(scores: Array, positive: Array) -> float:
    up, down = int(positive.sum()), int((~positive).sum())
    if not up or not down:
        return float("nan")
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return float((ranks[positive].sum() - up * (up + 1) / 2) / (up * down))


def score(task: Task, outputs: Mapping[str, Array], labels: Sequence[Label], code: Collection[str] = ()) -> Score:
    """The metric of stacked outputs [n, …] by the source's names, in one go."""
    return summarise(task, settle(task, judge(task, outputs, labels, code)))


def pair(task: Task, a: Judged, b: Judged) -> Difference:
    """b − a on the same samples: McNemar for shares, random signs for means, else a bootstrap."""
    if is_share(task, a) and is_share(task, b):
        return mcnemar(a.values > 0.5, b.values > 0.5)
    if task.metric in ("auc", "map", "map50", "perplexity"):
        return bootstrap_difference(len(a.values), measure_of(task, a), measure_of(task, b), FEWER_RESAMPLES)
    return paired_means(a.values, b.values, a.weights)


def same_class(reference: Array, other: Array) -> Array:
    """Whether the largest entry along the last axis is the same one, for each vector."""
    a, b = (array.reshape(-1, array.shape[-1]) for array in (reference, other))
    same: Array = a.argmax(axis=1) == b.argmax(axis=1)
    return same


def agreement(reference: Mapping[str, Array], other: Mapping[str, Array], name: str = "") -> Score:
    """Share of the samples that both models put into the same class, with Wilson's interval.

    Args:
        reference, other: outputs by the source's names, stacked [n, …, classes].
        name: of the output that counts; empty stands for the first.
    """
    chosen = name or next(iter(reference))
    same = same_class(reference[chosen], other[chosen])
    return share(int(same.sum()), len(same))


def share(hits: int, n: int) -> Score:
    bounds = wilson(hits, n)
    return Score(name="agreement", value=hits / n, low=bounds.low, high=bounds.high, n=n)


class ClassRow(Struct, frozen=True, kw_only=True):
    """One class: how many samples, how many right, and what the others were most often taken for."""

    label: int
    n: int
    correct: int
    taken_for: int
    times: int


def worst_classes(whole: Judged, most: int = 10) -> tuple[ClassRow, ...]:
    """Those with the most misses, the lowest share first among equals."""
    if not len(whole.predicted):
        return ()
    rows = []
    for label in np.unique(whole.labels):
        own = whole.predicted[whole.labels == label]
        wrong = own[own != label]
        if not len(wrong):
            continue
        others, counts = np.unique(wrong, return_counts=True)
        top = int(counts.argmax())
        row = ClassRow(
            label=int(label),
            n=len(own),
            correct=len(own) - len(wrong),
            taken_for=int(others[top]),
            times=int(counts[top]),
        )
        rows.append(row)
    return tuple(sorted(rows, key=lambda row: (row.correct - row.n, row.correct / row.n, row.label))[:most])
