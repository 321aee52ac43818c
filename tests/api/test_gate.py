"""`edgewright.gate`, and the pytest plugin."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import edgewright
from edgewright.errors import GateFailed, UsageError

QUICK: dict[str, Any] = {"processes": 1, "runs": 3, "warmup_seconds": 0.01, "option": {"latency_us": "20"}}
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


def test_wrong_keywords(folder: Path) -> None:
    with pytest.raises(UsageError, match="no baseline is given"):
        edgewright.gate("m.pretend")
    with pytest.raises(UsageError, match="--undecided maybe is unknown"):
        edgewright.gate("m.pretend", baseline="b.json", write=True, undecided="maybe", **QUICK)


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
