"""Some mutated files of a fixed corpus; `make fuzz` runs thousands."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.cases import KINDS, choose_cases
from tests.fuzz.damage_bytes import damage
from tests.fuzz.forking import own_module
from tests.fuzz.pool import run_cases
from tests.paths import ROOT

CASES = 200  # a fixed part of each kind
linux = pytest.mark.skipif(sys.platform != "linux", reason="the fuzzer reads /proc")


@linux
def test_the_first_cases_pass() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--cases", str(CASES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ, check=False)
    assert done.stdout.splitlines()[-1] == f"{CASES} passed, 0 failed", done.stdout[-5000:] + done.stderr[-1000:]


def test_cases_are_mixed_and_numbered_from_the_start() -> None:
    cases = choose_cases(160, start=5)
    assert {kind: sum(one[0] == kind for one in cases) for kind in KINDS} == {
        "onnx": 70, "tflite": 30, "export": 50, "settings": 10,
    }  # fmt: skip
    assert len(set(cases)) == 160
    assert min(number for _, number in cases) == 5


def test_bytes_are_damaged_alike_by_the_same_seed() -> None:
    found = [damage(b"a model of some bytes" * 9, random.Random(7)) for _ in range(2)]
    assert found[0] == found[1]


def test_only_modules_of_edgewright_are_forked() -> None:
    assert (
        own_module([sys.executable, "-P", "-m", "edgewright.runtimes.worker", "pretend"])
        == "edgewright.runtimes.worker"
    )
    assert own_module([sys.executable, "-m", "pip", "install"]) is None
    assert own_module(["ncnn2table", "-m", "edgewright.x"]) is None


@linux
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise KeyError('of ours')", "KeyError"),
        ("print('Edgewright failed with an internal error', file=sys.stderr)", "exit code 0"),
        ("Path('../../../victim/keep.bin').write_text('x')", "victim/keep.bin was written"),
        ("Path('../../../out/m.html').write_text('<html>')", "m.html is not whole"),
        ("while True: pass", "more than 0.5 s"),
        ("held = b'x' * 4 * 10**8\nwhile True: pass", "more than 0.3 GB"),
        ("os.kill(os.getpid(), 9)", "signal 9"),
        ("subprocess.run([sys.executable, '-m', 'edgewright.no_such_module'])", "a process of ours ended with"),
    ],
)
def test_faults_are_found(body: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Return the faults of a product that misbehaves; `body` replaces its command line."""
    from tests.fuzz import cases, pool, run_case

    def command(_: list[str]) -> int:
        exec(f"import os, subprocess, sys\nfrom pathlib import Path\n{body}")
        return 0

    def make(kind: str, number: int, seeds: Path) -> cases.Case:
        return cases.Case(kind, number, "made", {"m.onnx": b"x"}, [["analyze", "m.onnx"]])

    monkeypatch.setattr(run_case, "run_command", command)
    monkeypatch.setattr(pool, "make_case", make)
    monkeypatch.setattr(pool, "MOST_SECONDS", 0.5 if "0.5 s" in words else 30.0)
    monkeypatch.setattr(pool, "MOST_BYTES", 3 * 10**8 if "GB" in words else 16 * 10**9)  # of a copy of this process
    [outcome] = run_cases([("onnx", 1)], tmp_path, tmp_path, 1)
    assert any(words in fault for fault in outcome.faults), outcome.faults
