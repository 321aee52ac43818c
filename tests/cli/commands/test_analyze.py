"""`edgewright analyze`."""

from pathlib import Path

import msgspec
import pytest

from edgewright.flows.analyze.report import Analysis
from tests.cli.calling import Call
from tests.models.onnx_files import node, value, write_conv_net, write_onnx


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_conv_net(tmp_path / "m.onnx", batch="n")


def test_json_is_as_documented(call: Call, model: Path) -> None:
    result = call("analyze", model, "--json")
    assert result.code == 0
    analysis = msgspec.convert(result.json(), Analysis)
    assert analysis.schema == "edgewright.analysis/1"
    assert {report.runtime for report in analysis.runtimes} == {
        "onnxruntime", "litert", "ncnn", "mnn", "openvino", "executorch", "coreml",
    }  # fmt: skip
    assert analysis.costs.macs == 4 * 64 * 27 + 20


def test_the_tables(call: Call, model: Path) -> None:
    result = call("analyze", model, "--runtime", "ort,ncnn")
    facts = {row["fact"]: row["value"] for row in result.rows()}
    assert facts["MACs"] == "6.93 k (6,932)"
    assert facts["input"] == "x float32[1, 3, 8, 8]"
    assert "opset 18" in facts["format"]
    lines = result.out.split("\n\n")[1].splitlines()
    assert lines[0].split("\t")[:5] == ["runtime", "unit", "backend", "operators", "partitions"]
    assert [line.split("\t")[:5] for line in lines[1:]] == [
        ["onnxruntime", "CPU", "MLAS", "5 of 5", "1"],
        ["onnxruntime", "NPU", "QNN HTP", "5 of 5", "1"],
        ["ncnn", "CPU", "CPU", "5 of 5", "1"],
        ["ncnn", "GPU", "Vulkan", "5 of 5", "1"],
    ]
    assert "assumed to be 1" in result.err


def test_layers(call: Call, model: Path) -> None:
    result = call("analyze", model, "--runtime", "ort", "--layers", "--shape", "x=2,3,8,8")
    lines = result.out.split("\n\n")[-1].splitlines()
    assert lines[0].split("\t")[1:5] == ["name", "operator", "output", "MACs"]
    assert lines[1].split("\t")[1:5] == ["conv", "Conv", "2×4×8×8 float32", str(2 * 4 * 64 * 27)]
    assert len(lines) == 6
    assert "assumed to be 1" not in result.err


def test_what_is_not_supported_is_an_answer(call: Call, tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", [node("Det", ["x"], ["y"], "det")], [value("x", [3, 3])], [value("y", [])])
    result = call("analyze", path, "--runtime", "openvino")
    assert result.code == 0
    rows = [line.split("\t") for line in result.out.split("\n\n")[2].splitlines()]
    assert rows[0] == ["runtime", "unit", "operator", "nodes", "kind", "reason", "fix"]
    assert rows[1][:5] == ["openvino", "all", "Det", "det", "operator"]
    assert "onnxruntime" in rows[1][6]


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (("--runtime", "nobody"), 2, "unknown runtime"),
        (("--shape", "z=1"), 2, "no such input"),
        (("--shape", "x=1,3,9"), 2, "does not fit"),
    ],
)
def test_bad_words(call: Call, model: Path, words: tuple[str, ...], code: int, what: str) -> None:
    result = call("analyze", model, *words)
    assert result.code == code
    assert what in result.error()[0]


def test_bad_files(call: Call, tmp_path: Path) -> None:
    assert call("analyze", tmp_path / "absent.onnx").code == 2
    (tmp_path / "m.onnx").write_bytes(b"\x08\x0a garbage")
    assert call("analyze", tmp_path / "m.onnx").code == 6
