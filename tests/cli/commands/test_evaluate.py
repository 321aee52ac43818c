"""`edgewright evaluate` and `edgewright task`."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgewright.flows.demo.flow import get_digits_folder
from edgewright.tasks.spec.file import read_task
from tests.cli.calling import Call
from tests.models.onnx_files import write_conv_net
from tests.paths import ROOT

DIGITS = get_digits_folder()
WORDS = ("--task", DIGITS / "task.toml", "--data", DIGITS / "heldout.npz")


def test_the_table(call: Call) -> None:
    result = call("evaluate", DIGITS / "digits.onnx", DIGITS / "digits_int8.onnx", *WORDS)
    assert result.code == 0
    first, second = result.rows()
    assert (first["model"], first["samples"], first["accuracy"]) == ("digits.onnx", "539", "98.89%")
    assert first["difference"] == "reference"
    assert second["agreement"].endswith("%")
    assert "classes with the most errors" in result.out
    assert result.err.count("samples") == 1  # one line for the whole stage
    runs = call("runs", "list", "--json").json()["runs"]
    assert [run["kind"] for run in runs] == ["evaluate", "evaluate"]
    shown = call("runs", "show", runs[0]["id"])
    assert shown.code == 0
    assert "accuracy" in shown.out
    assert "\nenergy\t" not in shown.out


def test_the_object(call: Call) -> None:
    result = call("evaluate", DIGITS / "digits.onnx", *WORDS, "--samples", 50, "--seed", 4, "--tag", "a=b", "--json")
    assert result.code == 0
    report = result.json()
    assert report["schema"] == "edgewright.evaluate/1"
    assert (report["samples"], report["evaluated"], report["skipped"]) == (50, 50, [])
    row = report["results"][0]
    assert row["metric"]["n"] == 50
    assert row["metric"]["low"] < row["metric"]["value"] <= row["metric"]["high"]
    assert row["reference"] is True
    left = call("evaluate", DIGITS / "digits.onnx", *WORDS, "--leave-out", 50, "--seed", 4, "--json").json()
    assert left["samples"] == 489
    some = call("evaluate", DIGITS / "digits.onnx", *WORDS, "--indices", "0-9,20", "--json").json()
    assert some["samples"] == 11


def write_scaled(path: Path) -> Path:
    """The digits with one more input, a number that their scores are multiplied with."""
    model = onnx.load(DIGITS / "digits.onnx")
    output = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["plain" if name == output else name for name in node.output]
    model.graph.input.append(onnx.helper.make_tensor_value_info("gain", onnx.TensorProto.FLOAT, [1]))
    model.graph.node.append(onnx.helper.make_node("Mul", ["plain", "gain"], [output]))
    onnx.save(model, path)
    return path


def test_inputs_with_a_fixed_value(call: Call, tmp_path: Path) -> None:
    model = write_scaled(tmp_path / "scaled.onnx")
    assert (
        call("evaluate", model, *WORDS, "--samples", 100).error()[0]
        == "the task does not describe the model's input 'gain'"
    )
    values = {}
    for gain in ("2", "-1"):
        report = call("evaluate", model, *WORDS, "--samples", 100, "--fix", f"gain={gain}", "--json").json()
        values[gain] = report["results"][0]["metric"]["value"]
    assert values["2"] > 0.9
    assert values["-1"] < 0.1
    table = call("evaluate", model, *WORDS, "--fix", "gain=-1")
    assert "is close to guessing among 10 classes: check mean, std, color and layout in the task" in table.err
    assert call("evaluate", model, *WORDS, "--fix", "gian=1").error()[0].startswith("--fix gian")
    baseline = tmp_path / "b.json"
    quick = ("--processes", 1, "--runs", 3, "--samples", 100, *WORDS)
    written = call("gate", model, "--baseline", baseline, "--write", "--fix", "gain=-1", *quick, "--json").json()
    assert written["figures"]["metric"]["value"] < 0.1
    result = call("gate", model, "--baseline", baseline, "--goal", "metric<=0.1", *WORDS, "--json")
    assert result.code == 0, result.err


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        ((), 2, "no model is given"),
        (("m.onnx", "--data", "d.npz"), 2, "no task is given"),
        (("m.onnx", "--task", "t.toml"), 2, "no data is given"),
        (("m.onnx", "--task", "absent.toml", "--data", "d.npz"), 2, "task file does not exist"),
        (("m.onnx", "--task", "t.toml", "--data", "absent"), 2, "dataset does not exist"),
        (("m.onnx", "--task", "t.toml", "--data", "d.npz", "--indices", "9-3"), 2, "Invalid value for '--indices'"),
        (("m.onnx", "--task", "t.toml", "--data", "d.npz", "--indices", "7"), 2, "d.npz has no sample 7"),
        (("m.onnx", "--task", "t.toml", "--data", "d.npz", "--samples", "9"), 2, "9 samples are requested"),
        (("m.onnx", "--task", "t.toml", "--data", "d.npz", "--runtime", "nobody"), 2, ""),
        (("absent.onnx", "--task", "t.toml", "--data", "d.npz"), 2, "there is no file absent.onnx"),
        (("n.onnx", "--task", "t.toml", "--data", "d.npz"), 2, "the input 'x' is [1, 3, 8, 8] in the model"),
    ],
)
def test_bad_words(call: Call, folder: Path, words: tuple[str, ...], code: int, what: str) -> None:
    write_conv_net(folder / "m.onnx", batch="n")
    write_conv_net(folder / "n.onnx")
    assert call("task", "init", "m.onnx", "-o", "t.toml").code == 0
    if words and words[0] == "n.onnx":
        text = (folder / "t.toml").read_text()
        (folder / "t.toml").write_text(text.replace("size = [8, 8]", "size = [9, 8]"))
    np.savez(folder / "d.npz", x=np.zeros((4, 8, 8, 3), np.uint8), labels=np.zeros(4, int))
    result = call("evaluate", *words)
    assert result.code == code
    assert "The cause is unknown." not in result.err
    assert what in result.error()[0]
    assert call("runs", "list", "--json").json()["runs"] == []


def test_a_skipped_sample_is_reported(call: Call, folder: Path) -> None:
    write_conv_net(folder / "m.onnx")
    assert call("task", "init", "m.onnx", "-o", "t.toml").code == 0
    rows = ["file,label"]
    (folder / "d").mkdir()
    from PIL import Image

    for number in range(120):
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(folder / f"d/{number}.png")
        rows.append(f"{number}.png,{number % 5}")
    (folder / "d/7.png").write_bytes(b"no picture")
    (folder / "d/labels.csv").write_text("\n".join(rows))
    result = call("evaluate", "m.onnx", "--task", "t.toml", "--data", "d")
    assert result.code == 0
    assert result.rows()[0]["samples"] == "119"
    assert "Skipped 7.png: its image format is not supported." in result.err


def test_a_task_is_proposed_and_shown(call: Call, folder: Path) -> None:
    write_conv_net(folder / "m.onnx")
    result = call("task", "init", "m.onnx")
    assert result.code == 0
    assert "Check: mean, std, color and resize of 'x' are assumed" in result.err
    assert call("task", "init", "m.onnx", "-o", "t.toml").code == 0
    assert (folder / "t.toml").read_text() == result.out
    again = call("task", "init", "m.onnx", "-o", "t.toml")
    assert again.code == 2
    assert again.error()[0] == "t.toml already exists"
    assert call("task", "init", "m.onnx", "-o", "t.toml", "--force").code == 0
    shown = call("task", "show", "t.toml", "--model", "m.onnx")
    assert shown.code == 0
    rows = {row["key"]: row["value"] for row in shown.rows()}
    assert rows["inputs[0].layout"] == "NCHW"
    assert rows["inputs[0].size"] == "8, 8"
    assert rows["output.name"] == "y"
    as_json = call("task", "show", "t.toml", "--json").json()
    assert as_json["schema"] == "edgewright.task/1"
    assert as_json["inputs"][0]["kind"] == "image"
    assert read_task(folder / "t.toml").name == "m"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("init", "absent.onnx"), 2),
        (("init", "m.onnx", "-o", "absent/t.toml"), 1),
        (("init", "m.onnx", "-o", "."), 1),
        (("show", "absent.toml"), 2),
        (("show", "m.onnx"), 2),
    ],
)
def test_tasks_that_cannot_be(call: Call, folder: Path, words: tuple[str, ...], code: int) -> None:
    write_conv_net(folder / "m.onnx")
    result = call("task", *words)
    assert result.code == code
    assert result.error()


EXAMPLES = sorted((ROOT / "docs/examples").glob("*.toml"))
MODELS = ROOT.parent / "shared/data/models"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_tasks(path: Path) -> None:
    assert read_task(path).inputs


@pytest.mark.shared_data
@pytest.mark.skipif(not MODELS.is_dir(), reason="the evaluation data is not beside the checkout")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_fit_their_models(call: Call, path: Path) -> None:
    files = [file for file in MODELS.iterdir() if file.stem == path.stem and file.suffix in (".onnx", ".tflite")]
    if path.stem == "cifar10_teacher":  # a torch program, not an artifact
        assert not files
        return
    (model,) = files
    assert call("task", "show", path, "--model", model).code == 0


def test_two_evaluations_are_compared(call: Call) -> None:
    ids = []
    for name in ("digits.onnx", "digits_int8.onnx"):
        report = call("evaluate", DIGITS / name, *WORDS, "--samples", 60, "--json").json()
        ids.append(report["results"][0]["run_id"])
    result = call("compare", *ids)
    assert result.code == 0
    assert result.rows()[0]["samples"] == "60"
    found = call("compare", *ids, "--json").json()
    assert found["schema"] == "edgewright.compare/1"
    assert found["evaluations"][0]["test"] == "mcnemar"


def test_the_list_of_runs_shows_the_metric_and_selects_a_kind(call: Call) -> None:
    assert call("evaluate", DIGITS / "digits.onnx", *WORDS, "--samples", 20).code == 0
    (row,) = call("runs", "list", "--kind", "evaluate").rows()
    assert row["metric"].startswith("accuracy ")
    assert call("runs", "list", "--kind", "benchmark", "--json").json()["runs"] == []


def test_equal_lists_of_classes_are_printed_once(call: Call, folder: Path) -> None:
    (folder / "copy.onnx").write_bytes((DIGITS / "digits.onnx").read_bytes())
    result = call("evaluate", DIGITS / "digits.onnx", "copy.onnx", *WORDS)
    assert result.out.count("classes with the most errors") == 1
    assert "digits.onnx in onnxruntime, copy.onnx in onnxruntime: classes" in result.out
