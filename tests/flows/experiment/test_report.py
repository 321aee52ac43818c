"""What the reports of trainings say: differences over seeds and over samples, drops, series."""

import pytest

from edgewright.errors import RuntimeMissing
from edgewright.flows.evaluate.report import MetricRow, PairedRow
from edgewright.flows.experiment import setup
from edgewright.flows.experiment.report import (
    NetworkReport,
    SeedRow,
    compare_networks,
    compute_mean_drop,
    compute_t_half_width,
    make_curve_series,
)
from edgewright.training.job import Curve, TrainReport


def side(name: str, *values: float, metric: str = "top1", better: str = "higher") -> NetworkReport:
    return NetworkReport(
        name=name,
        parameters=10,
        zeros=0,
        macs=None,
        bytes=1,
        packed_bytes=1,
        latency_us=None,
        metric=MetricRow(name=metric, value=values[0], low=0.0, high=1.0, n=100, better=better),
        mean=sum(values) / len(values),
        seeds=tuple(
            SeedRow(seed=seed, metric=value, held_out=None, steps=1, seconds=1.0, precision="fp32", resumed=0)
            for seed, value in enumerate(values)
        ),
    )


def test_students_interval_of_three_seeds() -> None:
    assert compute_t_half_width([1.0, 2.0, 3.0]) == pytest.approx(4.303 / 3**0.5)


def test_seeds_are_paired() -> None:
    found = compare_networks(side("pruned", 0.80, 0.70, 0.60), side("control", 0.81, 0.71, 0.61), None)
    assert found is not None
    assert (found.over, found.n, found.unit) == ("seeds", 3, "points")
    assert found.value == pytest.approx(-1.0)
    assert found.low == pytest.approx(-1.0, abs=1e-6)
    assert found.high == pytest.approx(-1.0, abs=1e-6)


def test_one_seed_has_the_interval_over_samples() -> None:
    paired = PairedRow(difference=-0.02, low=-0.03, high=-0.01, p=0.01, test="mcnemar")
    found = compare_networks(side("pruned", 0.8), side("control", 0.82), paired)
    assert found is not None
    assert found.over == "samples"
    assert (found.value, found.low, found.high) == pytest.approx((-2.0, -3.0, -1.0))


def test_what_is_not_paired_has_no_interval() -> None:
    found = compare_networks(side("pruned", 0.8), side("source", 0.9), None)
    assert found is not None
    assert found.value == pytest.approx(-10.0)
    assert found.low is None


def test_drops_are_points_of_a_share_and_units_of_an_error() -> None:
    assert compute_mean_drop(side("pruned", 0.8), side("control", 0.82)) == pytest.approx(2.0)
    worse = side("pruned", 1.5, metric="mae", better="lower")
    assert compute_mean_drop(worse, side("control", 1.0, metric="mae", better="lower")) == pytest.approx(0.5)


def test_curves_are_series_with_their_steps() -> None:
    report = TrainReport(
        steps=4, planned=4, precision="fp32", metric=None, best_step=4, seconds=1.0, resumed=0, parameters=1, zeros=0,
        curves=(Curve(name="loss", unit="1", steps=(2, 4), values=(1.0, 0.5)),),
    )  # fmt: skip
    series = list(make_curve_series("pruned", [report], 7))
    assert [(one.name, one.data) for one in series] == [
        ("pruned.seed7.loss", (1.0, 0.5)),
        ("pruned.seed7.loss.steps", (2.0, 4.0)),
    ]


def test_missing_training_packages_are_reported_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "TRAINING_PACKAGES", ("no_such_package",))
    with pytest.raises(RuntimeMissing, match="training needs no_such_package") as caught:
        setup.check_training_packages()
    assert "edgewright[train]" in caught.value.try_this
