"""Repeating a run from its record alone."""

import tempfile
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgewright.bench.feeds import write_feeds
from edgewright.errors import ModelRejected, RunNotFound, StoreError, UsageError
from edgewright.flows.benchmark.flow import benchmark
from edgewright.flows.benchmark.rerun import load_recorded_plan, rerun
from edgewright.flows.workspace import Workspace
from edgewright.formats.files import join_hashes
from edgewright.schema.run import Run, RunOutput
from edgewright.store.runs.ids import new_run_id
from edgewright.store.store import Store
from tests.bench.quick import QuickDevice, make_plan
from tests.models.onnx_files import write_conv_net, write_external


def ignore(text: str) -> None:
    """Nobody listens."""


@pytest.fixture
def device(tmp_path: Path) -> QuickDevice:
    return QuickDevice(tmp_path)


def test_from_the_record_alone(store: Store, tmp_path: Path, device: QuickDevice) -> None:
    model, inputs = write_external(tmp_path / "m.onnx"), tmp_path / "i.npz"
    write_feeds(inputs, {"x": np.ones((64, 128), np.float32)})
    plan = make_plan(str(model), inputs=str(inputs), threads=2, processes=6)
    (original,) = benchmark(plan, Workspace(device, store, ignore), {"who": "me"}).runs
    for path in (model, inputs, tmp_path / "weights.bin"):
        path.unlink()
    repeated = rerun(original.id[:20], Workspace(device, store, ignore))
    again = repeated.outcome.runs[0]
    assert repeated.original.id == original.id
    assert again.series == store.load(again.id).series
    assert again.id != original.id
    assert again.plan_hash == original.plan_hash
    assert again.tags["who"] == "me"
    assert again.tags["rerun-of"] == original.id
    assert again.model is not None
    assert original.model is not None
    assert again.model.sha256 == original.model.sha256
    assert repeated.comparison is not None
    assert (repeated.comparison.a, repeated.comparison.b) == (original.id, again.id)


def test_a_rerun_can_be_repeated(store: Store, tmp_path: Path, device: QuickDevice) -> None:
    model = write_conv_net(tmp_path / "m.onnx", batch="N")
    (first,) = benchmark(make_plan(str(model), shapes={"x": (2, 3, 8, 8)}), Workspace(device, store, ignore), {}).runs
    model.unlink()
    second = rerun(first.id, Workspace(device, store, ignore)).outcome.runs[0]
    third = rerun(second.id, Workspace(device, store, ignore)).outcome.runs[0]
    assert third.tags["rerun-of"] == second.id
    assert third.plan_hash == first.plan_hash


def test_one_of_several_candidates(store: Store, tmp_path: Path, device: QuickDevice) -> None:
    a, b = write_conv_net(tmp_path / "a.onnx"), write_external(tmp_path / "b.onnx")
    runs = benchmark(make_plan(str(a), str(b)), Workspace(device, store, ignore), {}).runs
    repeated = rerun(runs[1].id, Workspace(device, store, ignore))
    assert len(repeated.outcome.runs) == 1
    assert repeated.outcome.runs[0].plan_hash == runs[1].plan_hash


def test_a_failed_run_fails_again(store: Store, tmp_path: Path, device: QuickDevice) -> None:
    model = str(write_conv_net(tmp_path / "m.onnx"))
    (failed,) = benchmark(make_plan(model, options={"fail": "open"}), Workspace(device, store, ignore), {}).runs
    repeated = rerun(failed.id, Workspace(device, store, ignore))
    assert isinstance(repeated.outcome.error, ModelRejected)
    assert repeated.comparison is None


def test_nothing_to_compare_with(store: Store, tmp_path: Path, device: QuickDevice) -> None:
    """The original was stopped before its first sample; its repetition is whole."""
    broken = QuickDevice(tmp_path, 0, KeyboardInterrupt())
    with pytest.raises(Exception, match="Ctrl-C"):
        benchmark(make_plan(str(write_conv_net(tmp_path / "m.onnx"))), Workspace(broken, store, ignore), {})
    repeated = rerun(store.list_runs()[0].id, Workspace(device, store, ignore))
    assert repeated.outcome.runs[0].state == "done"
    assert repeated.comparison is None


def test_an_unknown_run(store: Store, device: QuickDevice) -> None:
    with pytest.raises(RunNotFound):
        rerun("01ARZ3NDEKTSV4RRFFQ69G5FAV", Workspace(device, store, ignore))


def test_what_is_no_benchmark() -> None:
    run = Run(id="x", kind="demo", state="done", started_at="2026-11-20T00:00:00Z")
    with pytest.raises(UsageError, match="cannot be repeated"):
        load_recorded_plan(run)


def store_foreign_run(original: Run, store: Store, **changes: object) -> str:
    """A run like this one that came from elsewhere."""
    run = msgspec.structs.replace(original, id=new_run_id(), **changes)
    store.record([run])
    return run.id


def test_a_record_without_its_files(store: Store, tmp_path: Path, device: QuickDevice) -> None:
    inputs = tmp_path / "i.npz"
    write_feeds(inputs, {"x": np.zeros((1, 3, 8, 8), np.float32)})
    plan = make_plan(str(write_conv_net(tmp_path / "m.onnx")), inputs=str(inputs))
    (original,) = benchmark(plan, Workspace(device, store, ignore), {}).runs
    only_model = tuple(output for output in original.outputs if output.role == "model")
    for changes in ({"outputs": ()}, {"model": None}, {"outputs": only_model}):
        with pytest.raises(StoreError):
            rerun(store_foreign_run(original, store, **changes), Workspace(device, store, ignore))


@pytest.mark.parametrize("name", ["../escaped", "{}/escaped", "a/../../escaped", "..", "", "..\\escaped"])
def test_no_imported_file_leaves_its_folder(
    store: Store, tmp_path: Path, device: QuickDevice, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    name = name.format(place)
    (original,) = benchmark(
        make_plan(str(write_conv_net(tmp_path / "m.onnx"))), Workspace(device, store, ignore), {}
    ).runs
    model = original.outputs[0]
    data = RunOutput(role=f"data:{name}", sha256=model.sha256, bytes=model.bytes)
    assert original.model is not None
    joined = join_hashes([model.sha256, model.sha256])
    heavy = msgspec.structs.replace(original.model, data_files=(name,), sha256=joined)
    changes = {"outputs": (msgspec.structs.replace(model, model_id=joined), data), "model": heavy}
    with pytest.raises(StoreError, match="contains a file named"):
        rerun(store_foreign_run(original, store, **changes), Workspace(device, store, ignore))
    renamed = msgspec.structs.replace(original.model, name=name)
    with pytest.raises(StoreError, match="contains a file named"):
        rerun(store_foreign_run(original, store, model=renamed), Workspace(device, store, ignore))
    assert list(place.iterdir()) == []
