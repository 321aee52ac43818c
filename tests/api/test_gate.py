"""`edgewright.gate`, and the pytest plugin."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgewright
from edgewright.errors import EdgewrightError, GateFailed, UsageError
from tests.api.conftest import DIGITS

QUICK: dict[str, Any] = {"processes": 1, "runs": 3, "warmup_seconds": 0.01, "option": {"latency_us": "20"}}
NOTHING: dict[str, Any] = {}
PLUGIN = ("-p", "no:cacheprovider", "-p", "no:edgewright", "-p", "edgewright.pytest_plugin")
SUITE = """
QUICK = {"processes": 1, "runs": 3, "warmup_seconds": 0.01, "option": ["latency_us=20"]}

def test_size(edgewright_benchmark):
    edgewright_benchmark("m.pretend", goal="bytes<=1x", **QUICK)
"""


def test_a_gate_writes_and_checks_a_baseline(folder: Path) -> None:
    written = edgewright.gate("m.pretend", baseline="b.json", write=True, **QUICK)
    assert (written.verdict, written.rows) == ("written", ())
    assert written.answer == "b.json has the figures of m.pretend in pretend."
    assert written.table().rows[0][:2] == ("bytes", "7")
    met = edgewright.gate(Path("m.pretend"), baseline=Path("b.json"), goal="bytes<=1x")
    assert (met.verdict, met.to_dict()["schema"]) == ("passed", "edgewright.gate/1")
    assert "bytes&lt;=1x" in met._repr_html_()
    assert len(met.run_ids) == 1
    (folder / "m.pretend").write_bytes(b"pretend, longer")
    with pytest.raises(GateFailed) as caught:
        edgewright.gate("m.pretend", baseline="b.json", goal="bytes<=1x", junit="o.xml")
    assert caught.value.result.verdict == "failed"
    assert caught.value.result.answer == "m.pretend in pretend fails: bytes<=1x is missed: 2.143×."
    assert (folder / "o.xml").is_file()


def test_a_goal_that_is_not_shown_is_measured_three_times_at_most(folder: Path) -> None:
    """Two processes give no interval with 95 % confidence, nor do four; six do."""
    edgewright.gate("m.pretend", baseline="b.json", write=True, **QUICK | {"processes": 2})
    result = edgewright.gate("m.pretend", baseline="b.json", goal="latency<=1000x, bytes<=1x")
    assert [one.state for one in result.rows] == ["met", "met"]
    assert result.rows[0].confidence is not None
    assert result.rows[0].confidence > 0.95
    assert len(result.report.runs) == 2 * 3
    assert "3 sessions were measured" in result.report.notes[-1]


def test_wrong_keywords(folder: Path) -> None:
    with pytest.raises(UsageError, match="no baseline is given"):
        edgewright.gate("m.pretend", **NOTHING)
    with pytest.raises(UsageError, match="undecided= maybe is unknown"):
        edgewright.gate("m.pretend", baseline="b.json", write=True, undecided="maybe", **QUICK)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ({"junit": "m.pretend"}, "m.pretend would be overwritten"),
        ({"summary": "link.md"}, "link.md would be overwritten"),
        ({"summary": "x.npz", "inputs": "x.npz"}, "x.npz would be overwritten"),
        ({"junit": "data/../f.py", "task": "t.toml", "data": "f.py:make"}, "f.py would be overwritten"),
        ({"junit": "new", "summary": "./new"}, "new is given for two outputs"),
        ({"junit": "new.json", "baseline": "new.json", "write": True}, "new.json is given for two outputs"),
    ],
)
def test_results_overwrite_nothing_that_is_read(folder: Path, words: dict[str, Any], what: str) -> None:
    edgewright.gate("m.pretend", baseline="b.json", write=True, **QUICK)
    Path("data").mkdir()
    Path("link.md").symlink_to("b.json")
    np.savez("x.npz", x=np.zeros(1))
    Path("t.toml").write_bytes((DIGITS / "task.toml").read_bytes())
    Path("f.py").touch()
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(EdgewrightError, match=what):
        edgewright.gate("m.pretend", **{"baseline": "b.json", **QUICK, **words})
    assert {path: path.read_bytes() for path in before} == before


def run_pytest(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", *PLUGIN, "-q", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_the_fixture_of_pytest(folder: Path) -> None:
    (folder / "test_speed.py").write_text(SUITE)
    first = run_pytest(folder)
    assert "there is no baseline" in first.stdout
    assert "--edgewright-write" in first.stdout
    assert first.returncode == 1
    assert run_pytest(folder, "--edgewright-write").returncode == 0
    assert (folder / "baselines" / "test_size.json").is_file()
    assert run_pytest(folder).returncode == 0
    (folder / "m.pretend").write_bytes(b"pretend, longer")
    slower = run_pytest(folder)
    assert slower.returncode == 1
    assert "bytes<=1x is missed: 2.143×" in slower.stdout


def test_the_plugin_loads_nothing_but_pytest() -> None:
    code = (
        "import sys, pytest, edgewright.pytest_plugin; print([n for n in sys.modules if n.startswith('edgewright.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['edgewright.telemetry', 'edgewright.pytest_plugin']"
