"""A distillation from a plan to a student, compared with the same student without its teacher."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from edgewright.devices.protocol import Device
from edgewright.errors import ConfigError, EdgewrightError, GateFailed, ModelNotFound, UsageError
from edgewright.flows.distill import flow as flow
from edgewright.flows.distill.flow import distill
from edgewright.flows.distill.report import DistillReport
from edgewright.flows.experiment import trainings
from edgewright.flows.experiment.report import MetricDelta, NetworkReport
from edgewright.flows.lineage import trace_lineage
from edgewright.flows.prune.flow import prune
from edgewright.flows.workspace import Workspace
from edgewright.store.store import Store
from edgewright.tasks.spec.task import Classification
from edgewright.web.pages.training import render_training
from tests.flows.experiment.quadrants import TASK, distil_plan, ignore, prune_plan, write_training_files, write_weights

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("lightning_fabric", reason="lightning-fabric is not installed")
pytestmark = pytest.mark.usefixtures("quick_races")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return write_training_files(tmp_path)


def sides_of(report: DistillReport) -> dict[str, NetworkReport]:
    return {side.name: side for side in report.networks}


def test_a_student_of_ones_own(files: dict[str, str], tmp_path: Path, device: Device, store: Store) -> None:
    report, error = distill(distil_plan(files, seeds=2), tmp_path / "out", Workspace(device, store, ignore))
    assert error is None
    sides = sides_of(report)
    assert set(sides) == {"teacher", "control", "student"}
    assert sides["student"].parameters == sides["control"].parameters
    assert (sides["student"].macs or 0) < (sides["teacher"].macs or 0)
    assert [row.steps for row in sides["student"].seeds] == [row.steps for row in sides["control"].seeds]
    assert report.labeled
    assert {one.against: one.over for one in report.against}["control"] == "seeds"
    assert {curve.name for curve in report.curves["student"]} >= {"loss", "loss.teacher", "loss.labels", "lr"}
    assert "loss.teacher" not in {curve.name for curve in report.curves["control"]}
    assert report.module == files["small"]
    assert Path(report.model or "").is_file()
    assert store.load(report.run_id or "").kind == "distil"
    assert "Curves of the first seed" in render_training(report)


def test_a_pruned_and_distilled_network_keeps_its_lineage(
    files: dict[str, str], tmp_path: Path, device: Device, store: Store
) -> None:
    weights = str(write_weights(tmp_path, files["source"]))
    cut, _ = prune(prune_plan(files, weights=weights), tmp_path / "cut", Workspace(device, store, ignore))
    plan = distil_plan(
        files, teacher_weights=weights, student=cut.module or "", student_weights=cut.weights, control=False
    )
    trained, error = distill(plan, tmp_path / "taught", Workspace(device, store, ignore))
    assert error is None
    run = store.load(trained.run_id or "")
    assert run.model is not None
    assert (run.model.name, run.model.path) == ("net_pruned.py", cut.module)
    steps = trace_lineage(run, store).made_from
    assert [(one.kind, one.name, one.run_id) for one in steps] == [("prune", "net.py", cut.run_id)]
    alone, _ = distill(
        distil_plan(files, teacher_weights=weights), tmp_path / "alone", Workspace(device, store, ignore)
    )
    run = store.load(alone.run_id or "")
    assert run.model is not None
    assert run.model.name == "net.py"


def test_a_student_of_the_teachers_family(files: dict[str, str], tmp_path: Path, device: Device, store: Store) -> None:
    plan = distil_plan(files, student="auto:3x", control=False, transfer="attention")
    report, error = distill(plan, tmp_path / "out", Workspace(device, store, ignore))
    assert error is None
    sides = sides_of(report)
    assert set(sides) == {"teacher", "student"}
    assert (sides["student"].parameters or 0) < (sides["teacher"].parameters or 0) / 2.5
    assert {row.name: row.before for row in report.widths} == {"first": 16, "second": 16}
    assert report.module == f"{tmp_path / 'out' / 'net_student.py'}:build"
    assert "loss.transfer" in {curve.name for curve in report.curves["student"]}
    from edgewright.training.job import ModuleSource
    from edgewright.training.source import load_module

    module = load_module(ModuleSource(factory=report.module, weights=report.weights), 0)
    assert sum(one.numel() for one in module.parameters()) < 1200


def rename_output(model: str, name: str, to: Path) -> str:
    graph = onnx.load(model)
    for node in graph.graph.node:
        node.output[:] = [name if one == "output" else one for one in node.output]
    graph.graph.output[0].name = name
    onnx.save(graph, str(to))
    return str(to)


def test_a_student_gives_its_outputs_the_names_of_its_teacher(
    files: dict[str, str], tmp_path: Path, device: Device, store: Store
) -> None:
    made, _ = distill(distil_plan(files, control=False), tmp_path / "made", Workspace(device, store, ignore))
    teacher = rename_output(made.model or "", "scores", tmp_path / "teacher.onnx")
    task = msgspec.structs.replace(TASK, output=Classification(name="scores", classes=4))
    plan = distil_plan(files, teacher=teacher, task=msgspec.to_builtins(task), control=False)
    for word in ("named", "unnamed"):
        report, error = distill(plan, tmp_path / word, Workspace(device, store, ignore))
        assert error is None
        assert [one.name for one in onnx.load(report.model or "").graph.output] == ["scores"]
        plan = msgspec.structs.replace(plan, task=msgspec.to_builtins(TASK))
    wrong = msgspec.structs.replace(TASK, output=Classification(name="logits", classes=4))
    with pytest.raises(ConfigError, match="the teacher: the model has no output 'logits'"):
        distill(
            msgspec.structs.replace(plan, task=msgspec.to_builtins(wrong)),
            tmp_path / "no",
            Workspace(device, store, ignore),
        )


def test_a_teacher_in_a_file_and_data_without_labels(
    files: dict[str, str], tmp_path: Path, device: Device, store: Store
) -> None:
    first, _ = distill(distil_plan(files, control=False), tmp_path / "first", Workspace(device, store, ignore))
    with np.load(files["data"]) as stored:
        np.savez(tmp_path / "bare.npz", images=stored["images"])
    plan = distil_plan(files, teacher=first.model, data=str(tmp_path / "bare.npz"))
    report, error = distill(plan, tmp_path / "out", Workspace(device, store, ignore))
    assert error is None
    assert not report.labeled
    assert report.alpha == 1.0
    assert set(sides_of(report)) == {"teacher", "student"}
    assert any("no labels" in note for note in report.notes)


def test_a_student_that_is_worse_than_its_control_is_rejected(
    files: dict[str, str], tmp_path: Path, device: Device, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    harm = MetricDelta(against="control", value=-3.0, low=-4.0, high=-2.0, over="samples", n=1, unit="points")
    monkeypatch.setattr(flow, "compute_mean_drop", lambda *_: 3.0)
    monkeypatch.setattr("edgewright.flows.experiment.run.compare_networks", lambda *_: harm)
    report, error = distill(distil_plan(files, max_drop=1.0), tmp_path / "out", Workspace(device, store, ignore))
    assert isinstance(error, GateFailed)
    assert "trained on the labels only" in error.why
    assert report.state == "refused"
    kept = [path.name for path in (tmp_path / "out").iterdir()]
    assert [name.startswith(".edgewright-distil-") for name in kept] == [True]  # nothing but what was trained
    chance = msgspec.structs.replace(harm, low=-7.0, high=1.0)
    monkeypatch.setattr("edgewright.flows.experiment.run.compare_networks", lambda *_: chance)
    monkeypatch.setattr(trainings, "run_job", lambda *_, **__: pytest.fail("it trained again"))
    report, error = distill(distil_plan(files, max_drop=2.0), tmp_path / "out", Workspace(device, store, ignore))
    assert error is None
    assert any("may be chance" in note for note in report.notes)
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".edgewright")]


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"teacher": "absent.onnx"}, ModelNotFound, "teacher not found"),
        ({"student": "some.onnx"}, UsageError, "torch source"),
        ({"student": "auto:1x"}, UsageError, "is not valid"),
        ({"student": "auto:tiny"}, UsageError, "is not valid"),
        ({"student": "auto:900x"}, GateFailed, "no student can be 900"),
        ({"temperature": 0.0}, UsageError, "temperature 0"),
        ({"alpha": 1.5}, UsageError, "alpha 1.5"),
        ({"views": 0}, UsageError, "views 0"),
    ],
)
def test_invalid_distillations(
    changes: dict[str, Any], kind: type[EdgewrightError], words: str, files: dict[str, str], tmp_path: Path,
    device: Device, store: Store,
) -> None:  # fmt: skip
    with pytest.raises(kind, match=words) as caught:
        distill(distil_plan(files, **changes), tmp_path / "out", Workspace(device, store, ignore))
    assert caught.value.try_this


def test_teacher_and_student_of_other_classes(
    files: dict[str, str], tmp_path: Path, device: Device, store: Store
) -> None:
    student = files["small"].replace(":small", ":three_classes")
    with pytest.raises(UsageError, match="the teacher's output size is 4, the student's is 3"):
        distill(distil_plan(files, student=student, alpha=1.0), tmp_path / "out", Workspace(device, store, ignore))
