"""Routing rules: calibrated, better than chance, and judged on other samples than they are fitted on."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgewright.devices.protocol import Device
from edgewright.errors import DataError, EdgewrightError, UsageError
from edgewright.flows.route.flow import RouteRequest, RouterFile, fit_route
from edgewright.flows.workspace import Workspace
from edgewright.schema.arrays import Array
from edgewright.serving.routing import (
    RoutingRule,
    assign_levels,
    compute_calibration_error,
    compute_softmax,
    fit_rule,
    fit_temperature,
)
from edgewright.store.store import Store
from edgewright.tasks.spec.file import read_task
from tests.paths import ROOT

DIGITS = ROOT / "src/edgewright/flows/digits"


def make_scores(n: int, seed: int, noise: float, scale: float = 1.0) -> tuple[Array, Array]:
    """Return logits whose softmax is the probability of the label after division by `scale`."""
    random = np.random.default_rng(seed)
    logits = random.standard_normal((n, 5)) * 2 / noise
    probabilities = compute_softmax(logits)
    labels = np.array([random.choice(5, p=one) for one in probabilities])
    return logits * scale, labels


def test_the_temperature_of_overconfident_scores_is_found() -> None:
    scores, labels = make_scores(4000, 0, 1.0, scale=3.0)
    temperature = fit_temperature(scores, labels)
    assert temperature == pytest.approx(3.0, rel=0.1)
    right = scores.argmax(axis=1) == labels
    assert compute_calibration_error(scores, right, temperature) < 0.03
    assert compute_calibration_error(scores, right, 1.0) > 0.1


def test_uncertain_samples_go_on_and_the_rule_beats_chance() -> None:
    scores, labels = make_scores(4000, 1, 1.0)
    right = scores.argmax(axis=1) == labels
    last = np.random.default_rng(2).random(4000) < 0.97
    rule = fit_rule(scores[:2000], labels[:2000], right[:2000], last[:2000], 0.4)
    gain = rule.predict_gain(scores[2000:])
    threshold = float(np.quantile(gain, 0.6))
    level = assign_levels([rule], [threshold], [scores[2000:]])
    assert (level == 1).mean() == pytest.approx(0.4, abs=0.01)
    routed = np.where(level == 1, last[2000:], right[2000:]).mean()
    chance = 0.4 * last[2000:].mean() + 0.6 * right[2000:].mean()
    assert routed > chance + 0.05


def test_a_last_level_that_never_helps() -> None:
    scores, labels = make_scores(100, 1, 1.0)
    right = scores.argmax(axis=1) == labels
    assert fit_rule(scores, labels, right, right, 0.4).method == "margin"


def test_three_levels() -> None:
    rule = RoutingRule(method="margin", temperature=1.0)
    sure, unsure = [[9.0, 0.0]], [[0.1, 0.0]]
    scores = [np.array(sure + unsure + unsure), np.array(unsure + sure + unsure)]
    assert assign_levels([rule, rule], [-0.5, -0.5], scores).tolist() == [0, 1, 2]


@pytest.fixture
def workspace(device: Device, store: Store) -> Workspace:
    return Workspace(device, store, lambda _: None)


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("halves")
    data = np.load(DIGITS / "heldout.npz")
    half = len(data["labels"]) // 2
    for name, part in (("fit", slice(0, half)), ("held", slice(half, None))):
        np.savez(folder / f"{name}.npz", **{key: data[key][part] for key in data})
    return str(folder / "fit.npz"), str(folder / "held.npz")


def make_request(halves: tuple[str, str], **changes: Any) -> RouteRequest:
    fields: dict[str, Any] = {
        "levels": (str(DIGITS / "digits_int8.onnx"), str(DIGITS / "digits.onnx")),
        "tasks": (read_task(DIGITS / "task.toml"),),
        "data": halves[0],
        "eval_data": halves[1],
    }
    return RouteRequest(**(fields | changes))


def test_a_router_is_fitted_judged_and_written(tmp_path: Path, workspace: Workspace, halves: tuple[str, str]) -> None:
    report, error = fit_route(make_request(halves), workspace, tmp_path / "router.json")
    assert error is None
    assert report.samples + report.fit_samples == 539
    assert report.levels[0].share + report.levels[1].share == pytest.approx(1.0)
    assert report.offload == pytest.approx(report.levels[1].share)
    router = msgspec.json.decode((tmp_path / "router.json").read_bytes(), type=RouterFile)
    assert (len(router.rules), len(router.thresholds)) == (1, 1)


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"levels": (str(DIGITS / "digits.onnx"),)}, UsageError, "two levels"),
        ({"goal": "latency<5ms"}, UsageError, "latency"),
        ({"goal": "drop<2x"}, UsageError, "unknown unit"),
        ({"tasks": ()}, UsageError, "number of tasks"),
    ],
)
def test_requests_that_mean_nothing(
    workspace: Workspace, halves: tuple[str, str], changes: dict[str, Any], kind: type[EdgewrightError], text: str
) -> None:
    with pytest.raises(kind, match=text):
        fit_route(make_request(halves, **changes), workspace, None)


def test_the_same_samples_for_both(workspace: Workspace, halves: tuple[str, str]) -> None:
    with pytest.raises(DataError, match="same samples"):
        fit_route(make_request(halves, eval_data=halves[0]), workspace, None)
