"""Processes that end with the one that started them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

PARENT = """
import os, signal, subprocess, sys
words = [sys.executable, "-m", "edgewright.system.parent", str(os.getpid()), "sleeper", "one", "two"]
child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=sys.stderr, start_new_session=True)
print(child.stdout.readline().decode(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
SLEEPER = """
import signal, sys, time
try:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(*sys.argv[1:], flush=True)  # the parent is killed when it has read this
    time.sleep(60)
except KeyboardInterrupt:
    sys.stderr.write("written down")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_a_child_is_notified_that_its_parent_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    source = ROOT / "src"
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{source}")
    # The child holds this pipe too, so that its end is the end of both.
    done = subprocess.run([sys.executable, "-c", PARENT], capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout.strip() == "one two"
    assert done.stderr == "written down"
