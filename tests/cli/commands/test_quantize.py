"""`edgewright quantize`."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgewright.cli.registry import find_command, list_options
from edgewright.flows.demo.flow import get_digits_folder
from edgewright.flows.quantize.finetuning import QAT_DEFAULTS
from tests.cli.calling import Call
from tests.models.onnx_files import write_conv_net
from tests.models.tflite_files import write_convnet

DIGITS = get_digits_folder()
BAD_RECIPE = 'precision = "w4"\nrounding = "nearest"\nsearch = false\n'


@pytest.fixture
def words(call: Call, folder: Path) -> tuple[object, ...]:
    """Return a small model with a task, and sixty images with its own predictions as labels."""
    model = write_conv_net(folder / "m.onnx")
    assert call("task", "init", "m.onnx", "-o", "t.toml").code == 0
    values = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    feeds = values.astype(np.float32).transpose(0, 3, 1, 2) / 255
    labels = [session.run(None, {"x": feed[None]})[0].argmax() for feed in feeds]
    np.savez(folder / "d.npz", x=values, labels=labels)
    return ("quantize", "m.onnx", "--task", "t.toml", "--data", "d.npz", "--samples", 16, "--runtime", "onnxruntime")


def test_the_table_the_files_and_the_page(call: Call, folder: Path, words: tuple[object, ...]) -> None:
    result = call(*words, "--max-drop", 100, "--no-measure", "--report", "-o", "out", "--html", "r.html")
    assert result.code == 0
    header, first = (line.split("\t") for line in result.out.splitlines()[:2])
    row = dict(zip(header, first, strict=True))
    assert (row["runtime"], row["precision"], row["state"]) == ("onnxruntime", "w8a8", "ok")
    assert row["speedup"] == "–"
    assert row["artifact"] == "out/m-onnxruntime-w8a8.onnx"
    assert (folder / row["artifact"]).exists()
    assert "operator\ttype\tprecision\tSQNR alone" in result.out
    assert "\nconv\tConv\t" in result.out
    assert "; recipe: out/m-w8a8.recipe.toml" in result.err
    assert result.err.count("rounding weights") == 1  # one line per stage, not per operator
    page = (folder / "r.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "Quantization error" in page
    runs = call("runs", "list", "--json").json()["runs"]
    assert {run["kind"] for run in runs} == {"quantize", "compile", "evaluate"}
    shown = call("runs", "show", next(run["id"] for run in runs if run["kind"] == "quantize"))
    assert shown.code == 0


def test_the_object(call: Call, words: tuple[object, ...]) -> None:
    result = call(*words, "--max-drop", 100, "--no-measure", "--json")
    assert result.code == 0
    report = result.json()
    assert report["schema"] == "edgewright.quantize/1"
    assert report["quantization"]["schema"] == "edgewright.quantization/1"
    assert (report["calibrated_on"], report["evaluated_on"]) == (16, 44)
    (row,) = report["artifacts"]
    wanted = {
        "runtime", "precision", "path", "bytes", "bytes_ratio", "metric", "agreement", "sqnr_db", "speedup",
        "int8_share", "kept",
    }  # fmt: skip
    assert wanted <= row.keys()
    assert {"name", "value", "low", "high", "reference"} == row["metric"].keys()


def test_a_plan_is_printed_and_nothing_is_done(call: Call, folder: Path, words: tuple[object, ...]) -> None:
    result = call(*words, "--precision", "int8", "--max-drop", 0.5, "--dry-run")
    assert result.code == 0
    plan = result.json()
    assert plan["schema"] == "edgewright.quantize-plan/1"
    assert (plan["precision"], plan["samples"], plan["max_drop"]) == ("w8a8", 16, 0.5)
    assert plan["runtimes"] == ["onnxruntime"]
    assert not (folder / "m-artifacts").exists()
    assert call("runs", "list", "--json").json()["runs"] == []


def test_a_gate_is_exit_3_and_leaves_nothing(call: Call, folder: Path) -> None:
    (folder / "bad.toml").write_text(BAD_RECIPE)
    result = call(
        "quantize", DIGITS / "digits.onnx", "--task", DIGITS / "task.toml", "--data", DIGITS / "heldout.npz",
        "--recipe", "bad.toml", "--max-drop", 0, "--html", "r.html", "--no-measure",
        "--runtime", "onnxruntime", "-o", "out",
    )  # fmt: skip
    assert result.code == 3
    what, why, hint = result.error()
    assert what == "onnxruntime w4 was rejected"
    assert "more than --max-drop 0" in why
    assert "keep the operators with the largest error in float" in hint
    assert result.rows()[0]["state"] == "refused"
    assert result.rows()[0]["artifact"] == "–"
    assert list((folder / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("more", "code", "what"),
    [
        (("--task", ""), 2, "is empty"),
        (("--data", ""), 2, "--data is missing"),
        (("--task", "absent.toml"), 2, "task file does not exist"),
        (("--data", "absent"), 2, "dataset does not exist"),
        (("--precision", "w3"), 2, "unknown precision: w3"),
        (("--precision", "w8a8-dynamic"), 2, "to w8a8-dynamic"),
        (("--runtime", "nobody"), 2, ""),
        (("--recipe", "absent.toml"), 2, "recipe file does not exist: absent.toml"),
        (("--recipe", "m.onnx"), 2, "m.onnx is not a valid recipe"),
        (("--samples", 3), 2, "3 samples are too few"),
        (("--samples", 60), 2, "d.npz has 60 samples, but calibration was set to use 60"),
        (("--max-drop", "nan"), 2, "--max-drop nan cannot be used"),
        (("-o", "m.onnx"), 1, "cannot write to m.onnx"),
    ],
)
def test_bad_words(
    call: Call, folder: Path, words: tuple[object, ...], more: tuple[object, ...], code: int, what: str
) -> None:
    before = sorted(folder.iterdir())
    result = call(*words, *more)
    assert result.code == code
    assert what in result.error()[0]
    assert [path for path in sorted(folder.iterdir()) if path not in before and path.name != "m-artifacts"] == []
    assert not (folder / "m-artifacts").exists() or list((folder / "m-artifacts").iterdir()) == []
    assert call("runs", "list", "--json").json()["runs"] == []


def test_the_help_has_the_defaults_of_quantization_aware_training() -> None:
    command = find_command("quantize")
    assert command is not None
    options = list_options(command)
    for name, value in QAT_DEFAULTS.items():
        text = f"{value:g}" if isinstance(value, float) else value
        assert str(options[name].help).endswith(f"default: {text}."), name


def test_the_plan_of_quantization_aware_training_has_its_settings(call: Call, folder: Path) -> None:
    words = ("quantize", DIGITS / "digits.onnx", "--task", DIGITS / "task.toml", "--data", DIGITS / "heldout.npz")
    plan = call(*words, "--qat", "--optimizer", "adamw", "--dry-run").json()
    assert plan["qat"] == {**QAT_DEFAULTS, "seed": 0}


@pytest.mark.slow  # a whole quantization; its parts are tested with ONNX models and in tests/formats/tflite
def test_a_tflite_file_is_quantized_in_its_own_layout(call: Call, folder: Path) -> None:
    write_convnet(folder / "m.tflite")
    assert call("task", "init", "m.tflite", "-o", "t.toml").code == 0
    random = np.random.default_rng(0)
    values = random.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    np.savez(folder / "d.npz", x=values, labels=random.integers(0, 5, 60))
    (folder / "r.toml").write_text('precision = "w8a8"\nrounding = "nearest"\nsearch = false\n')
    result = call("quantize", "m.tflite", "--task", "t.toml", "--data", "d.npz", "--samples", 16, "--recipe", "r.toml",
                  "--runtime", "onnxruntime", "--max-drop", 100, "--no-measure", "--json")  # fmt: skip
    assert result.code == 0
    (made,) = result.json()["artifacts"]
    assert made["state"] == "ok"
    record = json.loads((folder / made["path"]).with_suffix(".edgewright.json").read_text())
    assert record["io_map"]["inputs"][0]["shape"] == [1, 8, 8, 3]
