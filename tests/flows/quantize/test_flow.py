"""A quantization from a plan to evaluated artifacts: results, rejections, and plans that do not start."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from edgewright.devices.protocol import Device
from edgewright.errors import (
    Cancelled,
    ConfigError,
    DataError,
    EdgewrightError,
    GateFailed,
    InputError,
    LimitReached,
    ModelNotConvertible,
    ModelNotFound,
    RuntimeMissing,
    UsageError,
    WorkerCrashed,
)
from edgewright.flows.demo.flow import get_digits_folder
from edgewright.flows.quantize import flow as flow
from edgewright.flows.quantize import job as quantizer
from edgewright.flows.quantize.acceptance import ArtifactSpeed
from edgewright.flows.quantize.flow import quantize
from edgewright.flows.quantize.report import (
    MetricWithReference,
    QuantizedRow,
    QuantizeReport,
    Speedup,
    compute_drop,
    describe_costly_operators,
    find_gate_faults,
)
from edgewright.flows.workspace import Workspace
from edgewright.formats.artifacts import find_record
from edgewright.quantization.job import FidelityReport, QuantizationJob, QuantizationReport, WeightNodeReport
from edgewright.schema.plan import QuantizePlan
from edgewright.store.store import Store
from edgewright.tasks.spec.file import read_task
from edgewright.tasks.spec.task import Classification, ImageInput, Task
from tests.models.onnx_files import constant, node, value, weights, write_conv_net, write_onnx

DIGITS = get_digits_folder()
PICTURES = Task(
    name="small", inputs=(ImageInput(name="x", size=(8, 8), mean=127.5, std=127.5),), output=Classification()
)
HELDOUT = str(DIGITS / "heldout.npz")
HOME = ".edgewright"  # what begins so in the output folder is ours, and must not stay


def ignore(text: str) -> None:
    """Nobody listens."""


@pytest.fixture
def plan(tmp_path: Path) -> QuantizePlan:
    """A conv net over random pictures that it has labeled itself."""
    model = write_conv_net(tmp_path / "a.onnx")
    values = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", x=values, labels=labels_of(model, values))
    return QuantizePlan(
        source=str(model),
        runtimes=("onnxruntime",),
        task=msgspec.to_builtins(PICTURES),
        data=str(tmp_path / "d.npz"),
        samples=16,
        max_drop=100.0,
        measure=False,
        report=True,
    )


def labels_of(model: Path, values: Any) -> Any:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    feeds = ((values.astype(np.float64) - 127.5) / 127.5).astype(np.float32).transpose(0, 3, 1, 2)
    return np.array([session.run(None, {"x": feed[None]})[0].argmax() for feed in feeds])


def visible(folder: Path) -> list[str]:
    """All in a folder; nothing of ours may be hidden in it."""
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    assert not [name for name in names if name.startswith(HOME)]
    return names


def run(plan: QuantizePlan, out: Path, device: Device, store: Store, heard: list[str] | None = None) -> QuantizeReport:
    report, error = quantize(plan, out, Workspace(device, store, heard.append if heard is not None else ignore))
    assert error is None
    return report


def test_the_digits_for_two_runtimes(device: Device, store: Store, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    plan = QuantizePlan(
        source=str(DIGITS / "digits.onnx"),
        runtimes=("onnxruntime", "litert"),
        task=msgspec.to_builtins(read_task(DIGITS / "task.toml")),
        data=str(DIGITS / "heldout.npz"),
        samples=40,
        report=True,
        force=True,  # whatever the speed of so small a model is
    )
    heard: list[str] = []
    report = run(plan, tmp_path / "out", device, store, heard)
    assert (report.calibrated_on, report.evaluated_on, report.precision) == (40, 499, "w8a8")
    assert [row.runtime for row in report.artifacts] == ["onnxruntime", "litert"]
    for row in report.artifacts:
        assert row.precision == "w8a8"
        assert row.state in ("ok", "slower")
        assert row.path is not None
        assert row.bytes_ratio is not None
        assert row.metric is not None
        assert row.speedup is not None
        assert find_record(Path(row.path)) is not None
        assert row.bytes_ratio > 1.9
        assert row.agreement is not None
        assert row.agreement > 0.99
        assert row.sqnr_db is not None
        assert row.sqnr_db > 30
        assert row.metric.low < row.metric.value <= row.metric.high
        assert abs(row.metric.value - row.metric.reference) < 0.01
        assert row.int8_share is not None
        assert row.int8_share > 0.7
        assert row.speedup.low is not None
        assert row.speedup.low <= row.speedup.ratio
    stages = [line.partition(":")[0] for line in heard]
    for stage in ("observing", "choosing ranges", "rounding weights", "measuring sensitivity"):
        assert stage in stages
    checked = [store.load(row.run_id or "").plan for row in report.artifacts]
    assert all(plan["inputs_sha256"] for plan in checked), "the numerical check uses a calibration sample, not noise"
    names = visible(tmp_path / "out")
    assert {"digits-w8a8.onnx", "digits-w8a8.recipe.toml", "digits-w8a8.quantization.json"} < set(names)
    onnx.checker.check_model(onnx.load(str(report.graph)), full_check=True)
    again = run(
        msgspec.structs.replace(plan, recipe=Path(str(report.recipe)).read_text(), measure=False),
        tmp_path / "again", device, store,
    )  # fmt: skip
    for name in names:
        if not name.endswith(".json"):
            assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name
    assert again.artifacts[0].speedup is None
    kept = store.load(report.run_id or "")
    assert (kept.kind, kept.state) == ("quantize", "done")
    assert [one.role for one in kept.outputs] == ["model", "recipe", "quantize", "quantization"]
    assert {one.name for one in kept.metrics} == {"quantize.seconds", "quantize.sqnr"}


def test_a_gate_leaves_nothing_under_its_final_name(
    plan: QuantizePlan, device: Device, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage the quantizer's graph before it is evaluated."""
    whole = quantizer.run_quantizer

    def sabotaged(*words: Any) -> Any:
        found = whole(*words)
        model = onnx.load(str(found.model))
        for one in model.graph.initializer:
            if one.name in ("gemm/weights/q", "gemm/bias/q"):
                array = onnx.numpy_helper.to_array(one)
                one.CopyFrom(onnx.numpy_helper.from_array(-array, one.name))
        onnx.save(model, str(found.model))
        return found

    monkeypatch.setattr(flow, "run_quantizer", sabotaged)
    report, error = quantize(
        msgspec.structs.replace(plan, max_drop=0.0, recipe="search = false"),
        tmp_path / "out",
        Workspace(device, store, ignore),
    )
    assert isinstance(error, GateFailed)
    assert error.exit_code == 3
    assert "agreement" in error.why or "class agreement with the source" in error.why
    assert "more than --max-drop 0" in error.why
    assert "Gemm 'gemm'" in error.try_this
    assert [row.state for row in report.artifacts] == ["refused"]
    assert report.artifacts[0].path is None
    assert (report.graph, report.recipe) == (None, None)
    assert visible(tmp_path / "out") == []
    kept = store.load(report.run_id or "")
    assert (kept.state, bool(kept.error)) == ("failed", True)
    assert [one.role for one in kept.outputs] == ["quantize", "quantization"]


def test_an_artifact_slower_than_float_is_published_only_by_force(
    plan: QuantizePlan, device: Device, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slower = ArtifactSpeed(Speedup(ratio=0.5, low=0.4, high=0.6, verdict="slower"), None, ("3 casts: they cost time",))
    monkeypatch.setattr(flow, "measure_speed", lambda *_: {"onnxruntime": slower})
    plan = msgspec.structs.replace(plan, measure=True)
    report, error = quantize(plan, tmp_path / "out", Workspace(device, store, ignore))
    assert isinstance(error, GateFailed)
    assert error.exit_code == 3
    assert "--precision auto" in error.try_this
    row = report.artifacts[0]
    assert (row.state, row.path, report.graph) == ("slower", None, None)
    assert row.reason == error.why
    assert "2.00 × the time of float in this runtime (99 % interval 1.67–2.50); 3 casts" in row.reason
    assert visible(tmp_path / "out") == []
    report, error = quantize(
        msgspec.structs.replace(plan, force=True), tmp_path / "out", Workspace(device, store, ignore)
    )
    assert error is None
    assert report.artifacts[0].state == "slower"
    assert report.artifacts[0].path is not None


def unlabeled(folder: Path) -> str:
    np.savez(folder / "u.npz", x=np.zeros((60, 8, 8, 3), np.uint8))
    return str(folder / "u.npz")


def five(folder: Path) -> str:
    np.savez(folder / "five.npz", x=np.zeros((5, 8, 8, 3), np.uint8), labels=np.zeros(5, int))
    return str(folder / "five.npz")


def beyond(folder: Path) -> str:
    np.savez(folder / "l.npz", x=np.zeros((60, 8, 8, 3), np.uint8), labels=np.arange(60) % 6)
    return str(folder / "l.npz")


def broken_pictures(folder: Path) -> str:
    """Forty pictures, a quarter of which cannot be decoded."""
    for number in range(40):
        place = folder / "pictures" / str(number % 5)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 5 * number, np.uint8)).save(place / f"{number}.png")
        if number % 4 == 0:
            (place / f"{number}.png").write_bytes(b"no picture")
    return str(folder / "pictures")


def turned(folder: Path) -> dict[str, Any]:
    wrong: dict[str, Any] = msgspec.to_builtins(
        Task(inputs=(ImageInput(name="x", size=(8, 8), layout="NHWC"),), output=Classification())
    )
    return wrong


def quantized(folder: Path) -> str:
    return str(DIGITS / "digits_int8.onnx")


def digits_task(folder: Path) -> dict[str, Any]:
    task: dict[str, Any] = msgspec.to_builtins(read_task(DIGITS / "task.toml"))
    return task


def not_a_number(folder: Path) -> str:
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], "conv"),
        node("Log", ["c"], ["l"], "log"),
        node("GlobalAveragePool", ["l"], ["p"], "pool"),
        node("Flatten", ["p"], ["f"], "flatten"),
        node("Gemm", ["f", "g", "h"], ["y"], "gemm"),
    ]
    constants = [weights("w", 4, 3, 3, 3), constant("b", np.zeros(4)), weights("g", 4, 5, seed=2), weights("h", 5)]
    path = folder / "nan.onnx"
    return str(write_onnx(path, nodes, [value("x", [1, 3, 8, 8])], [value("y", [1, 5])], constants))


def no_weights(folder: Path) -> str:
    nodes = [node("GlobalAveragePool", ["x"], ["p"], "pool"), node("Flatten", ["p"], ["y"], "flatten")]
    return str(write_onnx(folder / "n.onnx", nodes, [value("x", [1, 3, 8, 8])], [value("y", [1, 3])]))


CASES: list[tuple[dict[str, Any], type[EdgewrightError], str]] = [
    ({"source": "absent.onnx"}, ModelNotFound, "there is no file absent.onnx"),
    ({"source": not_a_number}, InputError, "NaN or infinities"),
    ({"source": no_weights}, ModelNotConvertible, "nothing to quanti"),
    ({"source": quantized, "task": digits_task, "data": HELDOUT}, ModelNotConvertible, "already quantized"),
    ({"task": turned}, ConfigError, "the input 'x'"),
    ({"data": unlabeled}, DataError, "has no labels"),
    ({"data": beyond}, DataError, "label 5 is out of range"),
    ({"data": "absent"}, DataError, "absent"),
    ({"data": broken_pictures}, DataError, "cannot be read"),
    ({"samples": 7}, DataError, "7 samples are too few"),
    ({"data": five}, DataError, "has 5 samples"),
    ({"samples": 60}, DataError, "set to use 60"),
    ({"samples": 61}, DataError, "set to use 61"),
    ({"max_drop": -1.0}, UsageError, "--max-drop -1"),
    ({"max_drop": float("nan")}, UsageError, "--max-drop nan"),
    ({"runtimes": ()}, UsageError, "no runtime"),
    ({"timeout_s": 0.0}, UsageError, "--timeout 0.0"),
    ({"seed": -1}, UsageError, "--seed -1"),
    ({"recipe": 'precision = "w3"'}, ConfigError, "not a valid recipe"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "kind", "words"), CASES, ids=[words for *_, words in CASES])
def test_bad_input_is_reported_and_leaves_nothing(
    plan: QuantizePlan,
    device: Device,
    store: Store,
    tmp_path: Path,
    change: dict[str, Any],
    kind: type[EdgewrightError],
    words: str,
) -> None:
    change = {name: one(tmp_path) if callable(one) else one for name, one in change.items()}
    with pytest.raises(kind) as caught:
        quantize(msgspec.structs.replace(plan, **change), tmp_path / "out", Workspace(device, store, ignore))
    assert words in caught.value.what
    assert visible(tmp_path / "out") == []


def test_a_runtime_that_is_absent_stops_it_before_it_begins(
    plan: QuantizePlan, device: Device, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: Any) -> Any:
        raise RuntimeMissing("LiteRT is not installed", "", "pip install ai-edge-litert")

    monkeypatch.setattr(flow, "check_runs_here", absent)
    monkeypatch.setattr(flow, "run_quantizer", lambda *_: pytest.fail("it began"))
    with pytest.raises(RuntimeMissing):
        quantize(plan, tmp_path / "out", Workspace(device, store, ignore))
    assert visible(tmp_path / "out") == []


def test_constant_activations_are_no_trouble(plan: QuantizePlan, device: Device, store: Store, tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", x=np.full((60, 8, 8, 3), 200, np.uint8), labels=np.zeros(60, int))
    report = run(msgspec.structs.replace(plan, data=str(tmp_path / "c.npz")), tmp_path / "out", device, store)
    assert report.artifacts[0].agreement == 1.0


def test_a_separate_test_set(plan: QuantizePlan, device: Device, store: Store, tmp_path: Path) -> None:
    with np.load(plan.data) as file:
        np.savez(tmp_path / "calib.npz", x=file["x"][:16])  # without labels
    plan = msgspec.structs.replace(plan, data=str(tmp_path / "calib.npz"), eval_data=plan.data)
    report = run(plan, tmp_path / "out", device, store)
    assert (report.calibrated_on, report.evaluated_on) == (16, 60)


def test_ctrl_c_keeps_what_was_found_and_the_next_try_takes_it(
    plan: QuantizePlan, device: Device, store: Store, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def stop(text: str) -> None:
        if text.startswith("rounding weights: 1 of"):
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, Cancelled)):
        quantize(plan, out, Workspace(device, store, stop))
    (memory,) = out.iterdir()
    assert memory.name.startswith(".edgewright-quantize-")
    ranges = next(memory.glob("ranges-*"))
    changed = msgspec.json.decode(ranges.read_bytes())
    for name in changed:  # so that it can be seen whether it is used
        changed[name][2] = "minmax"
    ranges.write_bytes(msgspec.json.encode(changed))
    report = run(plan, out, device, store)
    assert report.quantization is not None
    assert {one.method for one in report.quantization.tensors if one.name != "f"} == {"minmax"}
    assert visible(out)


def test_a_killed_worker_is_reported_and_can_resume(
    plan: QuantizePlan, device: Device, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Watched(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *words: Any, **named: Any) -> None:
            super().__init__(*words, **named)
            started.append(self)

    def kill(text: str) -> None:
        if text.startswith("rounding weights"):
            os.kill(started[-1].pid, signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", Watched)
        with pytest.raises(WorkerCrashed) as caught:
            quantize(plan, tmp_path / "out", Workspace(device, store, kill))
    assert "ended by SIGKILL" in caught.value.what
    assert "same command again" in caught.value.try_this
    assert started[-1].returncode == -signal.SIGKILL
    assert list((tmp_path / "out").glob(".edgewright-quantize-*/ranges-*"))
    run(plan, tmp_path / "out", device, store)
    assert visible(tmp_path / "out")


def test_what_the_gate_counts() -> None:
    from edgewright.flows.evaluate.report import MetricRow

    def seen(value: float, reference: float) -> MetricWithReference:
        return MetricWithReference(name="m", value=value, low=0.0, high=1.0, reference=reference)

    share = MetricRow(name="m", value=0.9, low=0.8, high=1.0, n=100, better="higher")
    error = msgspec.structs.replace(share, better="lower")
    assert compute_drop(seen(0.88, 0.9), share, share=True) == pytest.approx(2.0)
    assert compute_drop(seen(0.95, 0.9), error, share=False) == pytest.approx(0.05)
    assert compute_drop(seen(0.85, 0.9), error, share=False) < 0
    row: Any = msgspec.structs.replace(
        msgspec.convert(
            dict.fromkeys(("path", "bytes", "bytes_ratio", "metric", "agreement", "sqnr_db", "speedup", "int8_share"))
            | {"runtime": "r", "precision": "w8a8", "kept": (), "state": "ok", "reason": ""},
            QuantizedRow,
        ),
        metric=seen(float("nan"), 0.9),
        agreement=0.5,
    )
    faults = find_gate_faults(row, share, 100.0, 0.9, share=True)
    assert len(faults) == 2  # NaN passes no gate


def test_costly_operators_are_listed_for_both_forms() -> None:
    fidelity = FidelityReport(sqnr_db=9.0, agreement=0.5, expected_flips=None)
    empty = dict.fromkeys(("sqnr_db", "weights_db", "input_db", "agreement", "output_db"))

    def site(name: str, **seen: float) -> dict[str, Any]:
        words = {"node": name, "op": "MatMul", "precision": "w4", "kept": "", "weight_bytes": 1}
        return {**words, **empty, **seen}

    def describe(*sites: dict[str, Any]) -> str:
        return describe_costly_operators(
            QuantizationReport(
                precision="w4", fitted_on=8, checked_on=2, first=fidelity, final=fidelity, tensors=(),
                sites=tuple(msgspec.convert(one, WeightNodeReport) for one in sites), integer_operators=0, operators=2,
            )
        )  # fmt: skip

    assert describe(site("a", sqnr_db=20.0), site("b", sqnr_db=10.0)).startswith("MatMul 'b' (10.0 dB alone)")
    assert describe(site("a", output_db=8.0), site("b", output_db=9.0)).startswith("MatMul 'a' (8.0 dB at its output)")
    assert describe(site("a")) == ""


def test_a_model_that_needs_too_much_memory_is_not_begun(
    plan: QuantizePlan, tmp_path: Path, device: Device, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWRIGHT_MEMORY_LIMIT", "64MB")
    model = onnx.load(plan.source)
    graph = model.graph
    graph.node[-1].output[0] = "small"
    graph.initializer.append(constant("shape", [30_000, 30_000], np.int64))
    graph.node.extend(
        [
            node("ConstantOfShape", ["shape"], ["zeros"], name="zeros"),
            node("ReduceSum", ["zeros"], ["zero"], keepdims=0),
            node("Add", ["small", "zero"], ["y"]),
        ]
    )
    onnx.save(model, plan.source)
    with pytest.raises(LimitReached, match="memory limit reached: the constant that") as caught:
        quantize(plan, tmp_path / "out", Workspace(device, store, ignore))
    assert "3.60 GB is needed" in caught.value.why


@pytest.mark.skipif(sys.platform != "linux", reason="processes are under a limit on Linux alone")
@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import time; time.sleep(60)", "time limit reached: running the model on the first calibration"),
        ("bytearray(1_000_000_000)", "memory limit reached: quantizing with these samples"),
    ],
)
def test_the_process_of_the_quantizer_is_under_the_limits(
    code: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hostile.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(quantizer, "WORKER", "hostile")
    monkeypatch.setenv("EDGEWRIGHT_MEMORY_LIMIT", "64MB")
    monkeypatch.setenv("EDGEWRIGHT_TIME_LIMIT", "1")
    files = {"x": str(tmp_path / "x.npy")}
    np.save(files["x"], np.zeros((2, 1, 4), np.float32))
    job = QuantizationJob(
        model=files["x"], fit=files, check=files, recipe="", aim_db=1, aim_flips=1, out="", memory=str(tmp_path / "m")
    )
    with pytest.raises(LimitReached) as caught:
        quantizer.run_quantizer(job, tmp_path, ignore)
    assert caught.value.what.startswith(what)
    assert "_LIMIT=" in caught.value.try_this
