"""Every warning: one case that brings it, one that does not, and advice that fits what the user did."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from edgewright.bench.energy import Energy
from edgewright.bench.session import ProcessSamples
from edgewright.bench.summary import make_metrics
from edgewright.bench.warnings import RULES, TimingOptions, WarningContext, find_warnings
from edgewright.devices.protocol import Reading
from edgewright.runtimes.wire import ClockCalibration
from edgewright.schema.plan import BenchmarkPlan
from edgewright.schema.run import LayerReport
from tests.bench.quick import make_plan, make_samples
from tests.bench.test_summary import layer

WALL = [100.0 + k % 5 / 10 for k in range(30)]
PLAN = replace(make_plan(), processes=10)


def case_of(
    processes: list[ProcessSamples] | None = None,
    plan: BenchmarkPlan = PLAN,
    report: LayerReport | None = None,
    **changes: Any,
) -> WarningContext:
    processes = [make_samples(WALL) for _ in range(10)] if processes is None else processes
    energy = Energy(uj_per_inference=None, evidence="none", source="no sensor")
    metrics = {metric.name: metric for metric in make_metrics(processes, 10, energy, report)}
    plain: dict[str, Any] = {"before": {"load1": 0.1}, "after": {"load1": 1.0}, "cores": 4}
    options = TimingOptions(plan.threads, plan.processes, plan.warmup_seconds, bool(plan.affinity))
    return WarningContext(options=options, processes=processes, metrics=metrics, report=report, **{**plain, **changes})


def report_of(*layers: Any, whole_us: float = 100.0) -> LayerReport:
    return LayerReport(layers=layers, via="profiler", whole_us=whole_us, partitions=2, asked="npu")


def slowly(factor: float) -> list[float]:
    return [100.0 * (1 + factor * k / 30) for k in range(30)]


def clock(resolution_ns: float = 10.0, wall_ns: float = 100.0) -> ClockCalibration:
    return ClockCalibration(wall_ns=wall_ns, cpu_ns=0.0, resolution_ns=resolution_ns, reference_us=1.0)


WHOLE = report_of(layer(0, "npu", 60.0), layer(1, "npu", 40.0))

# For each code: a case that brings it, words that its text must have, and a case close by that does not bring it.
CASES: dict[str, tuple[Callable[[], WarningContext], str, Callable[[], WarningContext]]] = {
    "backend-absent": (
        lambda: case_of([make_samples(WALL, notes=("XNNPACK is not in this build",))]),
        "XNNPACK is not in this build",
        case_of,
    ),
    "fallback": (
        lambda: case_of(report=report_of(layer(0, "npu", 60.0), layer(1, "cpu", 40.0))),
        "1 of 2 operators (Conv) did not run in npu but in cpu: 2 partitions",
        lambda: case_of(report=WHOLE),
    ),
    "noisy-machine": (
        lambda: case_of([make_samples([100.0 + 4 * k]) for k in range(10)]),
        "--processes 20",
        lambda: case_of([make_samples([100.0 + k]) for k in range(10)]),
    ),
    "drift": (
        lambda: case_of([make_samples([100.0 + 3 * k]) for k in range(9)]),
        "slower than the first",
        lambda: case_of([make_samples([100.0 + 30 * (k % 3)]) for k in range(9)]),
    ),
    "throttling": (
        lambda: case_of([make_samples(slowly(0.2)) for _ in range(10)]),
        "slows down under load",
        lambda: case_of([make_samples(slowly(0.03)) for _ in range(10)]),
    ),
    "not-steady": (
        lambda: case_of([make_samples(WALL, steady=k > 2) for k in range(10)], replace(PLAN, warmup_seconds=2.0)),
        "3 of 10 processes were still warming up after 2 s: try --warmup-seconds 8",
        case_of,
    ),
    "too-few-samples": (
        lambda: case_of([make_samples(WALL[:9]) for _ in range(10)]),
        "90 samples are too few for p99: try --runs 10 or more",
        lambda: case_of([make_samples(WALL[:10]) for _ in range(10)]),
    ),
    "too-few-processes": (
        lambda: case_of([make_samples(WALL) for _ in range(5)]),
        "here 5",
        lambda: case_of([make_samples(WALL) for _ in range(6)]),
    ),
    "too-many-threads": (
        lambda: case_of(plan=replace(PLAN, threads=5)),
        "5 threads share 4 processors",
        lambda: case_of(plan=replace(PLAN, threads=4)),
    ),
    "timer-resolution": (
        lambda: case_of([make_samples(WALL, calibration=clock(resolution_ns=2000))]),
        "steps of 2000 ns",
        lambda: case_of([make_samples(WALL, calibration=clock(resolution_ns=900))]),
    ),
    "background-load": (
        lambda: case_of(before={"load1": 2.5}),
        "load 2.5 on 4 processors",
        lambda: case_of(before={"load1": 1.5}),
    ),
    "swap": (
        lambda: case_of(before={"swap_used_bytes": 1e6}, after={"swap_used_bytes": 31e6}),
        "30 MB were swapped out",
        lambda: case_of(before={"swap_used_bytes": 31e6}, after={"swap_used_bytes": 31e6}),
    ),
    "layer-sum": (
        lambda: case_of(report=report_of(layer(0, "npu", 60.0))),
        "60% of an inference (profiler)",
        lambda: case_of(report=report_of(layer(0, "npu", 90.0))),
    ),
    "profiling-cost": (
        lambda: case_of(report=report_of(layer(0, "npu", 150.0), whole_us=150.0)),
        "1.50 × as long",
        lambda: case_of(report=report_of(layer(0, "npu", 120.0), whole_us=120.0)),
    ),
    "layers-cut-out": (
        lambda: case_of(report=msgspec.structs.replace(report_of(layer(0, "npu", 100.0)), reason="it crashed")),
        "(profiler): it crashed",
        lambda: case_of(report=report_of(layer(0, "npu", 100.0))),
    ),
    "layers-missing": (lambda: case_of(failure="the trace is empty"), "no layer times: the trace is empty", case_of),
}


def texts(context: WarningContext) -> dict[str, str]:
    return {warning.code: warning.text for warning in find_warnings(context)}


def test_every_rule_has_its_case() -> None:
    assert CASES.keys() == RULES.keys()


@pytest.mark.parametrize("code", CASES)
def test_a_case_that_raises_it(code: str) -> None:
    make, words, _ = CASES[code]
    assert words in texts(make())[code]


@pytest.mark.parametrize("code", CASES)
def test_a_case_that_does_not(code: str) -> None:
    assert code not in texts(CASES[code][2]())


def test_a_quiet_run_has_no_warning() -> None:
    assert texts(case_of(report=WHOLE)) == {}


def test_nothing_measured_does_not_break_a_rule() -> None:
    assert set(texts(case_of([]))) == {"too-few-processes"}
    assert set(texts(case_of([make_samples([])]))) <= {"too-few-processes", "not-steady"}


def test_advice_against_noise_follows_what_was_tried() -> None:
    processes = [make_samples([100.0 + 4 * k]) for k in range(10)]
    many = replace(PLAN, processes=20)
    assert "--affinity" in texts(case_of(processes, many))["noisy-machine"]
    bound = replace(many, affinity=(1,))
    assert "--affinity" not in texts(case_of(processes, bound))["noisy-machine"]
    assert "quieter machine" in texts(case_of(processes, bound))["noisy-machine"]


def test_a_machine_that_becomes_faster_drifts_too() -> None:
    assert "faster than the first" in texts(case_of([make_samples([100.0 - 3 * k]) for k in range(9)]))["drift"]


@pytest.mark.parametrize(("count", "drifts"), [(5, False), (6, True)])
def test_drift_needs_two_processes_in_each_third(count: int, *, drifts: bool) -> None:
    found = texts(case_of([make_samples([100.0 + 6 * k]) for k in range(count)]))
    assert ("drift" in found) == drifts


def test_drift_compares_the_ends_and_not_the_middle() -> None:
    medians = [100.0] * 6 + [120.0, 121.0, 122.0]
    assert "21% slower" in texts(case_of([make_samples([one]) for one in medians]))["drift"]


def test_throttling_needs_nine_samples_and_compares_thirds() -> None:
    walls = [100.0, 101.0, 102.0, 105.0, 105.0, 105.0, 110.0, 121.2, 130.0]
    assert "took 20% longer" in texts(case_of([make_samples(walls)]))["throttling"]
    assert "throttling" not in texts(case_of([make_samples(walls[1:])]))


def test_one_process_takes_all_samples_that_p99_requires() -> None:
    assert "try --runs 100 or more" in texts(case_of([make_samples(WALL)]))["too-few-samples"]


def test_profiling_may_cost_a_quarter() -> None:
    report = report_of(layer(0, "npu", 125.0), whole_us=125.0)
    assert "profiling-cost" not in texts(case_of([make_samples([100.0] * 30)] * 10, report=report))


def test_the_temperature_is_named_where_it_rose() -> None:
    def reading(degrees: float) -> Reading:
        return Reading(source="s", temperature_c=degrees)

    hot = [(reading(40), reading(41), 1, 0.1), (reading(41), reading(63), 1, 0.2)]
    text = texts(case_of([make_samples(slowly(0.2), readings=hot)]))["throttling"]
    assert "the temperature rose to 63 °C" in text
    cool = [(reading(40), reading(41), 1, 0.1), (reading(41), reading(42), 1, 0.2)]  # one degree is no evidence
    assert "temperature" not in texts(case_of([make_samples(slowly(0.2), readings=cool)]))["throttling"]


def test_the_harness_may_be_the_coarse_part() -> None:
    context = case_of([make_samples([1.0] * 30, calibration=clock(wall_ns=90.0, resolution_ns=1.0))])
    assert "the harness costs 90 ns per sample" in texts(context)["timer-resolution"]


def test_pressure_and_stolen_time_are_load_too() -> None:
    assert "pressure 20 %" in texts(case_of(before={"load1": 0.0, "psi_cpu_some_avg10": 20.0}))["background-load"]
    before = {"cpu_total_ticks": 1000.0, "cpu_steal_ticks": 10.0}
    after = {"cpu_total_ticks": 2000.0, "cpu_steal_ticks": 60.0}
    assert "took 5% of the processor time" in texts(case_of(before=before, after=after))["background-load"]
    assert "background-load" not in texts(case_of(before=after, after=after))
