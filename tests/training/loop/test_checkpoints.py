"""A training that is killed, or has no disk space, loses at most the steps since its last checkpoint."""

import errno
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from time import sleep
from typing import Any

import msgspec
import pytest

from edgewright.errors import OutputError
from edgewright.tasks.spec.task import Augment
from edgewright.training.job import DistillationSettings, Settings, SparsitySettings, TrainJob
from tests.training.training_files import make_job, make_task, read_report, run_worker, source, start

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("lightning_fabric", reason="lightning-fabric is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns of its own insides
SETTINGS = Settings(epochs=12, batch=16, lr=0.05, precision="fp32", threads=1, checkpoint_s=0.0, patience=50)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The network's file leaves no trace, and only workers write ONNX, which takes longer than the training."""
    from edgewright.training import source as sources

    monkeypatch.setattr(sources, "export_module", lambda module, shapes, path, outputs: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("training_network", None)


def full_job(folder: Path, settings: Settings = SETTINGS) -> TrainJob:
    folder.mkdir(exist_ok=True)
    task = make_task(augment=Augment(flip=True, shift=1))
    return make_job(folder, settings, task, thinning=SparsitySettings(sparsity=0.5))


def weights(job: TrainJob) -> bytes:
    return (Path(job.out) / "weights.safetensors").read_bytes()


def train(job: TrainJob) -> None:
    from edgewright.training.loop.train import run_training

    run_training(job, lambda word: None)


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL here")
def test_a_killed_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole, broken = full_job(tmp_path / "whole"), full_job(tmp_path / "broken")
    train(whole)
    with start(tmp_path / "broken", broken) as process:
        while not (tmp_path / "broken" / "memory" / "checkpoint").exists() and process.poll() is None:
            sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "broken" / "out" / "report.json").exists()
    elsewhere = tmp_path / "moved"  # another machine has other paths
    shutil.move(tmp_path / "broken", elsewhere)
    moved = msgspec.structs.replace(full_job(elsewhere), memory=str(elsewhere / "memory"))
    run_worker(elsewhere, moved)
    report = read_report(moved)
    assert report.resumed == 1
    assert report.steps == 84
    assert weights(moved) == weights(whole)
    straight = read_report(whole)
    assert [(one.name, one.steps, one.values) for one in report.curves] == [
        (one.name, one.steps, one.values) for one in straight.curves
    ]
    assert straight.zeros == report.zeros > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_all_that_learns_goes_on_from_the_middle_of_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Any
) -> None:
    from edgewright.training.loop import loop
    from edgewright.training.loop.checkpoint import save_state

    class Stop(Exception):
        pass

    made = []
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
        settings = msgspec.structs.replace(SETTINGS, epochs=3, optimizer="adamw", lr=0.01, precision=precision)
        teaching = DistillationSettings(teacher=source(tmp_path, "wide"), transfer="features", alpha=0.5)
        job = make_job(tmp_path / name, settings, make_task(augment=Augment(shift=1)), teaching=teaching)
        if name == "broken":
            saved: list[int] = []

            def save(folder: Path, state: dict[str, Any], saved: list[int] = saved) -> None:
                saved.append(state["step"])
                save_state(folder, state)
                if state["step"] == 10:
                    raise Stop

            with monkeypatch.context() as patch:
                patch.setattr(loop, "save_state", save)
                with pytest.raises(Stop):
                    train(job)
            assert saved == list(range(1, 11))
        train(job)
        made.append(weights(job))
    assert read_report(job).resumed == 1
    assert made[0] == made[1]


def test_nothing_of_this_machine_is_in_the_checkpoint(tmp_path: Path) -> None:
    job = full_job(tmp_path, msgspec.structs.replace(SETTINGS, epochs=1))
    train(job)
    assert str(tmp_path).encode() not in (tmp_path / "memory" / "checkpoint").read_bytes()


@pytest.mark.parametrize("damage", ["cut", "changed", "other"])
def test_a_checkpoint_that_is_not_ours_is_reported_and_left(tmp_path: Path, damage: str) -> None:
    job = full_job(tmp_path, msgspec.structs.replace(SETTINGS, epochs=2))
    train(job)
    first = weights(job)
    path = tmp_path / "memory" / "checkpoint"
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    if damage == "changed":
        data[len(data) // 2] ^= 1
    path.write_bytes(data)
    if damage == "other":
        job = msgspec.structs.replace(job, settings=msgspec.structs.replace(job.settings, lr=0.06))
    train(job)
    report = read_report(job)
    assert report.resumed == 0
    assert ("another training" if damage == "other" else "damaged") in report.notes[0]
    assert (weights(job) == first) == (damage != "other")


def test_a_training_that_had_stopped_early_stays_stopped(tmp_path: Path) -> None:
    job = full_job(tmp_path, msgspec.structs.replace(SETTINGS, epochs=40, patience=1))
    train(job)
    first = read_report(job)
    (tmp_path / "out" / "report.json").unlink()  # it was killed before it could report
    train(job)
    again = read_report(job)
    assert (again.steps, again.metric) == (first.steps, first.metric)
    assert again.steps < again.planned


def test_a_finished_training_is_not_done_again_whatever_its_threads(tmp_path: Path) -> None:
    job = full_job(tmp_path, msgspec.structs.replace(SETTINGS, epochs=2.0))
    train(job)
    assert read_report(job).threads == 1
    first = weights(job)
    other = msgspec.structs.replace(job, settings=msgspec.structs.replace(job.settings, threads=2))
    run_worker(tmp_path, other)
    report = read_report(job)
    assert (report.resumed, report.threads) == (1, 2)
    assert "the number of threads changed during training: 1 and 2" in report.notes
    assert weights(job) == first


def test_a_full_disk_is_reported_and_the_last_checkpoint_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = full_job(tmp_path, msgspec.structs.replace(SETTINGS, epochs=2))
    synced = os.fsync
    calls: list[int] = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        synced(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError) as caught:
        train(job)
    assert "No space left" in caught.value.why
    assert "resumes" in caught.value.try_this
    monkeypatch.undo()
    assert [one.name for one in (tmp_path / "memory").iterdir()] == ["checkpoint"]
    train(job)
    assert read_report(job).resumed == 1
