"""The demo: a digit classifier, evaluated and benchmarked in every runtime that is installed."""

from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from msgspec import Struct

from edgewright.bench.session import Tell
from edgewright.devices.contract import Device
from edgewright.errors import EdgewrightError, RuntimeMissing
from edgewright.facts.plan import BenchmarkPlan, Candidate
from edgewright.flows.benchmark import benchmark
from edgewright.flows.doctor import name_remedy
from edgewright.flows.evaluate import Samples, evaluate
from edgewright.flows.report import BenchmarkReport, make_report
from edgewright.flows.resolve import native_runtime
from edgewright.formats.files import read_model
from edgewright.runtimes.table import TABLE
from edgewright.store.store import Store
from edgewright.tasks.classification import Score

SCHEMA = "edgewright.demo/1"
MODELS = ("digits.onnx", "digits_int8.onnx", "digits.tflite", "digits_int8.tflite")
WHITE = 16.0  # scikit-learn's digits have 17 shades


class Demo(Struct, frozen=True, kw_only=True):
    """What `edgewright demo --json` prints: one accuracy per run of the benchmark, in its order."""

    schema: str = SCHEMA
    accuracies: tuple[Score, ...]
    benchmark: BenchmarkReport
    left_out: tuple[str, ...]


def digits_folder() -> Path:
    return Path(str(files("edgewright.flows"))) / "digits"


def load_heldout() -> Samples:
    """539 images [n, 1, 1, 8, 8] between 0 and 1 that took no part in training or calibration, and their labels."""
    with np.load(digits_folder() / "heldout.npz", allow_pickle=False) as file:
        images, labels = file["images"], file["labels"]
    values = (images.astype(np.float32) / np.float32(WHITE)).reshape(-1, 1, 1, 8, 8)
    return Samples(values=values, labels=labels)


def demo_candidates() -> tuple[list[Candidate], list[str]]:
    """The demo's models in their runtimes, and the models left out because their runtime is not installed."""
    ready, left_out = [], []
    for name in MODELS:
        model = read_model(digits_folder() / name)
        info = native_runtime(model)
        if all(find_spec(package) for package in TABLE[info.name].needs):
            ready.append(Candidate(model=model.path, runtime=info.name, model_sha256=model.sha256))
        else:
            left_out.append(f"{name}: {name_remedy(info)} brings {info.title}")
    return ready, left_out


def run_demo(device: Device, store: Store, tell: Tell) -> tuple[Demo, EdgewrightError | None]:
    """Evaluate every model on the held-out digits, then benchmark all of them, interleaved.

    With the first error where a model failed while all were benchmarked. Raises RuntimeMissing where no model has
    its runtime, and whatever an evaluation raises.
    """
    candidates, left_out = demo_candidates()
    if not candidates:
        raise RuntimeMissing("no runtime of the demo works here", "\n".join(left_out))
    samples = load_heldout()
    accuracies = [evaluate(candidate, samples, device, store, tell) for candidate in candidates]
    outcome = benchmark(BenchmarkPlan(candidates=tuple(candidates)), device, store, tell, {"demo": "digits"})
    report = make_report(outcome.runs, outcome.comparisons)
    return Demo(accuracies=tuple(accuracies), benchmark=report, left_out=tuple(left_out)), outcome.error
