"""Failures of the demo, and the copy of its files."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgewright.errors import WorkerCrashed
from edgewright.flows.benchmark.flow import BenchmarkOutcome, benchmark
from edgewright.flows.demo import flow
from edgewright.runtimes.table import TABLE
from tests.cli.calling import Call


def test_no_runtime_is_an_error(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "find_spec", lambda name: None)
    result = call("demo")
    assert result.code == 5
    _, why, _ = result.error()
    assert "ONNX Runtime is not installed (pip install onnxruntime)" in why
    assert "LiteRT is not installed (pip install ai-edge-litert)" in why
    assert call("runs", "list").rows() == []


@pytest.mark.parametrize("words", [("demo",), ("demo", "--json")])
def test_a_failure_does_not_cost_the_table(call: Call, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    whole = benchmark

    def fail_last(plan: Any, *rest: Any) -> BenchmarkOutcome:
        quick = msgspec.structs.replace(plan, processes=1, runs=3, warmup_seconds=0.01, layers=False)
        outcome = whole(quick, *rest)
        runs = (*outcome.runs[:-1], msgspec.structs.replace(outcome.runs[-1], state="failed"))
        return msgspec.structs.replace(outcome, runs=runs, error=WorkerCrashed("the last one died"))

    monkeypatch.setattr(flow, "TABLE", {"onnxruntime": TABLE["onnxruntime"]})
    monkeypatch.setattr(flow, "benchmark", fail_last)
    result = call(*words)
    assert result.code == 1
    assert result.error()[0] == "the last one died"
    if "--json" in words:
        assert len(result.json()["benchmark"]["runs"]) == 2
    else:
        assert [row["verdict"] for row in result.rows()] == ["reference", "failed"]


def test_its_files_are_copied_and_never_overwritten(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "digits"
    rows = call("demo", "--copy", folder).rows()
    assert [Path(row["file"]).name for row in rows] == list(flow.DEMO_FILES)
    assert (folder / "digits.onnx").read_bytes() == (flow.get_digits_folder() / "digits.onnx").read_bytes()
    assert call("analyze", folder / "digits.onnx").code == 0
    (folder / "heldout.npz").unlink()
    again = call("demo", "--copy", folder, "--json")
    assert again.json() == {
        "schema": "edgewright.demo-files/1",
        "files": [str(folder / name) for name in flow.DEMO_FILES],
    }
    (folder / "task.toml").write_text("mine")
    (folder / "heldout.npz").unlink()
    second = call("demo", "--copy", folder)
    assert second.code == 2
    assert f"{folder / 'task.toml'} already exists" in second.error()[0]
    assert (folder / "task.toml").read_text() == "mine"
    assert not (folder / "heldout.npz").exists()
    assert call("runs", "list").rows() == []


def test_a_folder_that_cannot_be_written_is_an_output_error(call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = call("demo", "--copy", tmp_path / "file" / "digits")
    assert result.code == 1
    assert str(tmp_path / "file" / "digits") in result.error()[0]
