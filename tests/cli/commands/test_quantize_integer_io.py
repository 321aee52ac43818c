"""`edgewright quantize --integer-io`."""

from pathlib import Path

import pytest

from edgewright.flows.demo.flow import get_digits_folder
from tests.cli.calling import Call


def test_the_plan_says_it(call: Call) -> None:
    words = ("--task", get_digits_folder() / "task.toml", "--data", get_digits_folder() / "heldout.npz", "--dry-run")
    for more, wanted in (((), False), (("--integer-io",), True)):
        result = call("quantize", get_digits_folder() / "digits.onnx", *words, *more)
        assert result.code == 0, result.err
        assert result.json()["integer_io"] is wanted


def test_artifacts_of_integers_and_one_that_stays_float(call: Call, tmp_path: Path) -> None:
    for name in ("ai_edge_litert", "openvino", "torch"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    result = call(
        "quantize", get_digits_folder() / "digits.onnx", "--task", get_digits_folder() / "task.toml",
        "--data", get_digits_folder() / "heldout.npz", "--samples", "40", "--runtime", "onnxruntime,litert,openvino",
        "--integer-io", "--no-measure", "-o", tmp_path, "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    rows = {row["runtime"]: row for row in result.json()["artifacts"]}
    assert {row["state"] for row in rows.values()} == {"ok"}
    assert rows["onnxruntime"]["notes"] == rows["litert"]["notes"] == []
    assert "inputs and outputs stay float32" in rows["openvino"]["notes"][-1]
    from edgewright.formats.artifacts import find_record

    dtypes = {}
    for name, row in rows.items():
        record = find_record(Path(row["path"]))
        assert record is not None
        dtypes[name] = {port.dtype for port in (*record.io_map.inputs, *record.io_map.outputs)}
    assert dtypes == {"onnxruntime": {"uint8"}, "litert": {"int8"}, "openvino": {"float32"}}
