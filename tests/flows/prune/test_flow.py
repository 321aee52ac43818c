"""A pruning from a plan to a smaller model, compared with its control."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgewright.devices.protocol import Device
from edgewright.errors import (
    Cancelled,
    ConfigError,
    EdgewrightError,
    GateFailed,
    ModelNotConvertible,
    ModelNotFound,
    UsageError,
    WorkerError,
)
from edgewright.flows.compile.sources import hash_source
from edgewright.flows.demo.flow import get_digits_folder
from edgewright.flows.experiment import trainings
from edgewright.flows.experiment.report import NetworkReport
from edgewright.flows.experiment.setup import compute_key, read_settings
from edgewright.flows.prune import flow as flow
from edgewright.flows.prune.flow import prune
from edgewright.flows.prune.report import PruneReport
from edgewright.flows.workspace import Workspace
from edgewright.schema.plan import CompilePlan, PrunePlan
from edgewright.store.store import Store
from edgewright.tasks.spec.file import read_task
from edgewright.web.pages.training import render_training
from tests.flows.experiment.quadrants import ignore, prune_plan, write_data, write_training_files, write_weights

DIGITS = get_digits_folder()
torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("lightning_fabric", reason="lightning-fabric is not installed")
pytestmark = pytest.mark.usefixtures("quick_races")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return write_training_files(tmp_path)


@pytest.fixture
def digits() -> PrunePlan:
    """The demo's model, which is ONNX."""
    return PrunePlan(
        source=str(DIGITS / "digits.onnx"),
        task=msgspec.to_builtins(read_task(DIGITS / "task.toml")),
        val=str(DIGITS / "heldout.npz"),
        importance="l2",
        target_bytes="1.5x",
        max_drop=100.0,
    )


def sides_of(report: PruneReport) -> dict[str, NetworkReport]:
    return {side.name: side for side in report.networks}


def left_in(out: Path) -> list[str]:
    return [path.name for path in out.iterdir() if path.name.startswith(".edgewright")]


@pytest.mark.parametrize(("target", "similar_cost"), [("1.5x", True), ("4x", False)])
def test_a_control_that_costs_much_more_is_trained_by_itself(
    target: str, similar_cost: bool, files: dict[str, str], tmp_path: Path, device: Device, store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen: list[bool] = []

    def stop(jobs: Any, progress: Any, *, similar_cost: bool) -> Any:
        seen.append(similar_cost)
        raise UsageError("that far")

    monkeypatch.setattr(flow, "train_networks", stop)
    with pytest.raises(UsageError, match="that far"):
        prune(prune_plan(files, target_macs=target), tmp_path / "out", Workspace(device, store, ignore))
    assert seen == [similar_cost]


def test_a_module_becomes_smaller_beside_its_control(
    files: dict[str, str], tmp_path: Path, device: Device, store: Store
) -> None:
    weights = str(write_weights(tmp_path, files["source"]))
    plan = prune_plan(files, weights=weights, rounds=2, distill=True, target_macs="", target_bytes="1.6x")
    report, error = prune(plan, tmp_path / "out", Workspace(device, store, ignore))
    assert error is None
    sides = sides_of(report)
    assert list(sides) == ["source", "control", "pruned"]
    assert sides["control"].macs == sides["source"].macs
    assert sides["pruned"].bytes <= sides["source"].bytes / 1.6
    assert (sides["pruned"].macs or 0) < (sides["source"].macs or 0)
    assert {row.name: row.before for row in report.widths} == {"first": 16, "second": 16}
    assert all(row.after % 4 == 0 and row.after <= row.before for row in report.widths)
    epoch = 9  # steps of one: the control has those of the round too
    assert sides["control"].seeds[0].steps == sides["pruned"].seeds[0].steps + epoch
    assert all("loss.teacher" in {curve.name for curve in own} for own in report.curves.values())
    deltas = {one.against: one for one in report.against}
    assert deltas["control"].over == "samples"
    assert deltas["control"].low is not None
    assert deltas["source"].low is None
    assert left_in(tmp_path / "out") == []
    # The result is a valid source, with the evaluated weights.
    module, loaded = load(report)
    assert sum(one.numel() for one in module.parameters()) == loaded
    run = store.load(report.run_id or "")
    assert run.kind == "prune"
    assert run.model is not None
    names = {one.name for one in run.series}
    assert {"pruned.seed0.loss", "control.seed0.loss", "pruned.seed0.loss.steps"} <= names
    made = hash_source(CompilePlan(source=report.module or "", weights=report.weights, cells=()))
    assert made in {one.model_id for one in run.outputs}
    page = render_training(report)
    assert "Comparison with the control" in page
    assert "second" in page


def test_alpha_1_leaves_the_labels_out(files: dict[str, str], tmp_path: Path, device: Device, store: Store) -> None:
    plan = prune_plan(files, distill=True, temperature=2.0, alpha=1.0, control=False)
    report, error = prune(plan, tmp_path / "out", Workspace(device, store, ignore))
    assert error is None
    names = {curve.name for curve in report.curves["pruned"]}
    assert "loss.teacher" in names
    assert "loss.labels" not in names
    assert any("temperature 2, alpha 1" in note for note in report.notes)


def load(report: PruneReport) -> tuple[Any, int]:
    from safetensors.numpy import load_file

    from edgewright.training.job import ModuleSource
    from edgewright.training.source import load_module

    module = load_module(ModuleSource(factory=report.module or "", weights=report.weights), 0)
    counted = {name for name, _ in module.named_parameters()}
    return module, sum(array.size for name, array in load_file(report.weights or "").items() if name in counted)


def test_single_weights_are_zero_and_the_report_says_that_it_is_not_faster(
    files: dict[str, str], tmp_path: Path, device: Device, store: Store
) -> None:
    plan = prune_plan(files, method="unstructured", sparsity=0.8, target_macs="")
    report, error = prune(plan, tmp_path / "out", Workspace(device, store, ignore))
    assert error is None
    pruned, source = sides_of(report)["pruned"], sides_of(report)["source"]
    assert pruned.macs == source.macs
    assert pruned.zeros > 0.7 * (pruned.parameters or 0)
    assert pruned.packed_bytes < 0.6 * source.packed_bytes
    assert any("not faster" in note for note in report.notes)
    assert report.module == plan.source


def test_an_onnx_file_is_cut_without_torch_and_not_trained(
    digits: PrunePlan, tmp_path: Path, device: Device, store: Store
) -> None:
    report, error = prune(digits, tmp_path / "out", Workspace(device, store, ignore))
    assert error is None
    sides = sides_of(report)
    assert list(sides) == ["source", "pruned"]
    assert sides["pruned"].bytes <= sides["source"].bytes / 1.5
    assert report.module is None
    assert any("not fine-tuned" in note for note in report.notes)
    assert Path(report.model or "").is_file()


def test_zeros_in_an_onnx_file(digits: PrunePlan, tmp_path: Path, device: Device, store: Store) -> None:
    plan = msgspec.structs.replace(digits, method="unstructured", target_bytes="", sparsity=0.5)
    report, error = prune(plan, tmp_path / "out", Workspace(device, store, ignore))
    assert error is None
    assert sides_of(report)["pruned"].zeros >= 0.45 * (sides_of(report)["pruned"].parameters or 0)


def test_a_loss_beyond_the_gate_keeps_the_model_back(
    digits: PrunePlan, tmp_path: Path, device: Device, store: Store
) -> None:
    plan = msgspec.structs.replace(digits, target_bytes="3x", max_drop=0.5)
    report, error = prune(plan, tmp_path / "out", Workspace(device, store, ignore))
    assert isinstance(error, GateFailed)
    assert "more than --max-drop 0.5" in error.why
    assert report.state == "refused"
    assert report.model is None
    assert list((tmp_path / "out").iterdir()) == []
    assert store.load(report.run_id or "").state == "failed"


def test_a_budget_that_cannot_be_met_ends_with_exit_3(
    digits: PrunePlan, tmp_path: Path, device: Device, store: Store
) -> None:
    with pytest.raises(GateFailed, match="cannot be met") as caught:
        prune(msgspec.structs.replace(digits, target_bytes="1000x"), tmp_path / "out", Workspace(device, store, ignore))
    assert caught.value.exit_code == 3
    assert list((tmp_path / "out").iterdir()) == []


def test_what_was_trained_is_not_trained_again(
    files: dict[str, str], tmp_path: Path, device: Device, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, plan = tmp_path / "out", prune_plan(files)

    def die(*_: Any) -> Any:
        raise WorkerError("the lights went out")

    monkeypatch.setattr("edgewright.flows.experiment.run.evaluate_networks", die)
    with pytest.raises(WorkerError, match="lights"):
        prune(plan, out, Workspace(device, store, ignore))
    assert len(left_in(out)) == 1
    monkeypatch.undo()
    out.rename(tmp_path / "elsewhere")  # as on another machine: no path is part of what is remembered
    monkeypatch.setattr(trainings, "run_job", lambda *_, **__: pytest.fail("it trained again"))
    report, error = prune(plan, tmp_path / "elsewhere", Workspace(device, store, ignore))
    assert error is None
    assert report.state == "ok"
    assert left_in(tmp_path / "elsewhere") == []


def test_a_folder_with_unfinished_work_of_another_user_has_another_name(files: dict[str, str]) -> None:
    plan = prune_plan(files)
    names = {compute_key(plan, "content", "data", read_settings(plan), secret) for secret in ("mine", "mine", "theirs")}
    assert len(names) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "unstructured", "target_macs": "", "sparsity": 0.0}, "between 0 and 1"),
        ({"method": "unstructured", "target_macs": "", "sparsity": 1.0}, "between 0 and 1"),
        ({"method": "unstructured", "target_macs": "", "sparsity": 1.5}, "between 0 and 1"),
        ({"method": "unstructured"}, "does not support a target"),
        ({"target_speedup": 1.0}, "must be above 1"),
        ({"target_macs": "many"}, "is not valid"),
        ({"target_macs": "1x"}, "not below the current amount"),
        ({"target_bytes": "0.5x"}, "not below the current amount"),
        ({"target_macs": "0.7"}, "at least 1"),
        ({"target_speedup": float("inf")}, "must be above 1"),
        ({"pattern": "4"}, "N of each M"),
        ({"round_epochs": 0.0}, "must be above 0"),
        ({"threads": 0}, "threads"),
        ({"max_drop": -1.0}, "must be 0 or more"),
        ({"seeds": 0}, "from 1 to"),
        ({"held_out": 1.0}, "between 0 and 1"),
        ({"multiple": 0}, "at least 1"),
        ({"views": 0}, "views 0"),
        ({"temperature": float("inf")}, "temperature inf"),
        ({"alpha": 0.0}, "alpha 0"),
        ({"settings": {"epochs": 0.0}}, "epochs: Expected `float` > 0"),
        ({"settings": {"batch": 1}}, "batch: Expected `int` >= 2"),
        ({"settings": {"lr": float("inf")}}, "lr: Expected `float` <= "),
        ({"settings": {"lr": float("nan")}}, "lr: NaN is not allowed"),
        ({"settings": {"momentum": 1.0}}, "momentum: Expected `float` < 1"),
        ({"settings": {"warmup": 1.5}}, "warmup: Expected `float` <= 1"),
        ({"settings": {"weight_decay": -1e-4}}, "weight_decay: Expected `float` >= 0"),
        ({"settings": {"clip": -1.0}}, "clip: Expected `float` >= 0"),
        ({"settings": {"patience": -1}}, "patience: Expected `int` >= 0"),
        ({"settings": {"lr": "fast"}}, "Expected `float`"),
        ({"settings": {"speed": 3}}, "unknown field"),
    ],
)
def test_invalid_options_are_reported_at_once(
    changes: dict[str, Any], words: str, files: dict[str, str], tmp_path: Path, device: Device, store: Store
) -> None:
    with pytest.raises(UsageError) as caught:
        prune(prune_plan(files, **changes), tmp_path / "out", Workspace(device, store, ignore))
    assert words in str(caught.value.what) + str(caught.value.why)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("factory", "kind", "words"),
    [
        ("net.py:absent", ModelNotConvertible, "absent"),
        ("net.py:broken", ModelNotConvertible, "no weights at home"),
        ("net.py:number", ModelNotConvertible, "does not return a torch module"),
        ("nowhere.py:build", ModelNotFound, "nowhere.py"),
    ],
)
def test_factories_that_build_nothing(
    factory: str,
    kind: type[EdgewrightError],
    words: str,
    files: dict[str, str],
    tmp_path: Path,
    device: Device,
    store: Store,
) -> None:
    with pytest.raises(kind) as caught:
        prune(prune_plan(files, source=str(tmp_path / factory)), tmp_path / "out", Workspace(device, store, ignore))
    assert words in f"{caught.value.what} {caught.value.why}"


def test_weights_of_another_network_are_listed(
    files: dict[str, str], tmp_path: Path, device: Device, store: Store
) -> None:
    torch.save({"first.weight": torch.zeros(16, 1, 3, 3), "stray": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(EdgewrightError) as caught:
        prune(prune_plan(files, weights=str(tmp_path / "other.pt")), tmp_path / "out", Workspace(device, store, ignore))
    words = f"{caught.value.what} {caught.value.why}"
    assert "stray" in words
    assert "second.weight" in words


def test_what_another_try_would_only_repeat_is_not_kept(
    files: dict[str, str], tmp_path: Path, device: Device, store: Store
) -> None:
    plan = prune_plan(files, target_macs="5000x")
    with pytest.raises(GateFailed):
        prune(plan, tmp_path / "out", Workspace(device, store, ignore))
    assert list((tmp_path / "out").iterdir()) == []


def test_what_was_trained_is_kept_whatever_comes_after(
    files: dict[str, str], tmp_path: Path, device: Device, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = prune_plan(files, control=False)

    def fail(*_: Any) -> Any:
        raise ModelNotConvertible("the runtime takes it not", "so")

    with monkeypatch.context() as patch:
        patch.setattr(flow, "compare", fail)
        with pytest.raises(ModelNotConvertible, match="takes it not"):
            prune(plan, tmp_path / "out", Workspace(device, store, ignore))
    (kept,) = (tmp_path / "out").iterdir()
    assert [path.parent.name for path in kept.rglob("report.json")] == ["pruned-0"]
    with monkeypatch.context() as patch:
        patch.setattr(flow, "compare", stopped)
        with pytest.raises(Cancelled, match="Ctrl-C") as caught:
            prune(plan, tmp_path / "out", Workspace(device, store, ignore))
    assert kept.name in caught.value.why
    report, error = prune(plan, tmp_path / "out", Workspace(device, store, ignore))
    assert error is None
    assert not kept.exists()
    assert report.run_id is not None


def stopped(*_: Any) -> Any:
    raise KeyboardInterrupt


def test_a_network_without_weights_says_so(files: dict[str, str], tmp_path: Path, device: Device, store: Store) -> None:
    bare = prune_plan(files, weights=None, control=False, max_drop=100.0)
    report, error = prune(bare, tmp_path / "out", Workspace(device, store, ignore))
    assert error is None
    assert any("no --weights were given" in note for note in report.notes)


def test_the_same_command_twice_at_once(
    files: dict[str, str], tmp_path: Path, device: Device, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = prune_plan(files)

    def again(*_: Any) -> Any:
        return prune(plan, tmp_path / "out", Workspace(device, store, ignore))

    monkeypatch.setattr(flow, "_make_networks", again)
    with pytest.raises(UsageError, match="already running"):
        prune(plan, tmp_path / "out", Workspace(device, store, ignore))


def test_other_models_and_the_same_data_twice(
    files: dict[str, str], digits: PrunePlan, tmp_path: Path, device: Device, store: Store
) -> None:
    with pytest.raises(ModelNotConvertible, match="already quantized"):
        prune(
            msgspec.structs.replace(digits, source=str(DIGITS / "digits_int8.onnx")), tmp_path / "out",
            Workspace(device, store, ignore),
        )  # fmt: skip
    with pytest.raises(UsageError, match="the same dataset"):
        prune(prune_plan(files, data=files["val"]), tmp_path / "out", Workspace(device, store, ignore))


def test_one_class_only(files: dict[str, str], tmp_path: Path, device: Device, store: Store) -> None:
    path = write_data(tmp_path / "one.npz", 40, 3)
    with np.load(path) as stored:
        np.savez(path, images=stored["images"], labels=np.full(40, 2))
    with pytest.raises(ConfigError, match="belong to one class, 2"):
        prune(prune_plan(files, data=str(path)), tmp_path / "out", Workspace(device, store, ignore))
