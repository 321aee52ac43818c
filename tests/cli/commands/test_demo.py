"""Failures of the demo."""

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
