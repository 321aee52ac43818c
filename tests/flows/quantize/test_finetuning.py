"""`--qat` from a plan to a graph with other integers, compared with the graph before and the float control."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from edgewright.devices.protocol import Device
from edgewright.errors import DataError, EdgewrightError, UsageError
from edgewright.flows.quantize import flow as flow
from edgewright.flows.quantize.flow import quantize
from edgewright.flows.workspace import Workspace
from edgewright.schema.plan import QuantizePlan
from edgewright.store.store import Store
from tests.flows.experiment.quadrants import TASK, ignore, write_training_files, write_weights

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("lightning_fabric", reason="lightning-fabric is not installed")


@pytest.fixture
def plan(tmp_path: Path) -> QuantizePlan:
    files = write_training_files(tmp_path)
    return QuantizePlan(
        source=files["source"],
        weights=str(write_weights(tmp_path, files["source"])),
        runtimes=("onnxruntime",),
        precision="w4a8",
        task=msgspec.to_builtins(TASK),
        data=files["data"],
        eval_data=files["val"],
        samples=32,
        max_drop=100.0,
        measure=False,
        qat={"epochs": 2.0, "batch": 16, "lr": 0.01, "threads": 1},
    )


def integers_of(path: str) -> dict[str, Any]:
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    kinds = (onnx.TensorProto.INT4, onnx.TensorProto.INT8)
    return {one.name: numpy_helper.to_array(one) for one in graph.initializer if one.data_type in kinds and one.dims}


def test_a_graph_is_trained_and_stays_the_graph_it_was(
    plan: QuantizePlan, tmp_path: Path, device: Device, store: Store
) -> None:
    untrained = msgspec.structs.replace(plan, qat=None)
    plain, error = quantize(untrained, tmp_path / "plain", Workspace(device, store, ignore))
    assert error is None
    assert plain.tuning is None
    report, error = quantize(plan, tmp_path / "out", Workspace(device, store, ignore))
    assert error is None
    tuned = report.tuning
    assert tuned is not None
    assert tuned.control is not None
    assert tuned.after.value > tuned.before.value  # the network knew nothing before it was trained
    assert report.artifacts[0].metric is not None
    assert tuned.after.value == report.artifacts[0].metric.value
    assert (tuned.trained_on, tuned.held_out) == (144, 16)
    assert tuned.steps == 18
    before, after = integers_of(plain.graph or ""), integers_of(report.graph or "")
    assert before.keys() == after.keys()
    assert any((before[name] != after[name]).any() for name in before)
    nodes = [[node.op_type for node in onnx.load(path or "").graph.node] for path in (plain.graph, report.graph)]
    assert nodes[0] == nodes[1]
    run = store.load(report.run_id or "")
    assert {"tuning.before.top1", "tuning.after.top1"} <= {one.name for one in run.metrics}
    assert "tuning.loss" in {one.name for one in run.series}
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".edgewright")] == []


def test_an_onnx_source_has_its_control_too(plan: QuantizePlan, tmp_path: Path, device: Device, store: Store) -> None:
    """Without rounding and without training it is the source itself."""
    from edgewright.flows.compile.sources import prepare_source
    from edgewright.schema.plan import CompilePlan

    made = CompilePlan(source=plan.source, weights=plan.weights, cells=(), shapes={"x": (1, 1, 8, 8)})
    (tmp_path / "made").mkdir()
    source = prepare_source(made, tmp_path / "made", device).files["onnx"]
    still = msgspec.structs.replace(
        plan, source=source, weights=None, qat={"epochs": 1.0, "batch": 16, "lr": 1e-12, "threads": 1}
    )
    report, error = quantize(still, tmp_path / "out", Workspace(device, store, ignore))
    assert error is None
    assert report.tuning is not None
    assert report.tuning.control is not None
    assert report.reference is not None
    assert report.tuning.control.value == report.reference.value
    report, _ = quantize(
        msgspec.structs.replace(still, control=False), tmp_path / "bare", Workspace(device, store, ignore)
    )
    assert report.tuning is not None
    assert report.tuning.control is None


def test_other_threads_go_on_in_the_same_folder(
    plan: QuantizePlan, tmp_path: Path, device: Device, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def stop(setup: Any, settings: Any, quantized: Any, memory: Path, *rest: Any) -> Any:
        seen.append(memory)
        raise UsageError("that far")

    monkeypatch.setattr(flow, "finetune", stop)
    for words in ({"threads": 1}, {"threads": 2, "checkpoint_s": 9.0}, {"threads": 1, "lr": 0.02}):
        changed = msgspec.structs.replace(plan, qat={**(plan.qat or {}), **words})
        with pytest.raises(UsageError, match="that far"):
            quantize(changed, tmp_path / "out", Workspace(device, store, ignore))
    assert seen[0] == seen[1] != seen[2]


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"eval_data": None}, UsageError, "--qat requires --eval-data"),
        ({"precision": "w8a8-dynamic"}, UsageError, "static quantization parameters"),
        ({"precision": "fp16"}, UsageError, "static quantization parameters"),
        ({"qat": {"epochs": "long"}}, UsageError, "not valid"),
    ],
)
def test_invalid_training_options_are_reported_at_once(
    changes: dict[str, Any], kind: type[EdgewrightError], words: str, plan: QuantizePlan, tmp_path: Path,
    device: Device, store: Store,
) -> None:  # fmt: skip
    with pytest.raises(kind) as caught:
        quantize(msgspec.structs.replace(plan, **changes), tmp_path / "out", Workspace(device, store, ignore))
    assert words in f"{caught.value.what} {caught.value.why}"


def test_data_without_labels(plan: QuantizePlan, tmp_path: Path, device: Device, store: Store) -> None:
    with np.load(plan.data) as stored:
        np.savez(tmp_path / "bare.npz", images=stored["images"])
    with pytest.raises(DataError, match="has no labels"):
        quantize(
            msgspec.structs.replace(plan, data=str(tmp_path / "bare.npz")),
            tmp_path / "out",
            Workspace(device, store, ignore),
        )
