"""Runs for the tests of the pages: ordinary ones, and ones with hostile or extreme texts."""

import hashlib
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from msgspec.structs import replace

from edgewright.devices.local import LocalDevice
from edgewright.flows.benchmark.flow import benchmark
from edgewright.flows.workspace import Workspace
from edgewright.schema.model import Model, Signature, TensorSpec
from edgewright.schema.plan import BenchmarkPlan, Candidate
from edgewright.schema.run import DeviceRecord, Layer, Metric, Run, RunOutput, RunWarning, Series
from edgewright.schema.vocabulary import Precision
from edgewright.store.runs.ids import new_run_id
from edgewright.store.store import Store

PROCESSES = 10
MODEL_BYTES = b"bytes of a model"
MODEL_ID = hashlib.sha256(MODEL_BYTES).hexdigest()
SCRIPT = "<script>alert('x')</script><img src=x onerror=alert(1)>\"'>"


def make_model(name: str = "net.onnx", digit: str = "a", precision: Precision = "fp32") -> Model:
    spec = TensorSpec(name="image", dtype="float32", shape=(1, 3, 8, "width"))
    return Model(
        path=f"/models/{name}",
        name=name,
        format="onnx",
        sha256=digit * 64,
        bytes=1_234_567,
        signature=Signature(inputs=(spec,), outputs=(spec,)),
        precision=precision,
    )


def make_device(name: str = "desk") -> DeviceRecord:
    return DeviceRecord(id=f"id-{name}", name=name, kind="local", address="here", facts={"model": "CPU 9", "cores": 4})


def make_layers(count: int, us: float = 10.0, unit: Any = "CPU", text: str = "") -> tuple[Layer, ...]:
    return tuple(
        Layer(
            position=place,
            name=f"layer {place}{text}",
            op=("Conv", "Add", "Reorder")[place % 3] + text,
            source_nodes=() if place % 3 == 2 else (f"block{place // 4}/conv{place}{text}",),
            unit=unit if place % 5 else "GPU",
            backend=f"Backend{text}",
            evidence="measured",
            start_us=place * us,
            median_us=us + place % 7,
            p90_us=(us + place % 7) * 1.05,
            low_us=(us + place % 7) * 0.98,
            high_us=(us + place % 7) * 1.02,
        )
        for place in range(count)
    )


def make_run(
    *,
    samples: int = 200,
    layers: int = 12,
    middle_us: float = 1_000.0,
    model: Model | None = None,
    device: DeviceRecord | None = None,
    runtime: str = "pretend",
    parent: str | None = None,
    text: str = "",
    seed: int = 0,
) -> Run:
    """Return a finished benchmark of ten processes. `text` is added to every text of a model or device."""
    chance = random.Random(seed)
    wall = tuple(middle_us + chance.gammavariate(2, middle_us / 100) for _ in range(samples))
    model = model or make_model(f"net{text}.onnx")
    plan = BenchmarkPlan(candidates=(Candidate(model=model.path, runtime=runtime, model_sha256=model.sha256),))
    share = float(samples // PROCESSES)
    return Run(
        id=new_run_id(),
        kind="benchmark",
        state="done",
        started_at="2026-11-20T10:00:00.000000+00:00",
        finished_at="2026-11-20T10:01:00.000000+00:00",
        parent_id=parent,
        model=model,
        device=device or make_device(f"desk{text}"),
        runtime=runtime,
        plan={"threads": 1, "layers": True, "candidates": [{"model": plan.candidates[0].model, "runtime": runtime}]},
        plan_hash="e" * 64,
        environment={"kernel": f"6.1{text}", "packages": {"numpy": "2", f"odd{text}": text}},
        metrics=(
            Metric(
                name="latency.p50", unit="us", value=middle_us, low=middle_us * 0.99, high=middle_us * 1.01, n=samples
            ),
            Metric(name="latency.p50_confidence", unit="1", value=0.96, n=4),
            Metric(name="latency.p90", unit="us", value=middle_us * 1.05, n=samples),
            Metric(name="cold_start", unit="us", value=5_000.0, low=4_000.0, high=6_000.0, n=4),
            Metric(name="load", unit="us", value=4_500.0, n=4),
            Metric(name="first_inference", unit="us", value=500.0, n=4),
            Metric(name="memory.peak", unit="bytes", value=5e7, n=4),
            Metric(name="energy", unit="uJ", value=None, n=0),
            Metric(name="layers.sum", unit="us", value=100.0, n=layers),
            Metric(name="layers.whole", unit="us", value=120.0),
            Metric(name="share.unit.CPU", unit="1", value=1.0),
            *([Metric(name=f"odd{text}", unit=text, value=1.0)] if text else []),
        ),
        series=(
            Series(name="wall", unit="us", data=wall),
            Series(name="wall.samples", unit="1", data=(share,) * PROCESSES),
            Series(name="chunk.samples", unit="1", data=(share,) * PROCESSES),
            Series(name="temperature", unit="degC", data=tuple(40 + place / 10 for place in range(40))),
        ),
        layers=make_layers(layers, middle_us / 100, text=text),
        warnings=(RunWarning(code=f"noisy{text}", text=f"the machine was busy{text}"),),
        tags={f"branch{text}": f"main{text}", "layers-via": "profiler"},
        note=text,
        error=text or None,
        outputs=(RunOutput(role=f"data:odd{text}", sha256="f" * 64, bytes=3),) if text else (),
    )


def make_evaluation(model: Model, runtime: str, accuracy: float, metric_name: str = "accuracy") -> Run:
    metric = Metric(name=metric_name, unit="1", value=accuracy, low=accuracy - 0.01, high=accuracy + 0.01, n=500)
    base = make_run(samples=0, layers=0, model=model, runtime=runtime)
    return replace(base, kind="evaluate", metrics=(metric,), series=(), plan={}, warnings=())


@dataclass
class Record:
    """Runs in the store of a test: two of one session, one of another, an evaluation, a compile."""

    first: Run
    second: Run
    third: Run
    evaluation: Run
    compiled: Run


def fill(store: Store) -> Record:
    source = replace(make_model("net.onnx"), sha256=MODEL_ID)
    made = make_model("net-litert.tflite", "b", "w8a8")
    first = make_run(model=source)
    first = replace(first, outputs=(store.put_bytes(first.id, MODEL_BYTES, role="model", model_id=MODEL_ID),))
    second = make_run(model=made, middle_us=500.0, parent=first.id, runtime="litert", seed=1)
    third = make_run(model=source, device=make_device("phone"), middle_us=1_001.0, seed=2, runtime="onnxruntime")
    evaluation = make_evaluation(made, "litert", 0.98)
    base = make_run(samples=0, layers=0, model=source, runtime="litert")
    output = RunOutput(role="artifact:net-litert.tflite", sha256="c" * 64, bytes=10, model_id=made.sha256)
    compiled = replace(base, kind="compile", series=(), metrics=(), outputs=(output,))
    store.record([first, second, third, evaluation, compiled])
    return Record(first=first, second=second, third=third, evaluation=evaluation, compiled=compiled)


def pretend_model(folder: Path, name: str = "m.pretend") -> Path:
    path = folder / name
    path.write_bytes(b"pretend")
    return path


def not_numbers(run: Run) -> Run:
    """Return the run with samples, metrics and layers that are not finite."""
    odd = (math.nan, math.inf, -math.inf, 5.0, math.nan, 6.0)
    series = (Series(name="wall", unit="us", data=odd), Series(name="wall.samples", unit="1", data=(6.0,)))
    layers = tuple(
        replace(layer, median_us=math.nan, p90_us=math.nan, start_us=None, low_us=math.nan) for layer in run.layers
    )
    metrics = (Metric(name="latency.p50", unit="us", value=math.inf, low=-math.inf, high=math.nan, n=6),)
    return replace(run, series=series, layers=layers, metrics=metrics)


def measured(store: Store, tmp_path: Path) -> str:
    """Measure and store a real run of the pretend runtime with its model."""
    return measured_of(store, pretend_model(tmp_path))


def measured_of(store: Store, path: Path) -> str:
    plan = BenchmarkPlan(
        candidates=(Candidate(model=str(path), runtime="pretend", options={"latency-us": "20"}),),
        processes=1,
        runs=3,
        warmup_seconds=0.01,
        layers=False,
    )
    return benchmark(plan, Workspace(LocalDevice(), store, lambda text: None), {}).runs[0].id


def make_free_batch() -> onnx.ModelProto:
    """Return a model with the free size `n`."""
    ports = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", ports[:1], ports[1:])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
