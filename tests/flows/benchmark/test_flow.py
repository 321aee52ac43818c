"""A benchmark from plan to record: what is kept when all goes well, when something fails, and after Ctrl-C."""

import os
import signal
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgewright.bench.feeds import write_feeds
from edgewright.bench.session import Progress
from edgewright.bench.summary import read_chunk_medians, read_inference
from edgewright.devices.pretend import PretendDevice
from edgewright.errors import (
    Cancelled,
    DeviceUnreachable,
    EdgewrightError,
    InputError,
    ModelNotFound,
    ModelRejected,
    ModelUnreadable,
    StoreFull,
    WorkerCrashed,
)
from edgewright.flows.benchmark.comparison import get_session_id
from edgewright.flows.benchmark.flow import BenchmarkOutcome, benchmark
from edgewright.flows.benchmark.report import BenchmarkReport, make_report
from edgewright.flows.interrupts import defer_interrupts
from edgewright.flows.workspace import Workspace
from edgewright.runtimes import wire
from edgewright.schema.plan import BenchmarkPlan
from edgewright.schema.run import Run
from edgewright.store.store import Store
from tests.bench.quick import QuickDevice, make_plan
from tests.models.onnx_files import write_conv_net, write_external


def ignore(text: str) -> None:
    """Nobody listens."""


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_conv_net(tmp_path / "m.onnx"))


@pytest.fixture
def device(tmp_path: Path) -> QuickDevice:
    return QuickDevice(tmp_path)


def all_runs(store: Store) -> list[Run]:
    return [store.load(row.id) for row in reversed(store.list_runs())]


def as_json(run: Run) -> bytes:
    """A run as JSON, where tuples and lists are the same."""
    return msgspec.json.encode(run, order="sorted")


def put_failing(plan: BenchmarkPlan, position: int, how: str) -> BenchmarkPlan:
    candidates = list(plan.candidates)
    candidates[position] = msgspec.structs.replace(candidates[position], options={"fail": how})
    return msgspec.structs.replace(plan, candidates=tuple(candidates))


# All goes well


def test_the_record_equals_what_was_reported(store: Store, model: str, device: QuickDevice) -> None:
    outcome = benchmark(make_plan(model, model), Workspace(device, store, ignore), {"who": "me"})
    assert outcome.error is None
    assert len(outcome.comparisons) == 1
    kept = all_runs(store)
    for reported, stored in zip(outcome.runs, kept, strict=True):
        assert as_json(stored) == as_json(reported)
        assert (stored.state, stored.error) == ("done", None)
        assert stored.tags["who"] == "me"
        assert len(read_chunk_medians(stored)) == 3
        assert {output.role for output in stored.outputs} == {"model"}
        assert stored.plan["candidates"][0]["model_sha256"] == stored.model.sha256 if stored.model else False
        assert [layer.backend for layer in stored.layers] == ["pretend-npu"] * 3
        assert read_inference(stored)[0][0] == 0.0
    assert [run.parent_id for run in kept] == [None, kept[0].id]
    assert {get_session_id(run) for run in kept} == {kept[0].id}
    assert kept[0].plan_hash == kept[1].plan_hash


def test_the_report_of_stored_runs_is_the_same(store: Store, model: str, device: QuickDevice) -> None:
    outcome = benchmark(make_plan(model), Workspace(device, store, ignore), {})
    report = make_report(outcome.runs, outcome.comparisons)
    again = make_report(all_runs(store), outcome.comparisons)
    assert again == report
    assert msgspec.json.decode(msgspec.json.encode(report), type=BenchmarkReport) == report


def test_without_layers(store: Store, model: str, device: QuickDevice) -> None:
    run = benchmark(make_plan(model, layers=False), Workspace(device, store, ignore), {}).runs[0]
    assert run.layers == ()
    assert "layers-missing" not in {warning.code for warning in run.warnings}
    assert len(device.started) == 3


def test_model_weights_and_inputs_are_kept(store: Store, tmp_path: Path, device: QuickDevice) -> None:
    model = write_external(tmp_path / "m.onnx")
    inputs = tmp_path / "mine.npz"
    write_feeds(inputs, {"x": np.zeros((64, 128), np.float32)})
    run = benchmark(make_plan(str(model), inputs=str(inputs)), Workspace(device, store, ignore), {}).runs[0]
    kept = {output.role: output for output in run.outputs}
    assert kept.keys() == {"model", "data:weights.bin", "inputs"}
    for role, path in {"model": model, "data:weights.bin": tmp_path / "weights.bin", "inputs": inputs}.items():
        copy = tmp_path / "copy"
        store.get_file(kept[role].sha256, copy)
        assert copy.read_bytes() == path.read_bytes()


def test_an_input_may_be_called_file(store: Store, tmp_path: Path, device: QuickDevice) -> None:
    from tests.models.onnx_files import write_named

    model = write_named(tmp_path / "m.onnx", "file", "allow_pickle")
    assert benchmark(make_plan(str(model)), Workspace(device, store, ignore), {}).error is None


def test_pretended_trouble_brings_its_warnings(store: Store, model: str, device: QuickDevice) -> None:
    plan = make_plan(
        model,
        runs=100,
        processes=2,
        warmup_seconds=5.0,
        options={"throttle": "1.0", "fallback": "0.3", "latency-us": "400"},
    )
    run = benchmark(plan, Workspace(device, store, ignore), {}).runs[0]
    assert {"throttling", "fallback"} <= {warning.code for warning in run.warnings}
    share = next(metric.value for metric in run.metrics if metric.name == "layers.fallback_share")
    assert share == pytest.approx(0.3)


def test_load_is_compared_with_the_devices_own_processors(
    store: Store, model: str, device: QuickDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = []
    for load in (1.5, 2.5):  # of four
        monkeypatch.setattr(device, "system_state", lambda load=load: {"load1": load})
        run = benchmark(make_plan(model, layers=False), Workspace(device, store, ignore), {}).runs[0]
        codes.append("background-load" in {warning.code for warning in run.warnings})
    assert codes == [False, True]


# Known beforehand: nothing is recorded


def test_what_is_wrong_beforehand_is_not_recorded(store: Store, tmp_path: Path, device: QuickDevice) -> None:
    free = str(write_conv_net(tmp_path / "free.onnx", batch="N"))
    wrong: list[tuple[type[EdgewrightError], BenchmarkPlan]] = [
        (ModelNotFound, make_plan(str(tmp_path / "absent.onnx"))),
        (InputError, make_plan(free)),
    ]
    for kind, plan in wrong:
        with pytest.raises(kind):
            benchmark(plan, Workspace(device, store, ignore), {})
    assert store.list_runs() == []
    assert device.started == []


# Something fails


def test_a_failing_candidate_is_kept_with_its_log(store: Store, model: str, device: QuickDevice) -> None:
    plan = put_failing(make_plan(model, model, model), 1, "open")
    outcome = benchmark(plan, Workspace(device, store, ignore), {})
    assert isinstance(outcome.error, ModelRejected)
    assert [run.state for run in outcome.runs] == ["done", "failed", "done"]
    assert [as_json(run) for run in all_runs(store)] == [as_json(run) for run in outcome.runs]
    failed = outcome.runs[1]
    assert failed.error is not None
    assert "as requested by fail=open" in failed.error
    log = next(output for output in failed.outputs if output.role == "log")
    with store.open_blob(log.sha256) as file:
        said = file.read().decode()
    assert "says hello" in said
    assert "Traceback" in said
    assert [comparison.b for comparison in outcome.comparisons] == [outcome.runs[2].id]


def test_a_failing_reference_leaves_no_comparison(store: Store, model: str, device: QuickDevice) -> None:
    outcome = benchmark(put_failing(make_plan(model, model), 0, "open"), Workspace(device, store, ignore), {})
    assert outcome.comparisons == ()
    assert [run.state for run in outcome.runs] == ["failed", "done"]


def test_a_real_crash_is_kept_and_the_others_go_on(store: Store, model: str) -> None:
    device = PretendDevice()
    try:
        plan = put_failing(make_plan(model, model, processes=2), 1, "segfault")
        outcome = benchmark(plan, Workspace(device, store, ignore), {})
    finally:
        device.close()
    assert isinstance(outcome.error, WorkerCrashed)
    assert [run.state for run in outcome.runs] == ["done", "failed"]
    log = next(output for output in outcome.runs[1].outputs if output.role == "log")
    with store.open_blob(log.sha256) as file:
        assert b"about to read address zero" in file.read()
    energy = next(metric for metric in outcome.runs[0].metrics if metric.name == "energy")
    assert energy.value is not None
    assert energy.value > 0
    assert outcome.runs[0].tags["energy-source"] == "pretend:battery"


def test_a_device_that_is_gone_does_not_cost_the_record(
    store: Store, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = QuickDevice(tmp_path, 10, DeviceUnreachable("the cable fell out"))
    moments = iter([{"load1": 0.5}])

    def system_state() -> dict[str, float]:
        try:
            return next(moments)
        except StopIteration:
            raise DeviceUnreachable("the cable fell out") from None

    monkeypatch.setattr(device, "system_state", system_state)
    outcome = benchmark(make_plan(model), Workspace(device, store, ignore), {})
    assert isinstance(outcome.error, DeviceUnreachable)
    (run,) = all_runs(store)
    assert run.state == "failed"
    assert len(read_chunk_medians(run)) >= 1


def test_an_unexpected_failure_keeps_what_was_measured(store: Store, model: str, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        benchmark(make_plan(model), Workspace(QuickDevice(tmp_path, 9, ZeroDivisionError("ours")), store, ignore), {})
    (run,) = all_runs(store)
    assert (run.state, run.error) == ("failed", "ours")
    assert read_chunk_medians(run)


# A full disk


def test_no_run_is_lost_when_one_cannot_be_written(
    store: Store, model: str, device: QuickDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, seen = Store.finish, list[str]()

    def finish_but_the_first(self: Store, run: Run) -> None:
        seen.append(run.id)
        if len(seen) == 1:
            raise StoreFull("no space is left")
        finish(self, run)

    monkeypatch.setattr(Store, "finish", finish_but_the_first)
    outcome = benchmark(make_plan(model, model), Workspace(device, store, ignore), {})
    assert isinstance(outcome.error, StoreFull)
    assert [bool(run.metrics) for run in outcome.runs] == [True, True]  # reported in any case
    assert len(set(seen)) == len(seen) == 2
    assert [run.state for run in all_runs(store)] == ["running", "done"]


def test_a_log_that_cannot_be_kept_costs_no_run(
    store: Store, model: str, device: QuickDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put_bytes(self: Store, run_id: str, data: bytes, *, role: str, model_id: str | None = None) -> None:
        raise StoreFull("no space is left")

    monkeypatch.setattr(Store, "put_bytes", put_bytes)
    outcome = benchmark(put_failing(make_plan(model, model), 1, "open"), Workspace(device, store, ignore), {})
    assert [run.state for run in all_runs(store)] == ["done", "failed"]
    assert isinstance(outcome.error, ModelRejected)


# Ctrl-C


def check_cancelled(store: Store, finished: list[str]) -> list[Run]:
    assert len(finished) == len(set(finished)) == 2
    runs = all_runs(store)
    assert [run.state for run in runs] == ["cancelled", "cancelled"]
    assert [run.id for run in runs] == finished
    for run in runs:
        samples = {series.name: series.data for series in run.series}
        counts = samples.get("wall.samples", ())
        assert sum(counts) == len(samples.get("wall", ()))
        assert len(read_chunk_medians(run)) == sum(count > 0 for count in counts)
    return runs


@pytest.fixture
def finished(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the ids of the runs whose `finish` was called, in order."""
    finish, ids = Store.finish, list[str]()

    def watched(self: Store, run: Run) -> None:
        ids.append(run.id)
        finish(self, run)

    monkeypatch.setattr(Store, "finish", watched)
    return ids


MOMENTS: list[tuple[type, int, list[int]]] = [  # and how many processes have samples by then
    (wire.Calibrate, 0, [0, 0]),
    (wire.Open, 1, [0, 0]),
    (wire.Open, 2, [1, 1]),
    (wire.TimeRuns, 0, [0, 0]),
    (wire.TimeRuns, 1, [0, 0]),
    (wire.ReadMemory, 0, [1, 1]),
    (wire.ReadMemory, 2, [2, 2]),
    (wire.Close, 3, [2, 2]),
    (wire.ProfileRuns, 0, [2, 2]),
    (wire.ProfileRuns, 1, [2, 2]),
]


@pytest.mark.parametrize(("question", "number", "measured"), MOMENTS)
def test_ctrl_c_in_a_worker(
    store: Store, model: str, tmp_path: Path, finished: list[str], question: type, number: int, measured: list[int]
) -> None:
    device = QuickDevice(tmp_path, number, KeyboardInterrupt(), breaks_on=question)
    with pytest.raises(Cancelled) as caught:
        benchmark(make_plan(model, model, processes=2), Workspace(device, store, ignore), {})
    assert caught.value.exit_code == 130
    assert [len(read_chunk_medians(run)) for run in check_cancelled(store, finished)] == measured
    assert device.ended == len(device.started)


@pytest.mark.parametrize("stage", range(6))
def test_ctrl_c_between_the_stages(
    store: Store, model: str, device: QuickDevice, finished: list[str], stage: int
) -> None:
    calls = 0

    def progress(text: str) -> None:
        nonlocal calls
        calls += 1
        if calls == stage + 1:
            raise KeyboardInterrupt

    with pytest.raises(Cancelled):
        benchmark(make_plan(model, model, processes=2), Workspace(device, store, progress), {})
    check_cancelled(store, finished)


def test_ctrl_c_before_anything_is_recorded(store: Store, model: str, device: QuickDevice) -> None:
    device.system_state = interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        benchmark(make_plan(model), Workspace(device, store, ignore), {})
    assert store.list_runs() == []


def interrupt() -> dict[str, float]:
    raise KeyboardInterrupt


def test_ctrl_c_while_the_record_is_written_waits(
    store: Store, model: str, device: QuickDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Store.finish

    def finish_with_signal(self: Store, run: Run) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        finish(self, run)

    monkeypatch.setattr(Store, "finish", finish_with_signal)
    with pytest.raises(KeyboardInterrupt):
        benchmark(make_plan(model, model), Workspace(device, store, ignore), {})
    assert [run.state for run in all_runs(store)] == ["done", "done"]


def test_the_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with defer_interrupts():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_a_thread_may_measure_too(store: Store, model: str, device: QuickDevice) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def run_it(progress: Progress) -> BenchmarkOutcome:
        return benchmark(make_plan(model), Workspace(device, store, progress), {})

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(run_it, ignore).result().error is None


def test_a_model_that_changes_while_it_is_measured_is_no_result(
    store: Store, model: str, tmp_path: Path, device: QuickDevice
) -> None:
    changed = write_conv_net(tmp_path / "changing.onnx")

    def change(text: str) -> None:
        if "process 2" in text:
            changed.write_bytes(Path(model).read_bytes() + b"\x00")

    outcome = benchmark(make_plan(str(changed), model), Workspace(device, store, change), {})
    assert [run.state for run in outcome.runs] == ["failed", "done"]
    assert isinstance(outcome.error, ModelUnreadable)
    assert "changed while it was measured" in outcome.error.what
    assert outcome.comparisons == ()
