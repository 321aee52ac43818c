"""Runs for tests: a model, a device, a run as it begins and as it ends with something in every field."""

import random
from typing import Any

import msgspec
from msgspec.structs import replace

from edgewright.schema.model import Model, Signature, TensorSpec
from edgewright.schema.plan import BenchmarkPlan, Candidate, encode_plan
from edgewright.schema.run import DeviceRecord, Layer, Metric, Run, RunOutput, RunWarning, Series
from edgewright.store.runs.ids import new_run_id
from edgewright.store.store import Store


def sample_model(name: str = "mobilenet_v2", digit: str = "a") -> Model:
    """A model of one input and one output."""
    image = TensorSpec(name="x", dtype="float32", shape=("batch", 3, 224, 224))
    scores = TensorSpec(name="y", dtype="float32", shape=("batch", 1000))
    return Model(
        path=f"/models/{name}.onnx",
        name=name,
        format="onnx",
        sha256=digit * 64,
        bytes=14_000_000,
        signature=Signature(inputs=(image,), outputs=(scores,)),
        precision="fp32",
    )


def sample_device(name: str = "this host") -> DeviceRecord:
    """A device with some facts."""
    return DeviceRecord(id=f"id of {name}", name=name, kind="local", address="", facts={"cores": 2, "cpu": "x"})


def sample_plan() -> dict[str, Any]:
    """A benchmark's plan as it stands in a run: one candidate, plain JSON values."""
    candidate = Candidate(model="/models/mobilenet_v2.onnx", runtime="onnxruntime", model_sha256="a" * 64)
    plan = BenchmarkPlan(candidates=(candidate,), shapes={"x": (1, 3, 224, 224)})
    return dict(msgspec.json.decode(encode_plan(plan)))


def begun_run(minute: int = 0, run_id: str | None = None) -> Run:
    """A run as it begins."""
    return Run(
        id=run_id or new_run_id(),
        kind="benchmark",
        state="running",
        started_at=f"2026-11-20T12:{minute:02}:00.000000+00:00",
        model=sample_model(),
        device=sample_device(),
        runtime="onnxruntime",
        plan=sample_plan(),
        plan_hash="b" * 64,
        environment={"kernel": "6.1", "variables": {"OMP_NUM_THREADS": "1"}},
    )


def finished_run(begun: Run, seed: int = 0, samples: int = 20) -> Run:
    """The same run with something in every field."""
    chance = random.Random(seed)
    wall = tuple(chance.gammavariate(2, 60) + 6500 for _ in range(samples))
    return replace(
        begun,
        state="done",
        finished_at="2026-11-20T13:00:00.000000+00:00",
        metrics=(
            Metric(name="latency.p50", unit="us", value=6600.5, low=6500.25, high=6700.125, n=samples),
            Metric(name="energy", unit="uj", value=None, n=0),
        ),
        series=(
            Series(name="latency", unit="us", data=wall),
            Series(name="empty", unit="us", data=()),
        ),
        layers=(sample_layer(0), sample_layer(1)),
        warnings=(RunWarning(code="noisy", text="close other programs"), RunWarning(code="noisy", text="twice")),
        outputs=(RunOutput(role="log", sha256="c" * 64, bytes=3),),
        tags={"branch": "main", "größe": "groß"},
        note="first try",
    )


def sample_layer(position: int) -> Layer:
    """A layer with every field set."""
    return Layer(
        position=position,
        name=f"conv_{position}",
        op="Conv",
        source_nodes=("Conv_0", "Relu_1"),
        unit="CPU",
        backend="MLAS",
        evidence="measured",
        start_us=1.5,
        median_us=266.25,
        p90_us=270.5,
        memory_bytes=1024,
        low_us=266.0,
        high_us=267.5,
    )


def saved_run(store: Store, minute: int = 0) -> Run:
    """A run that was begun and finished."""
    begun = begun_run(minute)
    store.begin(begun)
    finished = finished_run(begun, seed=minute)
    store.finish(finished)
    return finished


def read_blob(store: Store, output: RunOutput) -> bytes:
    """All bytes of an output."""
    with store.open_blob(output.sha256) as file:
        return file.read()
