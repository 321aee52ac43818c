"""Repetition of runs that are no benchmarks."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgewright.devices.local import LocalDevice
from edgewright.errors import StoreError, UsageError
from edgewright.flows.compile.flow import compile_all
from edgewright.flows.evaluate.flow import evaluate
from edgewright.flows.rerun import pair_metrics, repeat_run
from edgewright.flows.workspace import Workspace
from edgewright.schema.plan import Candidate, CompileCell, CompilePlan, EvaluatePlan, PrunePlan
from edgewright.schema.run import Run
from edgewright.store.store import Store, open_store
from edgewright.tasks.spec.task import Regression, Task, TensorInput
from tests.models.onnx_files import node, value, write_onnx

TASK = Task(inputs=(TensorInput(name="x", shape=(1, 2)),), output=Regression(), metric="mae")


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with open_store(tmp_path / "home") as store:
        yield Workspace(LocalDevice(), store, lambda text: None)


def write_model(path: Path) -> Path:
    return write_onnx(path, [node("Neg", ["x"], ["y"])], [value("x", [1, 2])], [value("y", [1, 2])])


def test_an_evaluation_is_repeated_on_changed_data(tmp_path: Path, workspace: Workspace) -> None:
    model, data = write_model(tmp_path / "m.onnx"), tmp_path / "data.npz"
    x = np.ones((8, 2), np.float32)
    np.savez(data, x=x, y=-x)
    candidate = Candidate(model=str(model), runtime="onnxruntime")
    plan = EvaluatePlan(candidates=(candidate,), task=msgspec.to_builtins(TASK), data=str(data))
    original = load_only(workspace.store, evaluate(plan, workspace).report.results[0].run_id)
    again = repeat_run(original, tmp_path, workspace)
    assert (again.error, again.changed, again.run.tags["rerun-of"]) == (None, (), original.id)
    assert again.run.plan_hash == original.plan_hash != ""
    assert [(a.value, b.value) for a, b in pair_metrics(again) if a.name == "mae"] == [(0.0, 0.0)]
    np.savez(data, x=x, y=x)
    again = repeat_run(original, tmp_path, workspace)
    assert again.changed == ("data_fingerprint",)
    assert again.run.plan_hash != original.plan_hash
    assert [(a.value, b.value) for a, b in pair_metrics(again) if a.name == "mae"] == [(0.0, 2.0)]


def test_plans_of_the_version_before_are_repeated(tmp_path: Path, workspace: Workspace) -> None:
    model, data = write_model(tmp_path / "m.onnx"), tmp_path / "data.npz"
    np.savez(data, x=np.ones((8, 2), np.float32), y=np.ones((8, 2), np.float32))
    plan = EvaluatePlan(
        candidates=(Candidate(model=str(model), runtime="onnxruntime"),), task=msgspec.to_builtins(TASK), data=str(data)
    )
    original = load_only(workspace.store, evaluate(plan, workspace).report.results[0].run_id)
    former = {name: value for name, value in original.plan.items() if name != "fixed"}
    assert former != original.plan
    again = repeat_run(msgspec.structs.replace(original, plan=former), tmp_path, workspace)
    assert (again.error, again.changed) == (None, ())
    pruning = {"source": "n.py:build", "task": {}, "val": "v", "importance": "l2", "runtime": "onnxruntime"}
    assert msgspec.convert(pruning | {"teach": False}, PrunePlan).distill is False


def test_a_compile_is_repeated_unless_its_source_changed(tmp_path: Path, workspace: Workspace) -> None:
    model = write_model(tmp_path / "m.onnx")
    plan = CompilePlan(source=str(model), cells=(CompileCell(runtime="onnxruntime", precision="fp32"),), samples=1)
    original = load_only(workspace.store, compile_all(plan, tmp_path / "out", workspace)[0].artifacts[0].run_id)
    assert repeat_run(original, tmp_path / "out", workspace).run.id == original.id
    write_onnx(model, [node("Relu", ["x"], ["y"])], [value("x", [1, 2])], [value("y", [1, 2])])
    with pytest.raises(UsageError, match="cannot be repeated") as caught:
        repeat_run(original, tmp_path / "out", workspace)
    assert caught.value.why == f"{model} has changed since"
    model.unlink()
    with pytest.raises(UsageError, match="cannot be repeated"):
        repeat_run(original, tmp_path / "out", workspace)


def test_runs_that_are_not_repeated(tmp_path: Path, workspace: Workspace) -> None:
    model = write_model(tmp_path / "m.onnx")
    plan = CompilePlan(source=str(model), cells=(CompileCell(runtime="onnxruntime", precision="fp32"),), samples=1)
    original = load_only(workspace.store, compile_all(plan, tmp_path / "out", workspace)[0].artifacts[0].run_id)
    with pytest.raises(UsageError, match="cannot be repeated") as caught:
        repeat_run(msgspec.structs.replace(original, imported=True), tmp_path, workspace)
    assert "imported" in caught.value.why
    for changes in ({"kind": "dance"}, {"plan": {"later": 1}}):
        with pytest.raises(StoreError, match="cannot be repeated"):
            repeat_run(msgspec.structs.replace(original, **changes), tmp_path, workspace)


def load_only(store: Store, run_id: str | None) -> Run:
    assert run_id is not None
    return store.load(run_id)
