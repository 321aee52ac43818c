"""A student learns from a teacher's answers and stages; a teacher is asked for every view, and goes on where it was."""

import errno
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest

from edgewright.errors import DataError, EdgewrightError, OutputError, UsageError
from edgewright.schema.vocabulary import TransferLoss
from edgewright.tasks.spec.task import Augment, Classification, Embedding, NextToken
from edgewright.training.job import DistillationSettings, ModuleSource, Settings, TeacherJob, TrainJob, TrainReport
from tests.training.training_files import SHAPES, make_data, make_job, make_task, read_report, source

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("lightning_fabric", reason="lightning-fabric is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns of its own insides
SETTINGS = Settings(epochs=6, batch=16, lr=0.05, precision="fp32", threads=1)
VARIED = Augment(flip=True, shift=1)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The network's file leaves no trace, and only workers write ONNX, which takes longer than the training."""
    from edgewright.training import source

    monkeypatch.setattr(source, "export_module", lambda module, shapes, path, outputs: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("training_network", None)


@pytest.fixture(scope="module")
def teacher_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the wide network, well trained."""
    folder = tmp_path_factory.mktemp("teacher")
    train(make_job(folder, msgspec.structs.replace(SETTINGS, epochs=10), module=source(folder, "wide")))
    return folder / "out" / "weights.safetensors"


def teacher_of(folder: Path, weights: Path) -> ModuleSource:
    return msgspec.structs.replace(source(folder, "wide"), weights=str(weights))


def train(job: TrainJob) -> TrainReport:
    from edgewright.training.loop.train import run_training

    run_training(job, lambda word: None)
    return read_report(job)


def ask(folder: Path, teacher: ModuleSource, views: int = 3, augment: Augment | None = VARIED, send: Any = None) -> Any:
    from edgewright.training.distillation.teacher import run_teacher_job

    job = TeacherJob(
        teacher=teacher,
        shapes=SHAPES,
        task=msgspec.json.encode(make_task(augment=augment)).decode(),
        data=make_data(folder),
        settings=SETTINGS,
        views=views,
        out=str(folder / "logits.npy"),
    )
    run_teacher_job(job, send or (lambda word: None))
    return np.load(folder / "logits.npy")


def run_rejected(job: TrainJob, kind: type[EdgewrightError] = UsageError) -> EdgewrightError:
    with pytest.raises(kind) as caught:
        train(job)
    assert caught.value.try_this
    return caught.value


def curves(report: TrainReport) -> dict[str, tuple[float, ...]]:
    return {one.name: one.values for one in report.curves}


def test_answers_are_those_of_the_views(tmp_path: Path, teacher_weights: Path) -> None:
    from edgewright.training.data.augment import augment
    from edgewright.training.source import load_module

    teacher = teacher_of(tmp_path, teacher_weights)
    words: list[Any] = []
    logits = ask(tmp_path, teacher, send=words.append)
    fit = np.array(make_data(tmp_path).fit)
    assert logits.shape == (3, 120, 4)
    assert logits.dtype == np.float32
    assert (words[-1].done, words[-1].of) == (360, 360)
    assert [one.name for one in tmp_path.glob("logits*")] == ["logits.npy"]
    images = np.load(tmp_path / "images.npy")[fit]
    module = load_module(teacher, 0).eval()
    for number in range(3):
        view = augment(make_task(augment=VARIED), {"image": images}, np.full(120, number, np.uint64), fit)["image"]
        with torch.no_grad():
            assert np.allclose(module(torch.from_numpy(view)).numpy(), logits[number], atol=1e-4)


def test_a_teacher_is_asked_without_its_normalizations_where_that_changes_nothing() -> None:
    from torch import nn

    from edgewright.training.distillation.teacher import fold_normalization

    class Shared(nn.Module):  # type: ignore[misc]  # torch is untyped here; one convolution, two normalisations
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.one, self.two = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
            self.two.running_mean = torch.ones(3)

        def forward(self, x: Any) -> Any:
            return self.two(self.conv(self.one(self.conv(x))))

    class Choosing(nn.Sequential):  # type: ignore[misc]  # torch is untyped here
        def forward(self, x: Any) -> Any:
            return super().forward(x if x.sum() > 0 else -x)

    x = torch.randn(2, 3, 8, 8, generator=torch.manual_seed(0))
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    plain(x)  # statistics that are not those of the start
    folded = fold_normalization(plain.eval(), lambda module: module(x))
    assert not [one for one in folded.modules() if isinstance(one, nn.BatchNorm2d)]
    assert torch.allclose(folded(x), plain(x), atol=1e-5)
    assert [one for one in plain.modules() if isinstance(one, nn.BatchNorm2d)]
    for module in (Shared().eval(), Choosing(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()):
        assert fold_normalization(module, lambda one: one(x)) is module


def test_an_interrupted_teacher_goes_on(tmp_path: Path, teacher_weights: Path) -> None:
    teacher = teacher_of(tmp_path, teacher_weights)
    whole = ask(tmp_path, teacher)
    (tmp_path / "logits.npy").unlink()
    from edgewright.training.distillation import teacher as teacher_module

    class Stop(Exception):
        pass

    asked: list[int] = []
    from edgewright.training.data.samples import prefetch_batches as kept

    def some(make: Any, wanted: Any) -> Iterator[Any]:
        for count, batch in enumerate(kept(make, wanted)):
            if not asked and count == 7:
                raise Stop
            yield batch
        asked.append(len(wanted))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teacher_module, "prefetch_batches", some)
        with pytest.raises(Stop):
            ask(tmp_path, teacher)
        (part,) = tmp_path.glob("logits.npy.*.part")
        with part.open("ab") as file:
            file.write(b"half")  # of a row that was being written
        asked.append(0)
        again = ask(tmp_path, teacher)
    assert asked[-1] == 16  # of 23 batches
    assert (again == whole).all()
    assert [one.name for one in tmp_path.glob("logits*")] == ["logits.npy"]


def test_a_full_disk_is_reported_while_a_teacher_answers(
    tmp_path: Path, teacher_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgewright.training.distillation import teacher as teacher_module

    def full(path: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(teacher_module, "sync_folder", full)
    with pytest.raises(OutputError) as caught:
        ask(tmp_path, teacher_of(tmp_path, teacher_weights))
    assert "No space left" in caught.value.why


def test_views_that_are_all_the_same_are_rejected(tmp_path: Path, teacher_weights: Path) -> None:
    with pytest.raises(UsageError) as caught:
        ask(tmp_path, teacher_of(tmp_path, teacher_weights), augment=None)
    assert "be the same" in caught.value.what
    assert ask(tmp_path, teacher_of(tmp_path, teacher_weights), views=1, augment=None).shape == (1, 120, 4)


def test_a_student_learns_without_labels(tmp_path: Path, teacher_weights: Path) -> None:
    ask(tmp_path, teacher_of(tmp_path, teacher_weights))
    data = msgspec.structs.replace(make_data(tmp_path), labels="")
    teaching = DistillationSettings(logits=str(tmp_path / "logits.npy"), views=3, alpha=1.0)
    report = train(make_job(tmp_path, SETTINGS, make_task(augment=VARIED), data=data, teaching=teaching))
    assert report.metric is None
    found = curves(report)
    assert set(found) == {"loss", "lr", "loss.teacher"}
    assert found["loss"] == pytest.approx(found["loss.teacher"])
    assert found["loss"][-1] < 0.5 * found["loss"][0]
    from edgewright.training.source import load_module

    student = load_module(source(tmp_path), 0)
    from safetensors.torch import load_file

    student.load_state_dict(load_file(tmp_path / "out" / "weights.safetensors"))
    images, classes = np.load(tmp_path / "images.npy"), np.load(tmp_path / "labels.npy")
    with torch.no_grad():
        made = student.eval()(torch.from_numpy(images)).numpy().argmax(1)
    assert (made == classes)[120:].mean() > 0.9


def test_cached_answers_and_a_teacher_in_the_loop_train_the_same(tmp_path: Path, teacher_weights: Path) -> None:
    losses = []
    ask(tmp_path, teacher_of(tmp_path, teacher_weights), views=1, augment=None)
    for name, teaching in (
        ("cached", DistillationSettings(logits=str(tmp_path / "logits.npy"), views=1)),
        ("asked", DistillationSettings(teacher=teacher_of(tmp_path, teacher_weights))),
    ):
        (tmp_path / name).mkdir()
        job = make_job(tmp_path / name, SETTINGS, make_task(), teaching=teaching)
        losses.append(curves(train(job)))
    assert losses[0]["loss.teacher"] == pytest.approx(losses[1]["loss.teacher"], rel=1e-2)
    whole = [0.1 * a + 0.9 * b for a, b in zip(losses[0]["loss.labels"], losses[0]["loss.teacher"], strict=True)]
    assert losses[0]["loss"] == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("transfer", sorted({*get_args(TransferLoss)} - {"none"}))
def test_stages_of_one_size_are_brought_together(tmp_path: Path, teacher_weights: Path, transfer: Any) -> None:
    teaching = DistillationSettings(teacher=teacher_of(tmp_path, teacher_weights), transfer=transfer, alpha=0.5)
    settings = msgspec.structs.replace(SETTINGS, patience=9)
    job = make_job(tmp_path, settings, make_task(augment=VARIED), teaching=teaching)
    report = train(job)
    found = curves(report)["loss.transfer"]
    assert np.mean(found[-3:]) < 0.8 * np.mean(found[:3])
    assert report.metric is not None
    assert report.metric > 0.85
    assert train(job).resumed == 1  # its projections are in the checkpoint too


def test_stages_are_the_last_parts_of_each_size() -> None:
    from edgewright.training.distillation.losses import find_stages

    conv, relu = torch.nn.Conv2d, torch.nn.ReLU()
    net = torch.nn.Sequential(
        conv(3, 4, 3, padding=1), relu, conv(4, 6, 3, padding=1), conv(6, 8, 2, 2), relu, torch.nn.AdaptiveAvgPool2d(1)
    )
    stages = find_stages(net, {"input": torch.zeros(1, 3, 8, 8)})
    assert {size: tuple(one) for size, one in stages.items()} == {(8, 8): ("2", 6), (4, 4): ("3", 8)}


def test_what_a_teacher_cannot_distill_is_rejected(tmp_path: Path, teacher_weights: Path) -> None:
    teacher = teacher_of(tmp_path, teacher_weights)
    classes = run_rejected(
        make_job(tmp_path, SETTINGS, module=source(tmp_path, "five"), teaching=DistillationSettings(teacher=teacher))
    )
    assert "the teacher has 4 classes, the student 5" in classes.what
    ask(tmp_path, teacher, views=1, augment=None)
    cached = DistillationSettings(logits=str(tmp_path / "logits.npy"), views=1)
    assert "student 5" in run_rejected(make_job(tmp_path, module=source(tmp_path, "five"), teaching=cached)).what
    flat = DistillationSettings(teacher=teacher, transfer="attention")
    assert "no stage" in run_rejected(make_job(tmp_path, module=source(tmp_path, "flat"), teaching=flat)).what
    looks = msgspec.structs.replace(cached, transfer="features")
    assert "teacher module is missing" in run_rejected(make_job(tmp_path, teaching=looks)).what
    assert "alpha of 2" in run_rejected(make_job(tmp_path, teaching=msgspec.structs.replace(cached, alpha=2.0))).what
    cold = msgspec.structs.replace(cached, temperature=0.0)
    assert "temperature of 0" in run_rejected(make_job(tmp_path, teaching=cold)).what
    none = msgspec.structs.replace(make_data(tmp_path), labels="")
    assert "no labels" in run_rejected(make_job(tmp_path, data=none, teaching=cached)).what
    many = msgspec.structs.replace(cached, views=2)
    assert "1 views of 120" in run_rejected(make_job(tmp_path, teaching=many), DataError).what


def test_losses_are_those_of_the_papers() -> None:
    from edgewright.training.distillation.losses import (
        compute_attention_loss,
        compute_feature_loss,
        compute_teacher_loss,
    )

    functional = torch.nn.functional
    mine, wanted = torch.randn(5, 4), torch.randn(5, 4)
    soft = functional.softmax(wanted / 4, dim=1)
    expected = (soft * (soft.log() - functional.log_softmax(mine / 4, dim=1))).sum(1).mean() * 16
    task = make_task(Classification())
    assert float(compute_teacher_loss(task, [mine], [wanted], None, 4.0)) == pytest.approx(float(expected), abs=1e-5)
    tokens = make_task(NextToken(), metric="perplexity")
    labels = torch.tensor([[0, 1, -100, 2, 3]])
    kept = labels[0] != -100
    own = compute_teacher_loss(tokens, [mine[None]], [wanted[None]], labels, 4.0)
    assert float(own) == pytest.approx(
        float(compute_teacher_loss(task, [mine[kept]], [wanted[kept]], None, 4.0)), abs=1e-5
    )
    vectors = make_task(Embedding())
    square = float(((mine - wanted) ** 2).mean())
    assert float(compute_teacher_loss(vectors, [mine], [wanted], None, 4.0)) == pytest.approx(square, abs=1e-5)
    maps = torch.randn(2, 3, 4, 4)
    assert float(compute_attention_loss(maps, 3 * maps)) == pytest.approx(0, abs=1e-6)
    assert float(compute_feature_loss(torch.zeros_like(maps), maps)) == pytest.approx(1, abs=1e-5)
