"""The worker trains, reports and writes its files; unsupported jobs are rejected in three lines."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pytest

from edgewright.errors import ConfigError, DataError, EdgewrightError, InputError, TrainingDiverged, UsageError
from edgewright.quantization.job import JobError, JobFinished, StageProgress
from edgewright.tasks.spec.task import Boxes, Classification, Embedding, NextToken, Regression, Task
from edgewright.training.job import Settings, TrainJob, TrainReport
from tests.training.training_files import make_data, make_job, make_task, read_report, run_worker, source, tokens_input

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("lightning_fabric", reason="lightning-fabric is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns of its own insides
QUICK = Settings(epochs=3, batch=16, lr=0.05, precision="fp32", threads=1)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The network's file leaves no trace, and only workers write ONNX, which takes longer than the training."""
    from edgewright.training import source

    monkeypatch.setattr(source, "export_module", lambda module, shapes, path, outputs: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("training_network", None)


def train(job: TrainJob) -> TrainReport:
    from edgewright.training.loop.train import run_training

    run_training(job, lambda word: None)
    return read_report(job)


def weights_of(job: TrainJob) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return dict(load_file(Path(job.out) / "weights.safetensors"))


def run_rejected(job: TrainJob, kind: type[EdgewrightError] = UsageError) -> EdgewrightError:
    with pytest.raises(kind) as caught:
        train(job)
    assert caught.value.what
    assert caught.value.try_this
    return caught.value


def curve(report: TrainReport, name: str) -> tuple[float, ...]:
    return next(one.values for one in report.curves if one.name == name)


def test_a_worker_trains_and_leaves_files_that_agree(tmp_path: Path) -> None:
    job = make_job(tmp_path, msgspec.structs.replace(QUICK, precision="auto"))
    words, log = run_worker(tmp_path, job)
    assert isinstance(words[-1], JobFinished)
    assert any(
        isinstance(word, StageProgress) and word.done == word.of == 21 and word.left_s is not None for word in words
    )
    assert log == ""  # no library has anything to say
    report = read_report(job)
    assert report.steps == report.planned == report.best_step == 21
    assert report.metric is not None
    assert report.metric > 0.9
    assert curve(report, "loss")[-1] < 0.7 * curve(report, "loss")[0]
    assert len(curve(report, "held-out.top1")) == 3
    images = np.load(job.data.inputs["image"])
    places = list(job.data.held_out)
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    made = np.concatenate([session.run(None, {"image": images[place][None]})[0] for place in places])
    labels = np.load(job.data.labels)[places]
    assert report.metric == pytest.approx(float((made.argmax(1) == labels).mean()))
    assert report.parameters == sum(
        one.size for name, one in weights_of(job).items() if "running" not in name and "tracked" not in name
    )


def test_the_same_job_gives_the_same_bits_and_another_seed_others(tmp_path: Path) -> None:
    made = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        job = make_job(tmp_path / name, msgspec.structs.replace(QUICK, seed=seed))
        train(job)
        made.append(weights_of(job))
    assert all((made[0][name] == made[1][name]).all() for name in made[0])
    assert any((made[0][name] != made[2][name]).any() for name in made[0])


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle", "constant"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_schedules_and_optimisers(tmp_path: Path, schedule: Any, optimizer: Any) -> None:
    rate = 0.05 if optimizer == "sgd" else 0.01
    settings = Settings(
        epochs=2.5, batch=16, lr=rate, schedule=schedule, optimizer=optimizer, warmup=0.2, precision="fp32", threads=1
    )
    report = train(make_job(tmp_path, settings))
    rates = curve(report, "lr")
    assert report.planned == 18  # 2.5 × 7 steps, rounded half to even
    assert max(rates) == pytest.approx(rate, rel=0.01)
    assert rates[0] < 0.5 * rate
    assert rates[-1] == pytest.approx(rate) if schedule == "constant" else rates[-1] < 0.06 * rate
    assert report.metric is not None
    assert report.metric > 0.5


def test_weights_of_one_axis_do_not_decay(tmp_path: Path) -> None:
    from edgewright.training.loop.optimizer import make_optimizer

    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))
    groups = make_optimizer([module], Settings(weight_decay=0.1)).param_groups
    assert [(group["weight_decay"], {one.ndim >= 2 for one in group["params"]}) for group in groups] == [
        (0.1, {True}),
        (0.0, {False}),
    ]


def test_it_stops_early_and_leaves_the_best(tmp_path: Path) -> None:
    settings = Settings(epochs=40, batch=16, lr=0.05, precision="fp32", threads=1, patience=2, schedule="constant")
    report = train(make_job(tmp_path, settings))
    found = next(one for one in report.curves if one.name == "held-out.top1")
    assert report.steps < report.planned
    assert report.metric == max(found.values)
    assert report.best_step == found.steps[found.values.index(max(found.values))]
    assert report.steps == report.best_step + 2 * 7


def test_numbers_single_scores_and_tokens_are_trained(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = make_data(tmp_path)
    images = np.load(data.inputs["image"])
    two = make_data(tmp_path, labels=images.mean((2, 3))[:, :2].astype(np.float64))
    task = make_task(Regression(), metric="mae")
    settings = Settings(epochs=10, batch=16, lr=0.05, precision="fp32", threads=1)
    numbers = train(make_job(tmp_path, settings, task, module=source(tmp_path, "numbers"), data=two))
    assert numbers.metric is not None
    assert numbers.metric < 0.4 < 0.5 * float(np.abs(images.mean((2, 3))[:, :2]).mean())
    half = make_data(tmp_path, labels=(images.mean((1, 2, 3)) > 0).astype(np.int64))
    single = train(make_job(tmp_path, settings, module=source(tmp_path, "single"), data=half))
    assert single.metric is not None
    assert single.metric > 0.85
    ids = rng.integers(0, 10, (64, 6))
    np.save(tmp_path / "ids.npy", ids)
    following = ids + 1
    following[:, 0] = -100
    np.save(tmp_path / "labels.npy", following)
    words = msgspec.structs.replace(
        data, inputs={"ids": str(tmp_path / "ids.npy")}, fit=tuple(range(48)), held_out=(50, 51)
    )
    task = Task(inputs=(tokens_input(),), output=NextToken(), metric="perplexity")
    settings = Settings(epochs=20, batch=16, lr=0.02, optimizer="adamw", precision="fp32", threads=1)
    job = make_job(tmp_path, settings, task, module=source(tmp_path, "tokens"), data=words, shapes={"ids": (1, 6)})
    tokens = train(job)
    assert tokens.metric is not None
    assert tokens.metric < 1.5


def test_a_loss_that_is_no_number_is_reported_with_the_step_and_the_samples(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    images = np.load(job.data.inputs["image"])
    images[18] = np.nan
    np.save(job.data.inputs["image"], images)
    words, _ = run_worker(tmp_path, job)
    trouble = words[-1]
    assert isinstance(trouble, JobError)
    assert trouble.kind == TrainingDiverged.__name__
    assert "nan at step" in trouble.what
    assert "18" in trouble.why
    assert "learning rate" in trouble.try_this


def test_a_gradient_that_is_not_finite_is_reported_too(tmp_path: Path) -> None:
    settings = Settings(epochs=3, batch=16, lr=1e30, precision="fp32", threads=1, warmup=0.0)
    assert "is no" not in run_rejected(make_job(tmp_path, settings), TrainingDiverged).what


def test_labels_that_do_not_fit_are_rejected(tmp_path: Path) -> None:
    high = make_data(tmp_path, labels=np.full(160, 4))
    assert "4 classes" in run_rejected(make_job(tmp_path, data=high), DataError).why
    numbers = make_job(tmp_path, task=make_task(Regression(), metric="mae"))
    assert "4 outputs" in run_rejected(numbers, DataError).what
    assert "no labels" in run_rejected(make_job(tmp_path, data=msgspec.structs.replace(high, labels=""))).what
    none = msgspec.structs.replace(high, fit=())
    assert "nothing to train on" in run_rejected(make_job(tmp_path, data=none), DataError).what


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", 0.0), ("batch", 0), ("lr", 0.0), ("warmup", 1.5), ("clip", -1.0)]
)
def test_settings_that_cannot_be_trained_with_never_come_to_a_job(name: str, value: float) -> None:
    with pytest.raises(msgspec.ValidationError, match=name):
        msgspec.convert({name: value}, Settings)


def test_a_module_that_does_not_take_the_samples_is_reported(tmp_path: Path) -> None:
    job = make_job(tmp_path, module=source(tmp_path, "tokens"))
    assert "TypeError" in run_rejected(job, InputError).why


@pytest.mark.parametrize("output", [Boxes(), Embedding()])
def test_outputs_without_a_loss_are_rejected(tmp_path: Path, output: Any) -> None:
    metric = "map" if isinstance(output, Boxes) else "top1"
    error = run_rejected(make_job(tmp_path, task=make_task(output, metric=metric)))
    assert "classification, regression and next-token" in error.why


def test_a_metric_of_ones_own_runs_where_it_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def half(outputs, labels):\n    return [0.5] * len(labels)\n")
    spec = f"{tmp_path}/own.py:half"
    job = make_job(tmp_path, Settings(epochs=1, batch=16, precision="fp32", threads=1), make_task(metric=spec))
    assert "not allowed to run" in run_rejected(job, ConfigError).what
    assert train(msgspec.structs.replace(job, code=(spec,))).metric == 0.5


def test_a_background_class_and_probabilities(tmp_path: Path) -> None:
    from edgewright.training.loop.losses import compute_label_loss

    scores = torch.tensor([[0.1, 0.7, 0.2], [0.2, 0.2, 0.6]])
    labels = torch.tensor([0, 1])
    task = make_task(Classification(first_class=1, softmax=False))
    wanted = -torch.log(torch.tensor([0.7, 0.6])).mean()
    assert float(compute_label_loss(task, {"output": scores}, labels)) == pytest.approx(float(wanted), abs=1e-5)
    logits = make_task(Classification(first_class=1))
    assert float(compute_label_loss(logits, {"output": scores.log()}, labels)) == pytest.approx(float(wanted), abs=1e-5)
    single = torch.tensor([[0.8], [-1.2]])
    binary = torch.nn.functional.binary_cross_entropy_with_logits(single[:, 0], labels.float())
    assert float(compute_label_loss(make_task(), {"output": single}, labels)) == pytest.approx(float(binary), abs=1e-5)


def test_bf16_is_taken_where_it_is_native_and_agrees() -> None:
    from edgewright.training.loop.precision import choose_precision, supports_bf16

    module = torch.nn.Linear(4, 2)
    ones = torch.ones(8, 4)
    loss = lambda one: one(ones).float().pow(2).mean()  # noqa: E731 - one word for one line
    native = supports_bf16("cpu")
    assert choose_precision("auto", module, loss)[0] == ("bf16" if native else "fp32")
    assert choose_precision("fp32", module, loss)[0] == "fp32"
    if native:

        def apart(one: Any) -> Any:
            made = one(ones)
            return made.float().pow(2).mean() * (3.0 if made.dtype == torch.bfloat16 else 1.0)

        kind, why = choose_precision("auto", module, apart)
        assert kind == "fp32"
        assert "the first loss" in why


def test_bf16_trains(tmp_path: Path) -> None:
    report = train(make_job(tmp_path, msgspec.structs.replace(QUICK, precision="bf16")))
    assert report.precision == "bf16"
    assert report.metric is not None
    assert report.metric > 0.9


def test_what_bf16_trained_is_evaluated_in_fp32_in_the_end(tmp_path: Path) -> None:
    from edgewright.training.source import load_module

    data = make_data(tmp_path)
    images = np.load(data.inputs["image"])
    wanted = images.mean((2, 3))[:, :2].astype(np.float64)
    data = make_data(tmp_path, labels=wanted)
    settings = msgspec.structs.replace(QUICK, precision="bf16")
    module = source(tmp_path, "numbers")
    job = make_job(tmp_path, settings, make_task(Regression(), metric="mae"), module=module, data=data)
    report = train(job)
    left = load_module(msgspec.structs.replace(module, weights=str(Path(job.out) / "weights.safetensors")), 0).eval()
    held = list(data.held_out)
    with torch.no_grad():
        exact = float(np.abs(left(torch.from_numpy(images[held])).numpy() - wanted[held]).mean())
    found = next(one for one in report.curves if one.name == "held-out.mae")
    assert report.metric == pytest.approx(exact, rel=1e-5)
    assert found.values[-1] != pytest.approx(exact, rel=1e-5)
    assert found.values[-1] == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize(("patience", "between"), [(0, [10, 10, 10]), (5, [40, 40, 40])])
def test_all_held_out_samples_evaluate_in_the_end_and_where_it_may_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: int, between: list[int]
) -> None:
    from edgewright.training.loop import loop

    evaluated: list[tuple[int, bool]] = []
    whole = loop.TrainingLoop.evaluate

    def evaluate(self: Any, places: Any, *, exact: bool = False) -> Any:
        evaluated.append((len(places), exact))
        return whole(self, places, exact=exact)

    monkeypatch.setattr(loop.TrainingLoop, "evaluate", evaluate)
    monkeypatch.setattr(loop, "MAX_EVALUATED_SAMPLES", 12)
    train(make_job(tmp_path, msgspec.structs.replace(QUICK, epochs=3, patience=patience)))
    assert evaluated == [(count, False) for count in between] + [(40, True)]
