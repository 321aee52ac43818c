"""`benchmark --phases`: every phase of real samples, in the order of an application."""

import json
from pathlib import Path

import numpy as np
import pytest

import edgewright
from edgewright.cli.app import run
from edgewright.errors import ConfigError, UsageError
from edgewright.schema.vocabulary import PHASES
from tests.paths import ROOT

DIGITS = ROOT / "src" / "edgewright" / "flows" / "digits"
FAST = ["--processes", "1", "--runs", "3", "--no-layers", "--warmup-seconds", "0.01", "--json"]


def test_every_phase_has_a_time_for_each_sample(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--phases", "--task", str(DIGITS / "task.toml"), "--data", str(DIGITS / "heldout.npz"), *FAST]
    assert run(["benchmark", str(DIGITS / "digits.onnx"), *options]) == 0
    (row,) = json.loads(capsys.readouterr().out)["runs"]
    assert tuple(row["phases"]) == PHASES
    assert all(one["n"] == 50 and 0 < one["low"] <= one["p50"] <= one["high"] for one in row["phases"].values())


def test_samples_without_an_image_are_not_decoded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.random.default_rng(0).random((3, 1, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "few.npz", inputs=values, labels=np.arange(3))
    text = (DIGITS / "task.toml").read_text()
    head, tail = text.split("[[inputs]]")[0], text[text.index("[output]") :]
    task = tmp_path / "task.toml"
    task.write_text(f'{head}[[inputs]]\nkind = "tensor"\nname = "image"\nshape = [1, 1, 8, 8]\n\n{tail}')
    options = ["--phases", "--task", str(task), "--data", str(tmp_path / "few.npz"), *FAST]
    assert run(["benchmark", str(DIGITS / "digits.onnx"), *options]) == 0
    (row,) = json.loads(capsys.readouterr().out)["runs"]
    assert tuple(row["phases"]) == PHASES[1:] and row["phases"]["convert"]["n"] == 3


def test_without_phases_there_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["benchmark", str(DIGITS / "digits.onnx"), *FAST]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["phases"] is None


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ([], "--task is missing"),
        (["--task", str(DIGITS / "task.toml")], "--data is missing"),
        (["--task", str(DIGITS / "task.toml"), "--data", "absent"], "dataset does not exist"),
    ],
)
def test_what_is_missing_is_named(options: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["benchmark", str(DIGITS / "digits.onnx"), "--phases", *options, *FAST]) == 2
    assert why in capsys.readouterr().err


def test_code_and_other_devices_are_not_supported(tmp_path: Path) -> None:
    code = tmp_path / "samples.py"
    code.write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    task = str(DIGITS / "task.toml")
    with pytest.raises(ConfigError, match="not allowed"):
        edgewright.benchmark(
            str(DIGITS / "digits.onnx"), phases=True, task=task, data=f"{code}:read", allow_code=True,
            processes=1, runs=3, layers=False, progress=False,
        )  # fmt: skip
    assert not (tmp_path / "ran").exists()
    with pytest.raises(UsageError, match=r"phases.*pretend"):
        edgewright.benchmark(str(DIGITS / "digits.onnx"), phases=True, task=task, data="x", on="pretend")
