"""Goals of a gate: which figure answers each, with which interval, and when it is not shown."""

from typing import Any

import pytest
from msgspec.structs import replace

from edgewright.errors import UsageError
from edgewright.flows.evaluate.report import EvaluationRow, MetricRow, PairedRow
from edgewright.flows.gate.baseline import Baseline, BaselineFigure, GateOptions
from edgewright.flows.gate.checks import GateMeasurement, MeasuredModel, check_goal, check_units, make_figures
from edgewright.flows.gate.figures import compare_rounds
from edgewright.flows.gate.report import GateCheck
from edgewright.schema.goals import parse_goals
from edgewright.schema.run import Run, Series

DEVICE = {"name": "local", "model": "A1"}
FIGURES = {
    "latency": BaselineFigure(value=100.0, low=99.0, high=101.0, confidence=0.99, unit="us"),
    "bytes": BaselineFigure(value=1000.0, unit="B"),
    "metric": BaselineFigure(value=0.9, low=0.88, high=0.92, confidence=0.95),
}
BASELINE = Baseline(
    model="m.onnx",
    model_sha256="0" * 64,
    runtime="onnxruntime",
    precision="fp32",
    device=DEVICE,
    date="2026-11-30",
    edgewright="0.1.0",
    metric="accuracy",
    data_fingerprint="f",
    options=GateOptions(),
    figures=FIGURES,
)


def make_run(us: float, processes: int = 8) -> Run:
    """A run whose process medians are close to `us`; p95 and the memory follow."""
    middles = [us * (1 + 0.001 * (number % 5)) for number in range(processes)]
    wall = [sample for middle in middles for sample in (middle * 0.99, middle, middle * 1.01, middle * 2)]
    series = (
        Series(name="wall", unit="us", data=tuple(wall)),
        Series(name="wall.samples", unit="1", data=(4.0,) * processes),
        Series(name="chunk.samples", unit="1", data=(4.0,) * processes),
        Series(name="memory.peak", unit="bytes", data=tuple(middles)),
    )
    return Run(
        id=f"{us}", kind="benchmark", state="done", started_at="2026-11-30T00:00:00Z", parent_id="s", series=series
    )


def make_row(value: float, paired: PairedRow | None = None) -> EvaluationRow:
    metric = MetricRow(name="accuracy", value=value, low=value - 0.02, high=value + 0.02, n=500, better="higher")
    texts: dict[str, Any] = dict.fromkeys(("run_id", "model", "model_sha256", "runtime", "precision"), "")
    others: dict[str, Any] = {"error": None, "agreement": None, "sqnr_db": None, "samples_per_second": None}
    return EvaluationRow(
        **texts, **others, state="done", reference=False, evaluated=500, metric=metric, paired=paired,
        worst_classes=(), notes=(),
    )  # fmt: skip


def check(goal: str, us: float = 110.0, reference: float | None = 100.0, **changes: Any) -> GateCheck:
    old = None if reference is None else MeasuredModel(make_run(reference), make_row(0.9), 1000.0)
    found = GateMeasurement(
        model=MeasuredModel(make_run(us), make_row(0.85, changes.pop("paired", None)), 1100.0),
        reference=old,
        baseline=changes.pop("baseline", BASELINE),
        is_same=changes.pop("is_same", False),
        device=changes.pop("device", DEVICE),
        metric="accuracy",
        data_fingerprint=changes.pop("data", "f"),
        differing=changes.pop("differing", ()),
    )
    return check_goal(parse_goals(goal)[0], found)


def test_ten_percent_slower_is_missed_in_one_session_and_not_shown_between_sessions() -> None:
    now = check("latency<=1.05x")
    assert (now.state, now.method) == ("missed", "interleaved")
    assert now.value == pytest.approx(1.1)
    later = check("latency<=1.05x", reference=None)
    assert (later.state, later.method) == ("not shown", "sessions")
    assert later.value == pytest.approx(1.1, abs=0.01)
    assert later.low is not None
    assert later.low < 1.05
    assert check("latency<=1.05x", us=120, reference=None).state == "missed"
    assert check("latency<=1.05x", us=100).state == "met"


def test_times_of_other_options_are_not_compared_between_sessions() -> None:
    other = check("latency<=1.05x", us=50, reference=None, differing=("shape",))
    assert (other.state, other.value) == ("not shown", None)
    assert "--shape differs" in other.reason
    assert check("latency<=1.05x", us=50, differing=("shape",)).state == "met"  # both are measured with it


def disturb(run: Run, cpu: float = 1.0) -> Run:
    """The run on a busy machine, which interrupts two of three inferences; `cpu` is the share that they compute."""
    plain = run.series[0].data
    wall = tuple(time * (1 + number % 3) for number, time in enumerate(plain))
    times = (
        Series(name="wall", unit="us", data=wall),
        Series(name="cpu", unit="us", data=tuple(x * cpu for x in plain)),
    )
    return replace(run, series=(*times, *run.series[1:]))


def test_interruptions_do_not_count_if_an_inference_computes_all_the_time() -> None:
    quiet = replace(make_run(100.0), series=(*make_run(100.0).series, replace(make_run(100.0).series[0], name="cpu")))
    busy = compare_rounds(quiet, disturb(make_run(110.0)), "latency")
    assert busy is not None
    assert busy.value == pytest.approx(1.1)
    assert busy.low == pytest.approx(1.1)
    waiting = compare_rounds(quiet, disturb(make_run(110.0), cpu=0.5), "latency")
    assert waiting is not None
    assert waiting.value > 1.5


def test_figures_of_another_device_show_nothing() -> None:
    found = check("latency<=1.05x", reference=None, device={"name": "local", "model": "B2"})
    assert (found.state, found.value) == ("not shown", None)
    assert "another device" in found.reason
    assert check("latency<=1.05x", device={"name": "local", "model": "B2"}).state == "missed"
    assert check("latency<1ms", reference=None, device={"name": "local", "model": "B2"}).state == "met"


@pytest.mark.parametrize(
    ("goal", "state", "value", "method"),
    [
        ("latency<0.2ms", "met", 0.11077, "processes"),
        ("p95<=1.05x", "missed", 1.1, "interleaved"),
        ("p90>1x", "met", 1.1, "interleaved"),
        ("memory<=1.2x", "met", 1.1, "interleaved"),
        ("memory<1B", "missed", 110.2, "processes"),
        ("bytes<=1.1x", "met", 1.1, "exact"),
        ("bytes<1.1kB", "missed", 1.1, "exact"),
        ("metric>=80%", "met", 85.0, "samples"),
        ("metric>0.86", "not shown", 0.85, "samples"),
        ("energy<1mJ", "not shown", None, ""),
    ],
)
def test_each_metric(goal: str, state: str, value: float | None, method: str) -> None:
    found = check(goal)
    assert (found.state, found.method) == (state, method)
    assert found.value == (None if value is None else pytest.approx(value, rel=2e-3))


def test_the_drop_is_paired_in_one_session_and_combined_between_sessions() -> None:
    paired = PairedRow(difference=-0.05, low=-0.06, high=-0.04, p=0.0, test="mcnemar")
    found = check("drop<3", paired=paired)
    assert (found.state, found.method) == ("missed", "paired samples")
    assert (found.value, found.low, found.high) == pytest.approx((5.0, 4.0, 6.0))
    later = check("drop<3", reference=None)
    assert (later.state, later.method) == ("not shown", "samples")
    assert later.value == pytest.approx(5.0)
    assert (later.low, later.high) == pytest.approx((5 - 8**0.5, 5 + 8**0.5))
    assert "other data" in check("drop<3", reference=None, data="g").reason
    assert (check("drop<=0", is_same=True).state, check("drop<=0", is_same=True).value) == ("met", 0.0)


def test_too_few_processes_show_nothing() -> None:
    model = MeasuredModel(make_run(150, processes=5), None, 1000.0)
    old = MeasuredModel(make_run(100, processes=5), None, 1000.0)
    found = GateMeasurement(model=model, reference=old, baseline=BASELINE, is_same=False, device=DEVICE)
    one = check_goal(parse_goals("latency<=1.05x")[0], found)
    assert one.state == "not shown"
    assert one.value == pytest.approx(1.5)
    assert "6 processes" in one.reason


def test_a_baseline_without_the_figure_shows_nothing() -> None:
    bare = replace(BASELINE, figures={})
    for goal in ("latency<=1.05x", "bytes<=1x", "drop<1"):
        found = check(goal, reference=None, baseline=bare)
        assert (found.state, found.value) == ("not shown", None)
        assert "the baseline has no" in found.reason


def test_figures_have_six_digits_and_exact_ones_no_interval() -> None:
    figures = make_figures(MeasuredModel(make_run(100 / 3), None, 117720.0))
    assert figures["bytes"] == BaselineFigure(value=117720.0, unit="B")
    assert figures["latency"].value == 33.5503
    assert figures["latency"].unit == "us"
    assert "energy" not in figures


def test_a_drop_in_percent_requires_a_share() -> None:
    check_units(parse_goals("drop<1%"), "accuracy")
    with pytest.raises(UsageError, match="mae is not a share"):
        check_units(parse_goals("drop<1%"), "mae")
