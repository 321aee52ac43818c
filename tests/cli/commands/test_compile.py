"""`edgewright compile` and commands on its artifacts."""

import io
import struct
import zipfile
from pathlib import Path

import pytest

from edgewright.errors import ModelNotConvertible
from edgewright.flows.compile.cells import check_cell
from edgewright.runtimes.table import find_runtime
from edgewright.schema.plan import CompileCell
from tests.cli.calling import QUICK, Call
from tests.models.onnx_files import write_conv_net


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_conv_net(tmp_path / "m.onnx")


def test_json_is_as_documented(call: Call, model: Path, tmp_path: Path) -> None:
    result = call("compile", model, "--runtime", "ort", "--precision", "fp32,fp16", "-o", tmp_path / "out", "--json")
    assert result.code == 0
    report = result.json()
    assert report["schema"] == "edgewright.compile/1"
    for one in report["artifacts"]:
        keys = {"runtime", "precision", "path", "bytes", "seconds", "state", "reason", "numerics", "io_map"}
        assert keys <= one.keys()
        assert {"cosine", "sqnr_db", "max_abs", "argmax_agreement"} <= one["numerics"].keys()
        assert Path(one["path"]).is_file()


def test_the_table(call: Call, model: Path, tmp_path: Path) -> None:
    rows = call("compile", model, "--runtime", "ort", "-o", tmp_path / "out").rows()
    assert [(row["runtime"], row["state"], row["SQNR"]) for row in rows] == [("onnxruntime", "ok", "200.0 dB")]
    assert call("compile", model, "--runtime", "ort", "-o", tmp_path / "out").rows()[0]["state"] == "cached"


def test_a_failed_artifact_is_reported_and_sets_the_exit_code(call: Call, model: Path, tmp_path: Path) -> None:
    result = call("compile", model, "--runtime", "pretend,ort", "-p", "pretend.fail=refuse", "-o", tmp_path / "out")
    assert result.code == 6
    assert [row["state"] for row in result.rows()] == ["unsupported", "ok"]
    assert "operator Pretend 'node' is not supported" in result.error()[1]


def test_a_folder_is_benchmarked_whole(call: Call, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    call("compile", model, "--runtime", "ort,litert", "-o", tmp_path / "out")
    result = call("benchmark", tmp_path / "out", *QUICK[:6])
    assert result.code == 0
    assert {row["runtime"] for row in result.rows()} == {"onnxruntime", "litert"}
    one = call("benchmark", tmp_path / "out", "--runtime", "litert", *QUICK[:6])
    assert [row["runtime"] for row in one.rows()] == ["litert"]


def test_layers_of_an_artifact_name_the_source_s_nodes(call: Call, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    call("compile", model, "--runtime", "litert", "-o", tmp_path / "out")
    (run,) = call("benchmark", tmp_path / "out", *QUICK[:6], "--json").json()["runs"]
    named = {name for layer in run["layers"] for name in layer["source_nodes"]}
    assert {"conv", "relu", "pool", "gemm"} <= named
    shown = call("runs", "show", run["run_id"], "--json").json()["run"]
    assert {output["role"] for output in shown["outputs"]} == {"model", "data:m-litert-fp32.edgewright.json"}
    assert call("runs", "rerun", run["run_id"]).code == 0


def test_a_folder_without_artifacts(call: Call, tmp_path: Path) -> None:
    result = call("benchmark", tmp_path)
    assert result.code == 2
    assert "contains no artifact" in result.error()[0]


def test_a_plan_is_printed_and_nothing_done(call: Call, model: Path, tmp_path: Path) -> None:
    result = call("compile", model, "--runtime", "ort", "-o", tmp_path / "out", "--dry-run")
    assert result.json()["schema"] == "edgewright.compile-plan/1"
    assert result.json()["source_sha256"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--runtime", "nobody"), "unknown runtime"),
        (("--precision", "w3"), "--precision w3"),
        (("--runtime", "ort", "-p", "color=blue"), "no option 'color'"),
        (("--runtime", "litert", "-p", "io=sideways"), "does not support io=sideways"),
        (("--samples", "0"), "--samples 0"),
        (("--inputs", "absent.npz"), "file not found"),
        (("--shape", "z=1"), "no such input"),
        (("--shape", "x=1,3,9"), "does not fit"),
        (("--fix", "x"), "'x' is not NAME=VALUE"),
        (("--fix", "x=inf"), "is not NAME=VALUE"),
        (("--fix", "z=1"), "no such input"),
        (("--fix", "x=1,2"), "--fix x=1,2 does not fit"),
    ],
)
def test_bad_words(call: Call, model: Path, tmp_path: Path, words: tuple[str, ...], what: str) -> None:
    result = call("compile", model, "-o", tmp_path / "out", "--runtime", "ort", *words)
    assert result.code == 2
    assert what in result.error()[0]
    assert not list((tmp_path / "out").glob("*"))


def test_an_output_that_is_a_file(call: Call, model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    result = call("compile", model, "-o", tmp_path / "out", "--runtime", "ort")
    assert result.code == 1
    assert "is a file" in result.err
    assert "--output" in result.err
    assert (tmp_path / "out").read_text() == "mine"


def test_labels_and_scaling_of_a_task_go_into_a_litert_file(call: Call, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    from tests.runtimes.litert.writer.test_metadata import read_metadata

    model = write_conv_net(tmp_path / "m.onnx")
    assert call("task", "init", model, "-o", tmp_path / "t.toml").code == 0
    text = (tmp_path / "t.toml").read_text().replace("scale = 1.0", "scale = 0.5")
    (tmp_path / "t.toml").write_text(text.replace('name = "y"', 'name = "y"\nlabels = "names.txt"'))
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")
    result = call(
        "compile", model, "--runtime", "litert", "--task", tmp_path / "t.toml", "-o", tmp_path / "out", "--json"
    )
    assert result.code == 0
    data = Path(result.json()["artifacts"][0]["path"]).read_bytes()
    packed = read_metadata(data)
    assert struct.pack("<3f", 2 * 123.675, 2 * 116.28, 2 * 103.53) in packed
    assert struct.pack("<3f", 2 * 58.395, 2 * 57.12, 2 * 57.375) in packed
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.read("labels.txt").decode().split() == ["a", "b", "c", "d", "e"]
    (tmp_path / "names.txt").write_text("a\nb\n")
    wrong = call("compile", model, "--runtime", "litert", "--task", tmp_path / "t.toml", "-o", tmp_path / "out")
    assert wrong.code == 2
    assert "the labels file has 2 classes, the model 5" in wrong.error()[0]


def test_advice_on_precisions_names_what_works(call: Call, folder: Path) -> None:
    write_conv_net(folder / "m.onnx")
    result = call("compile", "m.onnx", "--precision", "int8")
    assert result.code == 2
    assert result.error()[2] == "edgewright quantize MODEL --precision w8a8 --task task.toml --data DATA"
    assert check_error(CompileCell(runtime="ncnn", precision="w8")).try_this == "--precision fp16 or w8a8"
    assert check_error(CompileCell(runtime="ncnn", precision="bf16")).try_this == "--precision fp32 or fp16"


def check_error(cell: CompileCell) -> ModelNotConvertible:
    with pytest.raises(ModelNotConvertible) as caught:
        check_cell(cell, find_runtime(cell.runtime))
    return caught.value
