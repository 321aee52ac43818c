"""`edgewright personalize` from its files to its files: kept, rejected, merged again, and with wrong input."""

from pathlib import Path

import numpy as np
import pytest

from tests.cli.calling import Call, CommandResult, make_call
from tests.flows.experiment.quadrants import write_data, write_training_files, write_weights

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("lightning_fabric", reason="lightning-fabric is not installed")
TASK = """
schema = "edgewright.task/1"
metric = "top1"

[[inputs]]
kind = "image"
name = "x"
size = [8, 8]
color = "gray"
mean = 127.5
std = 127.5
resize = "none"

[output]
kind = "classification"
classes = 4
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_training_files(tmp_path)
    write_weights(tmp_path, f"{tmp_path / 'net.py'}:build")
    (tmp_path / "task.toml").write_text(TASK)
    for name, seed in (("user", 2), ("user-val", 3), ("public", 4)):
        write_data(tmp_path / f"{name}.npz", 80, seed)
    return tmp_path


@pytest.fixture
def call(folder: Path, capfd: pytest.CaptureFixture[str]) -> Call:
    """Return a function that calls `edgewright` in `folder`."""
    return make_call(capfd)


def personalize(call: Call, *words: str, data: str = "user.npz") -> CommandResult:
    options = ("--weights", "net.pt", "--task", "task.toml", "--data", data, "--val", "user-val.npz")
    return call("personalize", "net.py:build", *options, "--public", "public.npz", "-o", "out", *words)


def test_a_kept_model_and_its_adapter(folder: Path, call: Call) -> None:
    done = personalize(call, "--method", "full", "--epochs", "12", "--lr", "0.01", "--json")
    assert done.code == 0, done.err
    report = done.json()
    assert report["kept"] and report["after"]["user"] > report["before"]["user"]
    assert report["public_samples"] == 40 and report["replayed_samples"] == 40
    adapter = Path(report["adapter"]["path"])
    assert adapter.stat().st_size == report["adapter"]["bytes"]
    merged = Path(report["weights"]).read_bytes()
    again = call("personalize", "net.py:build", "--weights", "net.pt", "--apply", str(adapter), "-o", "again", "--json")
    assert again.code == 0, again.err
    assert Path(again.json()["weights"]).read_bytes() == merged
    other = call("personalize", "net.py:build", "--weights", report["weights"], "--apply", str(adapter), "-o", "other")
    assert other.code == 2 and "not an adapter for this model" in other.err


def test_a_worse_model_is_rejected(folder: Path, call: Call) -> None:
    with np.load(folder / "user-val.npz") as stored:
        images, labels = stored["images"], stored["labels"]
    trained = personalize(call, "--method", "full", "--epochs", "12", "--lr", "0.01", "--json")
    weights = trained.json()["weights"]
    np.savez(folder / "false.npz", images=images[:40], labels=(labels[:40] + 1) % 4)
    done = call(
        "personalize", "net.py:build", "--weights", weights, "--task", "task.toml", "--data", "false.npz", "--val",
        "user-val.npz", "--public", "public.npz", "--method", "full", "--epochs", "12", "--lr", "0.01", "-o", "worse",
        "--json",
    )  # fmt: skip
    assert done.code == 3, done.err
    report = done.json()
    assert not report["kept"] and report["adapter"]["path"] is None
    assert not list(Path("worse").iterdir())


@pytest.mark.parametrize("case", ["one class", "one sample", "the same data", "rank"])
def test_wrong_input(folder: Path, call: Call, case: str) -> None:
    with np.load(folder / "user.npz") as stored:
        images, labels = stored["images"], stored["labels"]
    np.savez(folder / "class.npz", images=images, labels=np.zeros_like(labels))
    np.savez(folder / "sample.npz", images=images[:1], labels=labels[:1])
    done = {
        "one class": lambda: personalize(call, data="class.npz"),
        "one sample": lambda: personalize(call, data="sample.npz"),
        "the same data": lambda: personalize(call, data="user-val.npz"),
        "rank": lambda: personalize(call, "--rank", "0"),
    }[case]()
    assert done.code == 2, done.err
    done.error()
