"""The session: order of the rounds, process samples, and failures in the middle."""

from pathlib import Path
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edgewright.bench import session
from edgewright.bench.session import CandidateProcesses, count_runs_left, measure, mirror_order, profile_layers
from edgewright.devices.pretend import PretendDevice
from edgewright.devices.protocol import Reading
from edgewright.errors import DeviceUnreachable, ModelRejected, WorkerCrashed, WorkerError, WorkerTimeout
from edgewright.runtimes.wire import Open, ProfileRuns, ReadMemory, TimeRuns
from edgewright.schema.model import GraphNode
from edgewright.schema.plan import BenchmarkPlan
from tests.bench.quick import QuickDevice, failure_of, make_candidate, make_plan, make_samples


def ignore(text: str) -> None:
    """Nobody listens."""


def starts_of(
    device: QuickDevice, candidates: list[CandidateProcesses], processes: int, tmp_path: Path, interleave: str
) -> list[str]:
    lines: list[str] = []
    plan = make_plan(processes=processes, interleave=interleave)
    measure(device, candidates, plan, tmp_path, lines.append)
    return [line[0] for line in lines if "median" not in line]


@pytest.mark.parametrize("interleave", ["chunks", "processes"])
def test_every_other_round_is_mirrored(tmp_path: Path, interleave: str) -> None:
    candidates = [make_candidate(tmp_path, name) for name in "abc"]
    assert starts_of(QuickDevice(tmp_path), candidates, 4, tmp_path, interleave) == list("abccbaabccba")


@given(st.lists(st.integers(), max_size=6, unique=True), st.integers(0, 20))
def test_mirrored(order: list[int], number: int) -> None:
    turned = mirror_order(order, number)
    assert turned == (order if number % 2 == 0 else list(reversed(order)))
    assert mirror_order(turned, number) == order


def test_candidates_of_a_round_take_turns_chunk_by_chunk(tmp_path: Path) -> None:
    candidates = [make_candidate(tmp_path, "a"), make_candidate(tmp_path, "b")]
    device = QuickDevice(tmp_path)
    measure(device, candidates, make_plan(processes=1, runs=16), tmp_path, ignore)
    assert [process.chunks for candidate in candidates for process in candidate.processes] == [[2] * 8, [2] * 8]
    asked = [question for question in device.questions if isinstance(question, Open | ReadMemory)]
    assert [type(question) for question in asked] == [Open, Open, ReadMemory, ReadMemory]


def test_one_process_after_the_other_where_asked_for(tmp_path: Path) -> None:
    candidates = [make_candidate(tmp_path, "a"), make_candidate(tmp_path, "b")]
    device = QuickDevice(tmp_path)
    measure(device, candidates, make_plan(processes=1, interleave="processes"), tmp_path, ignore)
    asked = [question for question in device.questions if isinstance(question, Open | ReadMemory)]
    assert [type(question) for question in asked] == [Open, ReadMemory, Open, ReadMemory]


def test_runs_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWRIGHT_TIME_LIMIT", "60")

    def left(taken_us: list[float], plan: BenchmarkPlan) -> int:
        candidate = make_candidate(tmp_path)
        candidate.processes.append(make_samples(taken_us))
        return count_runs_left(candidate, plan)

    fixed, timed, long = make_plan(runs=5), make_plan(runs=None, seconds=0.3), make_plan(runs=None, seconds=60.0)
    assert [left([1e8] * taken, fixed) for taken in (0, 4, 5)] == [5, 1, 0]
    assert left([1e6] * 9, timed) > 0
    assert left([1e6] * 10, timed) == 0
    assert left([1.0] * 10, timed) > 0
    assert left([1.0] * session.MAX_RUNS, timed) == 0
    assert left([9e6] * 2, timed) > 0
    assert left([9e6] * 3, timed) == 0  # more than a third of the time limit
    assert left([9e6] * 6, long) > 0


@pytest.mark.parametrize(("limit", "runs"), [("60", 2), ("6000", 3), ("none", 3)])
def test_slow_inferences_are_profiled_fewer_times(
    limit: str, runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWRIGHT_TIME_LIMIT", limit)
    candidate, device = make_candidate(tmp_path), QuickDevice(tmp_path)
    candidate.processes.append(make_samples([5e6]))
    profile_layers(device, candidate, make_plan(layer_runs=3), tmp_path / "layers")
    assert [question.runs for question in device.questions if isinstance(question, ProfileRuns)] == [runs]


def test_many_nodes_are_profiled_fewer_times(tmp_path: Path) -> None:
    candidate, device = make_candidate(tmp_path), QuickDevice(tmp_path)
    node = GraphNode(name="sum", op="CumSum", inputs=("a",), outputs=("b",))
    candidate.entry = replace(candidate.entry, graph=(node,) * 20_000)
    candidate.processes.append(make_samples([1e3]))
    profile_layers(device, candidate, make_plan(layer_runs=30), tmp_path / "layers")
    assert [question.runs for question in device.questions if isinstance(question, ProfileRuns)] == [5]


def test_an_inference_too_slow_to_be_profiled_within_the_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWRIGHT_TIME_LIMIT", "60")
    candidate, device = make_candidate(tmp_path), QuickDevice(tmp_path)
    candidate.processes.append(make_samples([11e6]))
    profile_layers(device, candidate, make_plan(), tmp_path / "layers")
    assert device.questions == []
    assert "one inference takes 11 s" in candidate.layer_failure
    assert "EDGEWRIGHT_TIME_LIMIT" in candidate.layer_failure


def test_what_a_tape_holds(tmp_path: Path) -> None:
    candidates, device, lines = [make_candidate(tmp_path)], QuickDevice(tmp_path), list[str]()
    measure(device, candidates, make_plan(runs=7, processes=2, warmup_seconds=5.0), tmp_path, lines.append)
    starts = ["m in pretend: process 1 of 2", "m in pretend: process 2 of 2"]
    middles = [median(process.wall_us) for process in candidates[0].processes]
    ends = [f"{start}: median {middle:.5g} µs" for start, middle in zip(starts, middles, strict=True)]
    assert lines == [starts[0], ends[0], starts[1], ends[1]]
    assert candidates[0].failure is None
    assert device.ended == 2
    for process in candidates[0].processes:
        assert len(process.wall_us) == len(process.cpu_us) == 7
        assert min(process.wall_us) > 45
        assert process.steady
        assert process.first_us is not None
        assert process.load_us is not None
        assert process.memory_peak is not None
        assert sum(process.chunks) == 7
        settled = len(process.readings) * session.SETTLING_RUNS
        assert sum(count for _, _, count, _ in process.readings) == 7 + settled


def test_the_harness_is_subtracted_and_no_time_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgewright.runtimes.wire import ClockCalibration
    from tests.bench import quick

    slow = ClockCalibration(wall_ns=1e9, cpu_ns=1e9, resolution_ns=1.0, reference_us=1.0)
    monkeypatch.setattr(quick, "QUIET", slow)
    candidate = make_candidate(tmp_path)
    measure(QuickDevice(tmp_path), [candidate], make_plan(processes=1), tmp_path, ignore)
    assert set(candidate.processes[0].wall_us) == {0.001}
    assert set(candidate.processes[0].cpu_us) == {0.0}


def test_a_failing_candidate_does_not_stop_the_others(tmp_path: Path) -> None:
    candidates = [
        make_candidate(tmp_path, "a"),
        make_candidate(tmp_path, "b", fail="open"),
        make_candidate(tmp_path, "c"),
    ]
    device = QuickDevice(tmp_path)
    measure(device, candidates, make_plan(processes=3), tmp_path, ignore)
    assert [len(candidate.processes) for candidate in candidates] == [3, 1, 3]
    assert isinstance(failure_of(candidates[1]), ModelRejected)
    assert candidates[0].failure is None
    assert candidates[2].failure is None
    assert device.ended == len(device.started) == 7


def test_a_worker_that_failed_is_gone_before_the_others_are_sampled(tmp_path: Path) -> None:
    device = QuickDevice(tmp_path)
    ended: list[int] = []
    count = device.count

    def watch(command: object) -> None:
        if isinstance(command, TimeRuns) and command.settle:
            ended.append(device.ended)
        count(command)  # type: ignore[arg-type]  # only commands are asked

    device.count = watch  # type: ignore[method-assign]  # a look over the device's shoulder
    candidates = [make_candidate(tmp_path, "a", fail="run"), make_candidate(tmp_path, "b")]
    measure(device, candidates, make_plan(processes=1), tmp_path, ignore)
    assert candidates[0].failure is not None
    assert set(ended) == {1}


def test_a_cable_that_falls_out_keeps_what_was_measured(tmp_path: Path) -> None:
    candidate = make_candidate(tmp_path)
    measure(
        QuickDevice(tmp_path, 1, DeviceUnreachable("gone"), breaks_on=Open), [candidate], make_plan(), tmp_path, ignore
    )
    assert isinstance(failure_of(candidate), DeviceUnreachable)
    assert len(candidate.processes) == 2
    assert len(candidate.processes[0].wall_us) == 6


@pytest.mark.parametrize("moment", range(12))
def test_ctrl_c_passes_and_leaves_the_tapes(tmp_path: Path, moment: int) -> None:
    candidate, device = make_candidate(tmp_path), QuickDevice(tmp_path, moment, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        measure(device, [candidate], make_plan(), tmp_path, ignore)
    assert all(len(process.wall_us) == 6 and process.memory_peak for process in candidate.processes[:-1])
    assert device.ended == len(device.started)


def test_samples_of_a_broken_process_are_kept(tmp_path: Path) -> None:
    """The peak of memory is asked for last: all samples are there by then."""
    broken = make_candidate(tmp_path)
    device = QuickDevice(tmp_path, 0, WorkerError("lost"), breaks_on=ReadMemory)
    measure(device, [broken], make_plan(processes=1), tmp_path, ignore)
    assert broken.failure is not None
    assert len(broken.processes[0].wall_us) >= 5
    assert broken.processes[0].memory_peak is None


def test_the_first_inference_is_alone_and_cold(tmp_path: Path) -> None:
    device = QuickDevice(tmp_path)
    candidate = make_candidate(tmp_path, warmup="20")
    measure(device, [candidate], make_plan(processes=1), tmp_path, ignore)
    opened = next(place for place, question in enumerate(device.questions) if isinstance(question, Open))
    first = device.questions[opened + 1]
    assert isinstance(first, TimeRuns)
    assert (first.runs, first.settle) == (1, 0)
    assert (candidate.processes[0].first_us or 0.0) > 10 * min(candidate.processes[0].wall_us)


def test_warm_up_ends_by_its_time_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "is_steady", lambda samples, window: False)
    candidate = make_candidate(tmp_path)
    measure(QuickDevice(tmp_path), [candidate], make_plan(processes=1, warmup_seconds=0.5), tmp_path, ignore)
    assert not candidate.processes[0].steady
    assert len(candidate.processes[0].warmup_us) > 5
    assert len(candidate.processes[0].wall_us) == 6


def test_sensors_are_read_between_chunks(tmp_path: Path) -> None:
    readings = [Reading(energy_uj=1000 * k, temperature_c=30.0 + k, source="made up") for k in range(50)]
    candidate = make_candidate(tmp_path)
    measure(QuickDevice(tmp_path, readings=readings), [candidate], make_plan(processes=2), tmp_path, ignore)
    pairs = [(before, after) for process in candidate.processes for before, after, _, _ in process.readings]
    assert all((after.energy_uj or 0) - (before.energy_uj or 0) == 1000 for before, after in pairs)


def test_layers(tmp_path: Path) -> None:
    candidate = make_candidate(tmp_path, fallback="0.4")
    profile_layers(QuickDevice(tmp_path), candidate, make_plan(), tmp_path / "layers-0")
    assert candidate.layer_failure == ""
    assert candidate.report is not None
    assert [layer.backend for layer in candidate.report.fallbacks()] == ["pretend-cpu"]


def test_a_failed_layer_pass_is_reported_and_not_raised(tmp_path: Path) -> None:
    broken = make_candidate(tmp_path, fail="open")
    profile_layers(QuickDevice(tmp_path), broken, make_plan(), tmp_path / "layers-0")
    assert broken.report is None
    assert "as requested by fail=open" in broken.layer_failure


def test_a_damaged_trace_is_reported_and_not_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pull(remote: str, path: Path) -> None:
        path.mkdir()
        (path / "trace.json").write_bytes(b'{"runs_us": [')

    damaged, device = make_candidate(tmp_path), QuickDevice(tmp_path)
    monkeypatch.setattr(device, "pull", pull)
    profile_layers(device, damaged, make_plan(), tmp_path / "layers-1")
    assert damaged.report is None
    assert "DecodeError" in damaged.layer_failure


@pytest.mark.parametrize("moment", range(2))
def test_ctrl_c_while_profiling_passes(tmp_path: Path, moment: int) -> None:
    device = QuickDevice(tmp_path, moment, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        profile_layers(device, make_candidate(tmp_path), make_plan(), tmp_path / "layers-0")


# With real processes


def measure_for_real(
    tmp_path: Path, candidates: list[CandidateProcesses], device: PretendDevice, **changes: object
) -> None:
    try:
        measure(device, candidates, make_plan(**changes), tmp_path, ignore)
    finally:
        device.close()


def test_real_workers(tmp_path: Path) -> None:
    hows = {"a": "never", "b": "segfault", "c": "chatter"}
    candidates = [make_candidate(tmp_path, name, fail=how) for name, how in hows.items()]
    measure_for_real(tmp_path, candidates, PretendDevice(), processes=2)
    assert isinstance(failure_of(candidates[1]), WorkerCrashed)
    assert "SIGSEGV" in str(failure_of(candidates[1]))
    assert "about to read address zero" in failure_of(candidates[1]).why
    assert candidates[1].processes[0].load_us is not None
    for candidate in (candidates[0], candidates[2]):
        assert candidate.failure is None
        assert [len(process.wall_us) for process in candidate.processes] == [6, 6]
        assert all(process.calibration and process.calibration.wall_ns > 0 for process in candidate.processes)
        assert all(process.start_us and process.start_us > 1000 for process in candidate.processes)


def test_a_real_hang_ends_in_time(tmp_path: Path) -> None:
    candidate = make_candidate(tmp_path, fail="hang")
    measure_for_real(tmp_path, [candidate], PretendDevice(), timeout_s=6.0)
    assert isinstance(failure_of(candidate), WorkerTimeout)
    assert len(candidate.processes) == 1


def test_a_real_device_is_unplugged(tmp_path: Path) -> None:
    candidates = [make_candidate(tmp_path, "a"), make_candidate(tmp_path, "b")]
    measure_for_real(tmp_path, candidates, PretendDevice(workers=3), processes=4)
    assert [len(candidate.processes) for candidate in candidates] == [2, 3]
    failures = [candidate.failure for candidate in candidates]
    assert all(isinstance(failure, DeviceUnreachable) for failure in failures)
    assert [sum(1 for process in candidate.processes if process.wall_us) for candidate in candidates] == [1, 2]
