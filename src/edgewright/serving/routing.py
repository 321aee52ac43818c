"""When a small model's answer is good enough: a rule that is fitted on labeled samples.

The rule predicts the gain of asking the last level: the probability that it is right where this level is wrong. It is
a logistic regression on what this level's scores show, or the margin alone where that is as good. The number of the
input's values, which is often used, is constant for a fixed input and can decide nothing.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

FEATURES = ("margin", "top", "entropy", "second")
FOLDS = 5
STEPS = 50
RIDGE = 1e-2
SMALLEST = 1e-9


class RoutingRule(Struct, frozen=True, kw_only=True):
    """The rule of one level.

    Attributes:
        method: `margin` (the two largest probabilities' difference) or `learned`.
        temperature: by which the scores are divided before softmax, so that probabilities are calibrated.
        weights: of the features, after their means and scales; the first is the constant. Of `margin` there are none.
    """

    method: str
    temperature: float
    weights: tuple[float, ...] = ()
    means: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()

    def predict_gain(self, scores: Floats) -> Floats:
        """Return a number for each sample, larger where the next level helps more. `scores` are logits [n, classes]."""
        features = _list_features(scores, self.temperature)
        if self.method == "margin":
            return -features[:, 0]
        normalized = (features - np.array(self.means)) / np.array(self.scales)
        return _logistic(self.weights[0] + normalized @ np.array(self.weights[1:]))


def _list_features(scores: Floats, temperature: float) -> Floats:
    """Return margin, largest probability, entropy and second probability of each sample's scores."""
    probabilities = compute_softmax(scores / temperature)
    ordered = np.sort(probabilities, axis=1)[:, ::-1]
    second = ordered[:, 1] if ordered.shape[1] > 1 else np.zeros(len(ordered))
    entropy = -(probabilities * np.log(np.maximum(probabilities, SMALLEST))).sum(axis=1)
    return np.stack([ordered[:, 0] - second, ordered[:, 0], entropy, second], axis=1)


def compute_softmax(scores: Floats) -> Floats:
    """Return probabilities of logits [n, classes]."""
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def _logistic(values: Floats) -> Floats:
    result: Floats = 1 / (1 + np.exp(-np.clip(values, -50, 50)))
    return result


def fit_temperature(scores: Floats, labels: NDArray[np.int64]) -> float:
    """Return the temperature with the smallest negative log-likelihood (golden section, 0.05 to 20)."""

    def cost(log_temperature: float) -> float:
        probabilities = compute_softmax(scores / np.exp(log_temperature))
        return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], SMALLEST)).mean())

    low, high, ratio = np.log(0.05), np.log(20.0), (5**0.5 - 1) / 2
    for _ in range(40):
        first, second = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, second) if cost(first) < cost(second) else (first, high)
    return float(np.exp((low + high) / 2))


def fit_rule(scores: Floats, labels: NDArray[np.int64], right: Flags, last_right: Flags, share: float) -> RoutingRule:
    """Return the better of the two methods, compared on parts of the samples that it was not fitted on.

    Args:
        scores: logits of this level [n, classes]. right: where it is right. last_right: where the last level is.
        share: of the samples that may go on; the methods are compared there.
    """
    temperature = fit_temperature(scores, labels)
    margin = RoutingRule(method="margin", temperature=temperature)
    gain = ~right & last_right
    if not gain.any() or gain.all():
        return margin
    folds = np.arange(len(labels)) % FOLDS
    values = {"margin": margin.predict_gain(scores), "learned": np.zeros(len(labels))}
    for fold in range(FOLDS):
        own = folds != fold
        if gain[own].any() and not gain[own].all():
            values["learned"][~own] = _fit_logistic(scores[own], gain[own], temperature).predict_gain(scores[~own])
    hits = {name: _count_hits(value, right, last_right, share) for name, value in values.items()}
    return _fit_logistic(scores, gain, temperature) if hits["learned"] > hits["margin"] else margin


def _count_hits(gain: Floats, right: Flags, last_right: Flags, share: float) -> int:
    """Return the number of right answers if the samples with the largest gain go on."""
    goes_on = np.zeros(len(gain), bool)
    goes_on[np.argsort(-gain, kind="stable")[: int(share * len(gain))]] = True
    return int(np.where(goes_on, last_right, right).sum())


def _fit_logistic(scores: Floats, gain: Flags, temperature: float) -> RoutingRule:
    """Fit by Newton's method with a small ridge."""
    features = _list_features(scores, temperature)
    means, scales = features.mean(axis=0), np.maximum(features.std(axis=0), SMALLEST)
    inputs = np.concatenate([np.ones((len(features), 1)), (features - means) / scales], axis=1)
    weights = np.zeros(inputs.shape[1])
    for _ in range(STEPS):
        predicted = _logistic(inputs @ weights)
        slope = inputs.T @ (predicted - gain) + RIDGE * weights
        curve = (inputs * (predicted * (1 - predicted))[:, None]).T @ inputs + RIDGE * np.eye(len(weights))
        step = np.linalg.solve(curve, slope)
        weights = weights - step
        if np.abs(step).max() < SMALLEST:
            break
    return RoutingRule(
        method="learned",
        temperature=temperature,
        weights=tuple(weights.tolist()),
        means=tuple(means.tolist()),
        scales=tuple(scales.tolist()),
    )


def assign_levels(
    rules: Sequence[RoutingRule], thresholds: Sequence[float], scores: Sequence[Floats]
) -> NDArray[np.int64]:
    """Return the level that answers each sample: the first whose predicted gain is at or below its threshold.

    Args:
        scores: logits of each level but the last one, [n, classes].
    """
    level = np.full(len(scores[0]) if scores else 0, len(rules), np.int64)
    for number in reversed(range(len(rules))):
        stays = rules[number].predict_gain(scores[number]) <= thresholds[number]
        level = np.where(stays, number, level)
    return level


def compute_calibration_error(scores: Floats, right: Flags, temperature: float, bins: int = 15) -> float:
    """Return the expected calibration error: |confidence − accuracy| over bins of confidence, weighted by size."""
    confidence = compute_softmax(scores / temperature).max(axis=1)
    where = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(confidence[where == one].mean() - right[where == one].mean()) * (where == one).mean() for one in set(where)
    ]
    return float(sum(gaps))
