"""`edgewright benchmark`."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import msgspec
import numpy as np
import pytest

from edgewright.bench.feeds import write_feeds
from edgewright.cli.commands.benchmark import ALLOWED_WITH_PLAN, benchmark
from edgewright.errors import RuntimeMissing
from edgewright.flows.benchmark.report import BenchmarkReport
from edgewright.schema.plan import BenchmarkPlan
from tests.cli.calling import HEEDING, QUICK, Call
from tests.models.onnx_files import node, value, write_conv_net, write_onnx

ZERO_IS_FINE = {"--cool-below", "--seed", "--threshold", "--fail-on-fallback"}
NUMBERS = [
    option.opts[-1]
    for option in benchmark.params
    if isinstance(option, click.Option) and option.type.name in ("integer", "float", "percent")
]


# Invalid numbers


def test_there_are_numbers() -> None:
    assert {"--rate", "--runs", "--processes", "--timeout", "--power-w", "--fail-on-fallback"} <= set(NUMBERS)


@pytest.mark.parametrize("flag", NUMBERS)
def test_numbers_that_make_no_sense(call: Call, flag: str) -> None:
    below_zero = ["-1"] if flag != "--cool-below" else []
    for word in (*below_zero, "nan", "inf", "-inf", "two", "", "1e999", "9" * 40):
        result = call("benchmark", "m.pretend", "--dry-run", f"{flag}={word}")
        assert (result.code, result.out) == (2, ""), (flag, word)
        assert flag in " ".join(result.error())
    assert call("benchmark", "m.pretend", "--dry-run", flag, "0").code == (0 if flag in ZERO_IS_FINE else 2)


def test_a_gate_over_100_percent(call: Call) -> None:
    assert call("benchmark", "m.pretend", "--dry-run", "--fail-on-fallback", "100.1").code == 2


# Exit codes


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "no model is given"),
        (["absent.onnx"], 2, "absent.onnx"),
        (["."], 2, "contains no artifact"),
        (["empty.onnx"], 6, "is empty"),
        (["random.onnx"], 6, "random.onnx"),
        (
            ["m.pretend", "--runtime", "tensorflow"],
            2,
            "known: onnxruntime, litert, ncnn, mnn, openvino, executorch, coreml,",
        ),
        (["m.pretend", "--runtime", "litert"], 2, "is not supported by litert"),
        (["m.pretend", "--runtime", ","], 2, "is empty"),
        (["m.pretend", "-p", "speed=1"], 2, "known: latency-us"),
        (["m.pretend", "-p", "fail=often"], 2, "known values: never"),
        (["m.pretend", "--on", "pixel8"], 4, "pixel8"),
        (["m.pretend", "--inputs", "absent.npz"], 2, "absent.npz"),
        (["free.onnx", "--shape", "z=1,3,8,8"], 2, "no model has this input"),
        (["free.onnx", "--shape", "x=1,3,9,8"], 2, "does not fit"),
        (["free.onnx", "--shape", "x=99999999,3,8,8"], 6, "memory limit reached"),
        (["free.onnx", "--inputs", "wrong.npz"], 2, "is float64"),
        (["free.onnx", "--inputs", "free.onnx"], 2, "is not a readable .npz file"),
        (["--plan", "absent.json"], 2, "absent.json"),
        (["--plan", "free.onnx"], 2, "is not a plan"),
    ],
)
def test_exit_codes(call: Call, folder: Path, words: list[str], code: int, said: str) -> None:
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "random.onnx").write_bytes(bytes(range(256)))
    write_conv_net(folder / "free.onnx", batch="N")
    write_feeds(folder / "wrong.npz", {"x": np.zeros((1, 3, 8, 8))})
    result = call("benchmark", *words)
    assert (result.code, result.out) == (code, "")
    assert said in " ".join(result.error())
    assert call("runs", "list").rows() == []


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("open", 6, "rejects"),
        ("run", 6, "as requested by fail=run"),
        ("segfault", 1, "SIGSEGV"),
        ("exit", 1, "exited with code 3"),
    ],
)
def test_a_worker_that_fails(call: Call, how: str, code: int, said: str) -> None:
    result = call("benchmark", "m.pretend", *QUICK, "-p", f"fail={how}")
    assert result.code == code
    assert said in " ".join(result.error())
    assert [row["verdict"] for row in result.rows()] == ["failed"]
    (kept,) = call("runs", "list", "--state", "failed", "--json").json()["runs"]
    assert said in kept["error"]


def test_a_worker_that_hangs(call: Call) -> None:
    result = call("benchmark", "m.pretend", *QUICK, "-p", "fail=hang", "--timeout", "1")
    assert result.code == 124
    assert "--timeout" in result.error()[2]


def test_a_runtime_that_is_not_installed(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgewright.devices import local

    def start(*_: object) -> None:
        raise RuntimeMissing("the runtime pretend cannot be used here", "no module", "pip install it")

    monkeypatch.setattr(local, "start_worker", start)
    result = call("benchmark", "m.pretend", *QUICK)
    assert result.code == 5
    assert result.error()[2] == "pip install it"


# Output


def test_json_is_one_object_of_the_documented_kind(call: Call) -> None:
    result = call("benchmark", "m.pretend", "m.pretend", *QUICK, "--layers", "--layer-runs", "2", "--json")
    assert result.code == 0
    assert result.out.count("\n") == 1
    report = msgspec.json.decode(result.out, type=BenchmarkReport, strict=True)
    assert report.schema == "edgewright.benchmark/1"
    assert [run.state for run in report.runs] == ["done", "done"]
    assert [(comparison.a, comparison.b) for comparison in report.comparisons] == [
        (report.runs[0].run_id, report.runs[1].run_id)
    ]
    kept = call("runs", "show", report.runs[0].run_id, "--json").json()
    assert kept["schema"] == "edgewright.run/1"
    p50 = next(metric for metric in kept["run"]["metrics"] if metric["name"] == "latency.p50")
    assert report.runs[0].latency_us is not None
    assert p50["value"] == report.runs[0].latency_us.p50
    assert [layer["name"] for layer in kept["run"]["layers"]] == [layer.name for layer in report.runs[0].layers]
    assert [warning["code"] for warning in kept["run"]["warnings"]] == [one.code for one in report.runs[0].warnings]


def test_a_pipe_gets_tabs_and_nothing_but_the_answer(call: Call) -> None:
    result = call("benchmark", "m.pretend", *QUICK)
    assert result.code == 0
    (row,) = result.rows()
    assert row["model"] == "m.pretend"
    assert row["runtime"] == "pretend"
    assert "process 1 of 1" not in result.out
    assert "process 1 of 1" in result.err
    assert "too-few-processes" in result.err


def test_layers_are_summed_up(call: Call) -> None:
    result = call("benchmark", "m.pretend", *QUICK, "--layers", "--layer-runs", "2", "-p", "fallback=0.5")
    assert "the sum of " in result.out
    assert "partitions: 2, fallbacks: 1" in result.out
    assert "fallback)" in result.err


def test_the_gate(call: Call) -> None:
    words = ("benchmark", "m.pretend", *QUICK, "--layers", "--layer-runs", "2", "-p", "fallback=0.5")
    assert call(*words, "--fail-on-fallback", "60").code == 0
    result = call(*words, "--fail-on-fallback", "40")
    assert result.code == 3
    assert "50.0%" in result.error()[0]
    assert len(result.rows()) == 1
    assert call("benchmark", "m.pretend", *QUICK, "--fail-on-fallback", "40").code == 3  # unknown without layers
    states = {run["state"] for run in call("runs", "list", "--json").json()["runs"]}
    assert states == {"done"}


def test_tags(call: Call) -> None:
    assert call("benchmark", "m.pretend", *QUICK, "--tag", "who=me", "--tag", "why=a=b").code == 0
    assert call("runs", "list", "--tag", "who=me").rows()[0]["tags"] == "who=me, why=a=b"
    assert call("runs", "list", "--tag", "who=you").rows() == []


def test_a_free_batch_is_1(call: Call, folder: Path) -> None:
    write_conv_net(folder / "free.onnx", batch="N")
    words = ("benchmark", "free.onnx", "--processes", 1, "--runs", 3, "--warmup-seconds", 0.01, "--no-layers")
    result = call(*words, "--json")
    assert result.code == 0
    assert "Note: the free batch of input 'x' is 1; --shape x=SIZES sets another." in result.err
    assert call("benchmark", "free.onnx", "--dry-run").json()["shapes"] == {"x": [1, 3, 8, 8]}
    assert "Note" not in call(*words, "--shape", "x=2,3,8,8").err


# Plans


def test_a_dry_run_is_a_plan(call: Call, folder: Path) -> None:
    write_conv_net(folder / "free.onnx", batch="N")
    words = (
        "free.onnx",
        "m.pretend",
        "--runtime",
        "ort,pretend",
        "--shape",
        "x=2,3,8,8",
        "--threads",
        "2",
        "-p",
        "noise=0",
    )
    result = call("benchmark", *words, "--dry-run")
    assert result.code == 0
    plan = msgspec.json.decode(result.out, type=BenchmarkPlan)
    assert [(one.model, one.runtime) for one in plan.candidates] == [
        ("free.onnx", "onnxruntime"),
        ("free.onnx", "pretend"),
        ("m.pretend", "pretend"),
    ]
    assert all(len(one.model_sha256) == 64 for one in plan.candidates)
    (folder / "plan.json").write_text(result.out)
    again = call("benchmark", "--plan", "plan.json", "--dry-run")
    assert again.out == result.out
    assert call("runs", "list").rows() == []


def test_a_plan_is_measured(call: Call, folder: Path) -> None:
    (folder / "plan.json").write_text(call("benchmark", "m.pretend", *QUICK, "--dry-run").out)
    result = call("benchmark", "--plan", "plan.json", "--json", "--tag", "from=plan")
    assert result.code == 0
    report = msgspec.json.decode(result.out, type=BenchmarkReport)
    assert report.runs[0].latency_us is not None
    assert report.runs[0].latency_us.n == 3


@pytest.mark.parametrize("words", [["m.pretend"], ["--threads", "2"], ["--shape", "x=1"], ["--timeout", "3"]])
def test_options_of_a_plan_cannot_be_combined_with_it(call: Call, folder: Path, words: list[str]) -> None:
    (folder / "plan.json").write_text(call("benchmark", "m.pretend", "--dry-run").out)
    result = call("benchmark", "--plan", "plan.json", "--dry-run", *words)
    assert result.code == 2
    assert "cannot be combined" in result.error()[0]


def test_config_defaults_do_not_disturb_a_plan(call: Call, folder: Path) -> None:
    text = call("benchmark", "m.pretend", "--dry-run").out
    (folder / "plan.json").write_text(text)
    (folder / "edgewright.toml").write_text("[benchmark]\nthreads = 4\n")
    assert call("benchmark", "--plan", "plan.json", "--dry-run").out == text


def test_every_option_is_either_of_the_plan_or_beside_it() -> None:
    names = {str(param.name) for param in benchmark.params}
    fields = set(BenchmarkPlan.__struct_fields__)
    before = {"precision", "task_file", "data", "allow_code"}  # what a model is compiled to before it is measured
    beside = {"phases", "policies", "scenario"}  # of another measurement
    assert names - fields == {*ALLOWED_WITH_PLAN, "models", "runtime", "options", "sustain", *before, *beside}
    assert fields - names == {"schema", "candidates", "inputs_sha256", "sustain_seconds", "phase_task", "phase_data"}


# Real runtimes


def test_a_shape_hint_can_be_typed(call: Call, folder: Path) -> None:
    sizes: list[int | str | None] = ["N", 3, "H", 8]
    write_onnx(folder / "free.onnx", [node("Neg", ["x"], ["y"])], [value("x", sizes)], [value("y", sizes)])
    hint = call("benchmark", "free.onnx").error()[2]
    quick = ("--processes", "1", "--runs", "3", "--warmup-seconds", "0.05", "--layer-runs", "2")
    result = call("benchmark", "free.onnx", *hint.removeprefix("set them with ").split(), *quick, "--json")
    assert result.code == 0, result.err
    report = msgspec.json.decode(result.out, type=BenchmarkReport)
    assert report.runs[0].runtime == "onnxruntime"
    assert report.runs[0].layers
    assert sum(report.runs[0].path.values()) == pytest.approx(1.0)


# Ctrl-C


def test_a_real_ctrl_c(call: Call, folder: Path) -> None:
    script = f"{HEEDING}; from edgewright.cli import main; main()"
    words = ["benchmark", "m.pretend", "--processes", "500", "--runs", "5", "--warmup-seconds", "0.01", "--no-layers"]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stderr is not None
    try:
        assert b"process 1 of 500" in process.stderr.readline()
        time.sleep(1.0)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert out == b""
    assert b"Traceback" not in err
    assert b"Error: stopped by Ctrl-C" in err
    (kept,) = call("runs", "list", "--state", "cancelled", "--json").json()["runs"]
    shown = call("runs", "show", kept["id"]).out
    assert "cancelled" in shown
