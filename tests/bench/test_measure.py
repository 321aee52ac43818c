"""The session: order of the rounds, what a tape holds, and failures in the middle."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edgewright.bench import session
from edgewright.bench.session import Lane, measure, mirrored, profile_layers, runs_left
from edgewright.devices.contract import Reading
from edgewright.devices.pretend import PretendDevice
from edgewright.errors import DeviceUnreachable, ModelRejected, WorkerCrashed, WorkerError, WorkerTimeout
from edgewright.facts.model import GraphNode
from edgewright.facts.plan import BenchmarkPlan
from edgewright.runtimes.wire import MemoryNow, Open, Profile, RunTimes
from tests.bench.quick import QuickDevice, failure_of, make_lane, make_plan, make_tape


def ignore(text: str) -> None:
    """Nobody listens."""


def starts_of(device: QuickDevice, lanes: list[Lane], processes: int, tmp_path: Path, interleave: str) -> list[str]:
    told: list[str] = []
    plan = make_plan(processes=processes, interleave=interleave)
    measure(device, lanes, plan, tmp_path, lambda text: told.append(text[0]))
    return told


@pytest.mark.parametrize("interleave", ["chunks", "processes"])
def test_every_other_round_is_mirrored(tmp_path: Path, interleave: str) -> None:
    lanes = [make_lane(tmp_path, name) for name in "abc"]
    assert starts_of(QuickDevice(tmp_path), lanes, 4, tmp_path, interleave) == list("abccbaabccba")


@given(st.lists(st.integers(), max_size=6, unique=True), st.integers(0, 20))
def test_mirrored(order: list[int], number: int) -> None:
    turned = mirrored(order, number)
    assert turned == (order if number % 2 == 0 else list(reversed(order)))
    assert mirrored(turned, number) == order


def test_candidates_of_a_round_take_turns_chunk_by_chunk(tmp_path: Path) -> None:
    lanes = [make_lane(tmp_path, "a"), make_lane(tmp_path, "b")]
    device = QuickDevice(tmp_path)
    measure(device, lanes, make_plan(processes=1, runs=16), tmp_path, ignore)
    assert [tape.chunks for lane in lanes for tape in lane.tapes] == [[2] * 8, [2] * 8]
    asked = [question for question in device.questions if isinstance(question, Open | MemoryNow)]
    assert [type(question) for question in asked] == [Open, Open, MemoryNow, MemoryNow]


def test_one_process_after_the_other_where_asked_for(tmp_path: Path) -> None:
    lanes = [make_lane(tmp_path, "a"), make_lane(tmp_path, "b")]
    device = QuickDevice(tmp_path)
    measure(device, lanes, make_plan(processes=1, interleave="processes"), tmp_path, ignore)
    asked = [question for question in device.questions if isinstance(question, Open | MemoryNow)]
    assert [type(question) for question in asked] == [Open, MemoryNow, Open, MemoryNow]


def test_runs_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWRIGHT_TIME_LIMIT", "60")

    def left(taken_us: list[float], plan: BenchmarkPlan) -> int:
        lane = make_lane(tmp_path)
        lane.tapes.append(make_tape(taken_us))
        return runs_left(lane, plan)

    fixed, timed, long = make_plan(runs=5), make_plan(runs=None, seconds=0.3), make_plan(runs=None, seconds=60.0)
    assert [left([1e8] * taken, fixed) for taken in (0, 4, 5)] == [5, 1, 0]
    assert left([1e6] * 9, timed) > 0
    assert left([1e6] * 10, timed) == 0
    assert left([1.0] * 10, timed) > 0
    assert left([1.0] * session.MOST_RUNS, timed) == 0
    assert left([9e6] * 2, timed) > 0
    assert left([9e6] * 3, timed) == 0  # more than a third of the time limit
    assert left([9e6] * 6, long) > 0


@pytest.mark.parametrize(("limit", "runs"), [("60", 2), ("6000", 3), ("none", 3)])
def test_slow_inferences_are_profiled_fewer_times(
    limit: str, runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWRIGHT_TIME_LIMIT", limit)
    lane, device = make_lane(tmp_path), QuickDevice(tmp_path)
    lane.tapes.append(make_tape([5e6]))
    profile_layers(device, lane, make_plan(layer_runs=3), tmp_path / "layers")
    assert [question.runs for question in device.questions if isinstance(question, Profile)] == [runs]


def test_many_nodes_are_profiled_fewer_times(tmp_path: Path) -> None:
    lane, device = make_lane(tmp_path), QuickDevice(tmp_path)
    node = GraphNode(name="sum", op="CumSum", inputs=("a",), outputs=("b",))
    lane.entry = replace(lane.entry, graph=(node,) * 20_000)
    lane.tapes.append(make_tape([1e3]))
    profile_layers(device, lane, make_plan(layer_runs=30), tmp_path / "layers")
    assert [question.runs for question in device.questions if isinstance(question, Profile)] == [5]


def test_an_inference_too_slow_to_be_profiled_within_the_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWRIGHT_TIME_LIMIT", "60")
    lane, device = make_lane(tmp_path), QuickDevice(tmp_path)
    lane.tapes.append(make_tape([11e6]))
    profile_layers(device, lane, make_plan(), tmp_path / "layers")
    assert device.questions == []
    assert "one inference takes 11 s" in lane.layer_failure
    assert "EDGEWRIGHT_TIME_LIMIT" in lane.layer_failure


def test_what_a_tape_holds(tmp_path: Path) -> None:
    lanes, device, told = [make_lane(tmp_path)], QuickDevice(tmp_path), list[str]()
    measure(device, lanes, make_plan(runs=7, processes=2, warmup_seconds=5.0), tmp_path, told.append)
    assert told == ["m in pretend: process 1 of 2", "m in pretend: process 2 of 2"]
    assert lanes[0].failure is None
    assert device.ended == 2
    for tape in lanes[0].tapes:
        assert len(tape.wall_us) == len(tape.cpu_us) == 7
        assert min(tape.wall_us) > 45
        assert tape.steady
        assert tape.first_us is not None
        assert tape.load_us is not None
        assert tape.memory_peak is not None
        assert sum(tape.chunks) == 7
        settled = len(tape.readings) * session.SETTLING_RUNS
        assert sum(count for _, _, count, _ in tape.readings) == 7 + settled


def test_the_harness_is_subtracted_and_no_time_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgewright.runtimes.wire import Calibration
    from tests.bench import quick

    slow = Calibration(wall_ns=1e9, cpu_ns=1e9, resolution_ns=1.0, reference_us=1.0)
    monkeypatch.setattr(quick, "QUIET", slow)
    lane = make_lane(tmp_path)
    measure(QuickDevice(tmp_path), [lane], make_plan(processes=1), tmp_path, ignore)
    assert set(lane.tapes[0].wall_us) == {0.001}
    assert set(lane.tapes[0].cpu_us) == {0.0}


def test_a_failing_lane_does_not_stop_the_others(tmp_path: Path) -> None:
    lanes = [make_lane(tmp_path, "a"), make_lane(tmp_path, "b", fail="open"), make_lane(tmp_path, "c")]
    device = QuickDevice(tmp_path)
    measure(device, lanes, make_plan(processes=3), tmp_path, ignore)
    assert [len(lane.tapes) for lane in lanes] == [3, 1, 3]
    assert isinstance(failure_of(lanes[1]), ModelRejected)
    assert lanes[0].failure is None
    assert lanes[2].failure is None
    assert device.ended == len(device.started) == 7


def test_a_worker_that_failed_is_gone_before_the_others_are_sampled(tmp_path: Path) -> None:
    device = QuickDevice(tmp_path)
    ended: list[int] = []
    count = device.count

    def watch(command: object) -> None:
        if isinstance(command, RunTimes) and command.settle:
            ended.append(device.ended)
        count(command)  # type: ignore[arg-type]  # only commands are asked

    device.count = watch  # type: ignore[method-assign]  # a look over the device's shoulder
    lanes = [make_lane(tmp_path, "a", fail="run"), make_lane(tmp_path, "b")]
    measure(device, lanes, make_plan(processes=1), tmp_path, ignore)
    assert lanes[0].failure is not None
    assert set(ended) == {1}


def test_a_cable_that_falls_out_keeps_what_was_measured(tmp_path: Path) -> None:
    lane = make_lane(tmp_path)
    measure(QuickDevice(tmp_path, 1, DeviceUnreachable("gone"), breaks_on=Open), [lane], make_plan(), tmp_path, ignore)
    assert isinstance(failure_of(lane), DeviceUnreachable)
    assert len(lane.tapes) == 2
    assert len(lane.tapes[0].wall_us) == 6


@pytest.mark.parametrize("moment", range(12))
def test_ctrl_c_passes_and_leaves_the_tapes(tmp_path: Path, moment: int) -> None:
    lane, device = make_lane(tmp_path), QuickDevice(tmp_path, moment, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        measure(device, [lane], make_plan(), tmp_path, ignore)
    assert all(len(tape.wall_us) == 6 and tape.memory_peak for tape in lane.tapes[:-1])
    assert device.ended == len(device.started)


def test_samples_of_a_broken_process_are_kept(tmp_path: Path) -> None:
    """The peak of memory is asked for last: all samples are there by then."""
    broken = make_lane(tmp_path)
    device = QuickDevice(tmp_path, 0, WorkerError("lost"), breaks_on=MemoryNow)
    measure(device, [broken], make_plan(processes=1), tmp_path, ignore)
    assert broken.failure is not None
    assert len(broken.tapes[0].wall_us) >= 5
    assert broken.tapes[0].memory_peak is None


def test_the_first_inference_is_alone_and_cold(tmp_path: Path) -> None:
    device = QuickDevice(tmp_path)
    lane = make_lane(tmp_path, warmup="20")
    measure(device, [lane], make_plan(processes=1), tmp_path, ignore)
    opened = next(place for place, question in enumerate(device.questions) if isinstance(question, Open))
    first = device.questions[opened + 1]
    assert isinstance(first, RunTimes)
    assert (first.runs, first.settle) == (1, 0)
    assert (lane.tapes[0].first_us or 0.0) > 10 * min(lane.tapes[0].wall_us)


def test_warm_up_ends_by_its_time_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "is_steady", lambda samples, window: False)
    lane = make_lane(tmp_path)
    measure(QuickDevice(tmp_path), [lane], make_plan(processes=1, warmup_seconds=0.5), tmp_path, ignore)
    assert not lane.tapes[0].steady
    assert len(lane.tapes[0].warmup_us) > 5
    assert len(lane.tapes[0].wall_us) == 6


def test_sensors_are_read_between_chunks(tmp_path: Path) -> None:
    readings = [Reading(energy_uj=1000 * k, temperature_c=30.0 + k, source="made up") for k in range(50)]
    lane = make_lane(tmp_path)
    measure(QuickDevice(tmp_path, readings=readings), [lane], make_plan(processes=2), tmp_path, ignore)
    pairs = [(before, after) for tape in lane.tapes for before, after, _, _ in tape.readings]
    assert all((after.energy_uj or 0) - (before.energy_uj or 0) == 1000 for before, after in pairs)


def test_layers(tmp_path: Path) -> None:
    lane = make_lane(tmp_path, fallback="0.4")
    profile_layers(QuickDevice(tmp_path), lane, make_plan(), tmp_path / "layers-0")
    assert lane.layer_failure == ""
    assert lane.report is not None
    assert [layer.backend for layer in lane.report.fallbacks()] == ["pretend-cpu"]


def test_layers_that_fail_are_told_and_not_raised(tmp_path: Path) -> None:
    broken = make_lane(tmp_path, fail="open")
    profile_layers(QuickDevice(tmp_path), broken, make_plan(), tmp_path / "layers-0")
    assert broken.report is None
    assert "asked to refuse" in broken.layer_failure


def test_a_damaged_trace_is_told_and_not_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pull(remote: str, path: Path) -> None:
        path.mkdir()
        (path / "trace.json").write_bytes(b'{"runs_us": [')

    damaged, device = make_lane(tmp_path), QuickDevice(tmp_path)
    monkeypatch.setattr(device, "pull", pull)
    profile_layers(device, damaged, make_plan(), tmp_path / "layers-1")
    assert damaged.report is None
    assert "DecodeError" in damaged.layer_failure


@pytest.mark.parametrize("moment", range(2))
def test_ctrl_c_while_profiling_passes(tmp_path: Path, moment: int) -> None:
    device = QuickDevice(tmp_path, moment, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        profile_layers(device, make_lane(tmp_path), make_plan(), tmp_path / "layers-0")


# With real processes


def measure_for_real(tmp_path: Path, lanes: list[Lane], device: PretendDevice, **changes: object) -> None:
    try:
        measure(device, lanes, make_plan(**changes), tmp_path, ignore)
    finally:
        device.close()


def test_real_workers(tmp_path: Path) -> None:
    hows = {"a": "never", "b": "segfault", "c": "chatter"}
    lanes = [make_lane(tmp_path, name, fail=how) for name, how in hows.items()]
    measure_for_real(tmp_path, lanes, PretendDevice(), processes=2)
    assert isinstance(failure_of(lanes[1]), WorkerCrashed)
    assert "SIGSEGV" in str(failure_of(lanes[1]))
    assert "about to read address zero" in failure_of(lanes[1]).why
    assert lanes[1].tapes[0].load_us is not None
    for lane in (lanes[0], lanes[2]):
        assert lane.failure is None
        assert [len(tape.wall_us) for tape in lane.tapes] == [6, 6]
        assert all(tape.calibration and tape.calibration.wall_ns > 0 for tape in lane.tapes)
        assert all(tape.start_us and tape.start_us > 1000 for tape in lane.tapes)


def test_a_real_hang_ends_in_time(tmp_path: Path) -> None:
    lane = make_lane(tmp_path, fail="hang")
    measure_for_real(tmp_path, [lane], PretendDevice(), timeout_s=6.0)
    assert isinstance(failure_of(lane), WorkerTimeout)
    assert len(lane.tapes) == 1


def test_a_real_device_is_unplugged(tmp_path: Path) -> None:
    lanes = [make_lane(tmp_path, "a"), make_lane(tmp_path, "b")]
    measure_for_real(tmp_path, lanes, PretendDevice(workers=3), processes=4)
    assert [len(lane.tapes) for lane in lanes] == [2, 3]
    failures = [lane.failure for lane in lanes]
    assert all(isinstance(failure, DeviceUnreachable) for failure in failures)
    assert [sum(1 for tape in lane.tapes if tape.wall_us) for lane in lanes] == [1, 2]
