"""`edgewright gate`: baselines, goals, files for CI systems, and what a hostile baseline cannot do."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from edgewright.cli.registry import find_command, list_options
from edgewright.flows.demo.flow import get_digits_folder
from tests.cli.calling import Call
from tests.models.onnx_files import write_conv_net
from tests.paths import ROOT

DIGITS = get_digits_folder()
QUICK = ("--runs", 3, "--warmup-seconds", 0.01)
GATE = ("gate", "m.pretend", "--baseline", "b.json")


VALID = {
    "schema": "edgewright.baseline/1", "model": "m.pretend", "model_sha256": "0", "runtime": "pretend",
    "precision": "", "device": {"name": "local"}, "date": "2026-11-30", "edgewright": "0.1.0", "options": {},
    "figures": {},
}  # fmt: skip


def write(call: Call, *words: object) -> Any:
    result = call(*GATE, "--write", "--processes", 1, *QUICK, "-p", "latency_us=20", *words, "--json")
    assert result.code == 0, result.err
    return result.json()


def test_a_slower_model_fails_and_an_equal_one_passes(call: Call, folder: Path) -> None:
    report = write(call, "--goal", "latency<=1.5x")
    assert (report["written"], report["passed"], report["checks"]) == (True, True, [])
    baseline = json.loads((folder / "b.json").read_text())
    assert baseline["options"] == {"option": ["latency_us=20"], "runs": 3, "processes": 1, "warmup_seconds": 0.01}
    assert str(folder) not in (folder / "b.json").read_text()
    slow = call(*GATE, "--processes", 6, "-p", "latency_us=2000", "--junit", "o.xml", "--summary", "s.md", "--json")
    assert slow.code == 3
    (check,) = slow.json()["checks"]
    assert (check["goal"], check["state"], check["method"]) == ("latency<=1.5x", "missed", "interleaved")
    assert 1.5 < check["low"] <= check["value"] <= check["high"]
    what, why, _ = slow.error()
    assert what == "m.pretend fails 1 of 1 goal"
    assert why.startswith("latency<=1.5x is missed: ")
    suites = ElementTree.parse(folder / "o.xml").getroot()
    assert suites.attrib == {"tests": "1", "failures": "1", "skipped": "0", "errors": "0"}
    assert "missed" in suites[0][0][0].attrib["message"]
    assert "### Gate failed: m.pretend in pretend" in (folder / "s.md").read_text()
    assert "| `latency<=1.5x` | **missed** |" in (folder / "s.md").read_text()
    runs = call("runs", "list", "--json").json()["runs"]
    assert sorted(run["kind"] for run in runs) == ["benchmark", "benchmark", "benchmark", "gate"]


def test_without_the_baselines_model_its_figures_are_used(call: Call, folder: Path, monkeypatch: Any) -> None:
    write(call)
    monkeypatch.setenv("EDGEWRIGHT_HOME", str(folder / "another-home"))
    (folder / "m.pretend").write_bytes(b"pretend, longer")
    result = call(*GATE, "--goal", "bytes<=1x, latency<=9x", "--undecided", "fail", "--json")
    assert result.code == 3
    size, latency = result.json()["checks"]
    assert (size["state"], size["value"]) == ("missed", 15 / 7)
    assert (latency["state"], latency["method"]) == ("not shown", "sessions")
    assert "6 processes" in latency["reason"]
    assert "is not at hand" in result.err
    assert result.error()[0] == "m.pretend fails 2 of 2 goals"


def test_accuracy_and_a_free_batch(call: Call, folder: Path) -> None:
    data = ("--task", DIGITS / "task.toml", "--data", DIGITS / "heldout.npz", "--samples", 50)
    words = ("gate", DIGITS / "digits.onnx", "--baseline", "b.json", "--runs", 3, "--processes", 1)
    written = call(*words, "--write", *data)
    assert written.code == 0, written.err
    assert "--task is outside of the folder of the baseline" in written.err
    assert str(DIGITS) not in (folder / "b.json").read_text()
    result = call("gate", DIGITS / "digits_int8.onnx", "--baseline", "b.json", *data, "--goal", "metric>50%, drop<90")
    assert result.code == 0, result.err
    assert [(row["goal"], row["state"]) for row in result.rows()] == [("metric>50%", "met"), ("drop<90", "met")]
    assert result.rows()[1]["method"] == "paired samples"
    write_conv_net(folder / "free.onnx", batch="n")
    free = call("gate", "free.onnx", "--baseline", "f.json", "--write", "--runs", 3, "--processes", 1)
    assert free.code == 0
    assert "the free batch of input 'x' is 1" in free.err


@pytest.mark.parametrize(
    ("goal", "what", "why"),
    [
        ("latncy<1ms", "unknown metric 'latncy'", "latency, p90, p95, memory, bytes"),
        ("latency<1", "has no unit", "us, ms, s"),
        ("drop<1", "cannot produce", "with --task and --data also metric and drop"),
        ("offload<1%", "cannot produce", "latency, p90, p95, memory, bytes"),
    ],
)
def test_wrong_goals_are_rejected_before_anything_runs(
    call: Call, folder: Path, goal: str, what: str, why: str
) -> None:
    (folder / "b.json").write_text(json.dumps(VALID))
    result = call(*GATE, "--goal", goal)
    assert result.code == 2
    assert what in result.error()[0]
    assert why in result.error()[1]
    assert call("runs", "list", "--json").json()["runs"] == []


@pytest.mark.parametrize(
    ("changes", "what", "why"),
    [
        (None, "there is no baseline b.json", "compared with a baseline"),
        ("{", "b.json is not a baseline", "truncated"),
        ("[" * 9999, "b.json is not a baseline", ""),
        ({"options": {"shell": "rm"}}, "b.json is not a baseline", "unknown field `shell`"),
        ({"schema": "edgewright.baseline/9"}, "b.json has schema edgewright.baseline/9", "reads edgewright.baseline/1"),
        ({"figures": {"latency": {"value": -1}}}, "b.json is not a baseline", "latency is not positive"),
        ({"figures": {"latency": {"value": 1, "low": 2, "high": 3}}}, "b.json is not a baseline", "outside"),
        ({"figures": {"latency": {"value": 1e-320}}}, "b.json is not a baseline", "latency is not between"),
        ({"figures": {"metric": {"value": -1e200}}}, "b.json is not a baseline", "metric is not between"),
        ({"figures": {"latency": {"value": 2, "low": 3, "high": 1}}}, "b.json is not a baseline", "outside"),
        ({"figures": {"bytes": {"value": 1, "confidence": 1.5}}}, "b.json is not a baseline", "between 0 and 1"),
        ({"figures": {"speed": {"value": 1}}}, "b.json is not a baseline", "'speed' is none of the figures"),
        ({"options": {"data": "/etc/passwd", "task": "t"}}, "'/etc/passwd' is outside", "downloaded"),
        ({"options": {"inputs": "../secret.npz"}}, "'../secret.npz' is outside", "downloaded"),
        ({"options": {"data": "evil.py:make", "task": "t"}}, "code that is not allowed to run", "may be downloaded"),
        ({"options": {"processes": 10**9}}, "--processes 1000000000 cannot be used", "10000"),
        ({"device": {"name": "pi"}}, "measured on the device 'pi'", "differ by device"),
        ({"goals": "speed>9"}, "unknown metric 'speed'", "the known metrics are"),
        ({"model": "../m.pretend", "runtime": "nobody"}, "", ""),
    ],
)
def test_a_bad_baseline_is_an_error(call: Call, folder: Path, changes: Any, what: str, why: str) -> None:
    (folder / "evil.py").write_text("from pathlib import Path\nPath('it-ran').touch()\n")
    if changes is not None:
        text = changes if isinstance(changes, str) else json.dumps({**VALID, **changes})
        (folder / "b.json").write_text(text)
    result = call(*GATE, "--processes", 1, *QUICK) if not (changes and "processes" in str(changes)) else call(*GATE)
    assert not (folder / "it-ran").exists()
    if what:
        assert result.code == 2, result.err
        assert what in result.error()[0]
        assert why in result.error()[1]
    else:
        assert result.code == 0, result.err  # its model is not at hand, so its runtime is not used


def test_the_action_gives_options_of_the_command() -> None:
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    command = find_command("gate")
    assert command is not None
    known = {name for option in list_options(command).values() for name in option.opts}
    used = set(re.findall(r"(?<![-\w])--[a-z-]+", text.partition('edgewright gate "$MODEL"')[2]))
    assert used == {"--baseline", "--goal", "--undecided", "--junit", "--summary"}
    assert used <= known
    names = set(re.findall(r"inputs\.(\w+)", text))
    assert names == set(re.findall(r"^  (\w+):$", text.partition("\nruns:")[0], re.MULTILINE))


@pytest.mark.slow  # fifteen processes
def test_the_example_runs(folder: Path) -> None:
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    program = bin_folder / "edgewright"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edgewright "$@"\n')
    program.chmod(0o755)
    environ = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "PROCESSES": "2"}
    environ.pop("GITHUB_STEP_SUMMARY", None)
    work = folder / "try"
    work.mkdir()
    done = subprocess.run(["sh", ROOT / "examples/ci_gate.sh"], cwd=work, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (work / "gate.xml").is_file()
    assert "### Gate passed" in (work / "summary.md").read_text()


def test_a_project_file_names_no_code_and_a_folder_no_link_outside(call: Call, folder: Path) -> None:
    (folder / "evil.py").write_text("from pathlib import Path\nPath('it-ran').touch()\n")
    (folder / "b.json").write_text(json.dumps(VALID))
    (folder / "edgewright.toml").write_text('[gate]\ndata = "evil.py:make"\n')
    assert "[gate] data" in call(*GATE, "--task", DIGITS / "task.toml").error()[0]
    (folder / "edgewright.toml").unlink()
    (folder / "data").mkdir()
    (folder / "data" / "labels.csv").symlink_to("/etc/passwd")
    (folder / "b.json").write_text(json.dumps({**VALID, "options": {"data": "data"}}))
    result = call(*GATE, "--task", DIGITS / "task.toml")
    assert result.code == 2
    assert "labels.csv" in result.error()[0]
    assert not (folder / "it-ran").exists()


def test_files_are_checked_before_anything_is_measured(call: Call, folder: Path) -> None:
    (folder / "b.json").write_text("{")
    broken = call(*GATE, "--write")
    assert broken.code == 2
    assert broken.error()[2] == "remove b.json, or choose another file"
    assert (folder / "b.json").read_text() == "{"
    for words in (
        ("--baseline", "absent/b.json", "--write"),
        ("--baseline", "c.json", "--write", "--junit", "no/o.xml"),
    ):
        result = call("gate", "m.pretend", *words)
        assert (result.code, "does not exist" in result.error()[1]) == (1, True)
    assert call("runs", "list", "--json").json()["runs"] == []
