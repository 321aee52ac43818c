"""The demo where something fails."""

from typing import Any

import msgspec
import pytest

from edgewright.errors import WorkerCrashed
from edgewright.flows import demo
from edgewright.flows.benchmark import Outcome, benchmark
from edgewright.runtimes.table import TABLE
from tests.cli.calling import Call


def test_no_runtime_is_told_as_such(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    told = call("demo")
    assert told.code == 5
    _, why, _ = told.error()
    assert "pip install onnxruntime brings ONNX Runtime" in why
    assert "pip install ai-edge-litert brings LiteRT" in why
    assert call("runs", "list").rows() == []


@pytest.mark.parametrize("words", [("demo",), ("demo", "--json")])
def test_a_failure_does_not_cost_the_table(call: Call, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    whole = benchmark

    def fail_last(plan: Any, *rest: Any) -> Outcome:
        quick = msgspec.structs.replace(plan, processes=1, runs=3, warmup_seconds=0.01, layers=False)
        outcome = whole(quick, *rest)
        runs = (*outcome.runs[:-1], msgspec.structs.replace(outcome.runs[-1], state="failed"))
        return msgspec.structs.replace(outcome, runs=runs, error=WorkerCrashed("the last one died"))

    monkeypatch.setattr(demo, "TABLE", {"onnxruntime": TABLE["onnxruntime"]})
    monkeypatch.setattr(demo, "benchmark", fail_last)
    told = call(*words)
    assert told.code == 1
    assert told.error()[0] == "the last one died"
    if "--json" in words:
        assert len(told.json()["benchmark"]["runs"]) == 2
    else:
        assert [row["verdict"] for row in told.rows()] == ["reference", "failed"]
