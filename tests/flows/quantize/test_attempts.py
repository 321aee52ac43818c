"""What `--precision auto` tries, in which runtimes, and the result over all attempts."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from edgewright.devices.protocol import Device
from edgewright.errors import GateFailed
from edgewright.flows.quantize import acceptance, flow
from edgewright.flows.quantize.acceptance import ArtifactSpeed, QuantizeSetup
from edgewright.flows.quantize.attempts import list_next_setups
from edgewright.flows.quantize.flow import quantize
from edgewright.flows.quantize.report import Speedup
from edgewright.flows.workspace import Workspace
from edgewright.quantization.recipe import Recipe
from edgewright.schema.plan import QuantizePlan
from edgewright.store.store import Store
from edgewright.tasks.spec.task import Classification, Task, TensorInput
from tests.models.onnx_files import node, value, weights, write_onnx


@pytest.fixture
def plan(tmp_path: Path) -> QuantizePlan:
    nodes = [
        node("Conv", ["x", "k"], ["c"], "conv"),
        node("HardSwish", ["c"], ["h"], "swish"),
        node("Flatten", ["h"], ["f"], "flatten"),
        node("Gemm", ["f", "g"], ["y"], "gemm"),
    ]
    constants = [weights("k", 4, 3, 3, 3), weights("g", 144, 5, seed=2)]
    model = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 3, 8, 8])], [value("y", [1, 5])], constants)
    x = np.random.default_rng(0).normal(size=(40, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, labels=np.zeros(40, int))
    task = Task(inputs=(TensorInput(name="x", shape=(1, 3, 8, 8)),), output=Classification())
    return QuantizePlan(
        source=str(model),
        runtimes=("onnxruntime",),
        precision="auto",
        task=msgspec.to_builtins(task),
        data=str(tmp_path / "d.npz"),
        samples=16,
        max_drop=100.0,
    )


def set_speeds(monkeypatch: pytest.MonkeyPatch, *ratios: float) -> None:
    """Let the artifacts have these speeds, in the order in which they are tried."""
    left = iter(ratios)

    def measured(*_: object) -> dict[str, ArtifactSpeed]:
        ratio = next(left)
        verdict = "slower" if ratio < 1 else "no difference"
        speedup = Speedup(ratio=ratio, low=ratio * 0.99, high=ratio * 1.01, verdict=verdict)
        return {"onnxruntime": ArtifactSpeed(speedup, None)}

    monkeypatch.setattr(flow, "measure_speed", measured)


def test_auto_goes_on_until_one_passes(
    plan: QuantizePlan, device: Device, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_speeds(monkeypatch, 0.5, 1.0)
    monkeypatch.setattr(flow, "NEXT", {"static": ("w8", "fp16")})
    report, error = quantize(plan, tmp_path / "out", Workspace(device, store, lambda text: None))
    assert error is None
    assert [(one.precision, one.state) for one in report.tried] == [("w8a8", "slower"), ("w8", "ok")]
    (row,) = report.artifacts
    assert (row.state, row.precision) == ("ok", report.precision)
    assert report.precision == "w8"
    assert Path(str(report.graph)).name == "m-w8.onnx"
    assert row.path is not None
    assert {path.name for path in (tmp_path / "out").glob("*.onnx")} == {"m-w8.onnx", Path(row.path).name}
    assert not list((tmp_path / "out").glob(".edgewright*"))


def test_mixed_has_one_graph_for_onnx_runtime_and_one_for_others(plan: QuantizePlan) -> None:
    not_read: Any = None
    setup = QuantizeSetup(plan, not_read, not_read, not_read, Recipe(), "w8a8", "static", "")
    runtimes = ("onnxruntime", "litert", "ncnn")
    made = [(one.leave_out, one.plan.runtimes) for one in list_next_setups(setup, "mixed", runtimes)]
    assert made == [("not-faster", ("onnxruntime",)), ("no-kernel", ("litert", "ncnn"))]
    (only,) = list_next_setups(setup, "w8", runtimes)
    assert (only.recipe.precision, only.plan.runtimes, only.leave_out) == ("w8", runtimes, "")


def test_none_that_passes_is_said_with_what_was_tried(
    plan: QuantizePlan, device: Device, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_speeds(monkeypatch, 0.5, 0.5)
    monkeypatch.setattr(flow, "NEXT", {"static": ("fp16",)})
    report, error = quantize(plan, tmp_path / "out", Workspace(device, store, lambda text: None))
    assert isinstance(error, GateFailed)
    assert error.what == "no precision passes in onnxruntime"
    assert "w8a8 slower: it takes 2.00 ×" in error.why
    assert "fp16 slower" in error.why
    assert [(one.runtime, one.precision, one.state) for one in report.tried] == [
        ("onnxruntime", "w8a8", "slower"),
        ("onnxruntime", "fp16", "slower"),
    ]
    assert report.artifacts[0].path is None
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("ratio", "verdict", "processes"),
    [
        (0.5, "slower", [8]),
        (0.95, "slower", [8, 16]),
        (0.8, "inconclusive", [8, 16]),
        (0.99, "inconclusive", [8]),
        (1.5, "faster", [8]),
    ],
)
def test_an_unclear_slowdown_is_measured_again(
    plan: QuantizePlan, ratio: float, verdict: str, processes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []

    def compared(setup: Any, runtime: str, models: Any, count: int, workspace: Any) -> ArtifactSpeed:
        heard.append(count)
        return ArtifactSpeed(Speedup(ratio=ratio, low=None, high=None, verdict=verdict), None)

    cell = SimpleNamespace(runtime="onnxruntime", path="float.onnx")
    monkeypatch.setattr(acceptance, "compile_all", lambda *_: (SimpleNamespace(artifacts=[cell]), None))
    monkeypatch.setattr(acceptance, "_compare_speed", compared)
    setup: Any = SimpleNamespace(plan=plan, prepared=SimpleNamespace(files={"onnx": "m.onnx"}))
    found = acceptance.measure_speed(setup, {"onnxruntime": Path("q.onnx")}, Path(), setup)
    assert heard == processes
    assert found["onnxruntime"].speedup.ratio == ratio
