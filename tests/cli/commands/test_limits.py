"""A model above the limits fails with exit code 6 and a message on how to raise them."""

import sys
from pathlib import Path

import numpy as np
import pytest

from edgewright.bench.feeds import write_feeds
from tests.cli.calling import Call
from tests.formats.bounds import nested_functions, write_endless_loop, write_range
from tests.models.tflite_files import Node, Tensor, write_tflite

HUGE = 1_000_000_000
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are under a limit on Linux alone")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWRIGHT_MEMORY_LIMIT", "64MB")


def test_analyze_goes_on_and_says_what_running_would_take(call: Call, tmp_path: Path) -> None:
    result = call("analyze", write_range(tmp_path / "m.onnx", HUGE), "--runtime", "ort", "--json")
    assert result.code == 0
    notes = result.json()["notes"]
    assert any("12.0 GB is needed" in note and "EDGEWRIGHT_MEMORY_LIMIT=16GB" in note for note in notes)


def test_analyze_rejects_what_it_cannot_hold(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(nested_functions(7).SerializeToString())
    result = call("analyze", path)
    assert result.code == 6
    what, why, hint = result.error()
    assert "10000000 operators" in what
    assert "64.0 MB (EDGEWRIGHT_MEMORY_LIMIT)" in why
    assert "EDGEWRIGHT_MEMORY_LIMIT=100GB" in hint


def test_compile_says_it_once(call: Call, tmp_path: Path) -> None:
    result = call("compile", write_range(tmp_path / "m.onnx", HUGE), "--runtime", "ort,litert", "-o", tmp_path / "o")
    assert result.code == 6
    what, why, hint = result.error()
    assert what == "memory limit reached: the constant that 'Cast#1' computes of the model"
    assert "12.0 GB is needed, and the memory limit is 64.0 MB (EDGEWRIGHT_MEMORY_LIMIT)" in why
    assert "EDGEWRIGHT_MEMORY_LIMIT=16GB" in hint
    assert not list((tmp_path / "o").glob("m*"))


def test_a_benchmark_keeps_the_reason_with_the_run(call: Call, tmp_path: Path) -> None:
    path = write_range(tmp_path / "m.onnx", HUGE)
    result = call("benchmark", path, "--processes", "1", "--runs", "2", "--no-layers", "--json")
    assert result.code == 6
    assert "EDGEWRIGHT_MEMORY_LIMIT" in result.error()[1]
    kept = call("runs", "list", "--json").json()
    assert any("memory limit reached" in str(run) for run in kept["runs"])


def test_a_runtime_that_does_not_name_memory(call: Call, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    tensors = [Tensor("a", (30_000, 1)), Tensor("b", (1, 30_000)), Tensor("c", (30_000, 30_000))]
    nodes = [Node("ADD", ("a", "b"), ("c",), "AddOptions")]
    path = write_tflite(tmp_path / "m.tflite", tensors, nodes, ["a", "b"], ["c"])
    result = call("benchmark", path, "--processes", "1", "--runs", "2", "--no-layers")
    assert result.code == 6
    assert result.error()[0] == "memory limit reached: the activations at 'ADD#0' of the model"


def test_a_model_that_runs_without_end(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWRIGHT_TIME_LIMIT", "2")
    result = call("compile", write_endless_loop(tmp_path / "m.onnx"), "--runtime", "ort,litert", "-o", tmp_path / "o")
    assert result.code == 6
    what, why, hint = result.error()
    assert what.startswith("time limit reached: m.onnx")  # on a busy machine the limit is reached while it is read
    assert "2 s (EDGEWRIGHT_TIME_LIMIT)" in why
    assert "EDGEWRIGHT_TIME_LIMIT=4" in hint


@pytest.mark.parametrize("command", [("benchmark", "--processes", "1"), ("invoke", "--inputs", "x.npz", "-o", "y.npz")])
def test_a_first_inference_without_end(
    command: tuple[str, ...], call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEWRIGHT_TIME_LIMIT", "2")
    write_feeds(Path("x.npz"), {"x": np.ones((1, 4), np.float32)})
    result = call(command[0], write_endless_loop(Path("m.onnx")), *command[1:])
    assert result.code == 6
    what, why, hint = result.error()
    assert what.startswith("time limit reached: m.onnx")
    assert why == "the time limit is 2 s (EDGEWRIGHT_TIME_LIMIT)"
    assert "EDGEWRIGHT_TIME_LIMIT=4" in hint
    assert not list(tmp_path.glob("y.npz*"))
