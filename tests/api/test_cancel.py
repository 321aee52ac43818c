"""Cancelling of long calls: nothing is left running, and a record says that the call was cancelled."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import psutil
import pytest

import edgewright
from edgewright.errors import Cancelled
from tests.api.conftest import DIGITS
from tests.cli.calling import HEEDING

MODEL = str(DIGITS / "digits.onnx")
DATA = str(DIGITS / "heldout.npz")
TASK: dict[str, Any] = {"task": DIGITS / "task.toml"}
SPARSE: dict[str, Any] = {"val": DATA, "method": "unstructured"}


def list_children() -> set[int]:
    return {one.pid for one in psutil.Process().children(recursive=True)}


def cancel_at(step: str, call: Callable[..., Any]) -> None:
    """Call with an event that is set at the first progress with this text."""
    event = Event()

    def watch(text: str) -> None:
        if step in text:
            event.set()

    before = list_children()
    with pytest.raises(Cancelled, match="the call was cancelled"):
        call(progress=watch, cancel=event)
    assert list_children() <= before


# An interrupt between opening a file and entering its block leaves the closing to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("kind", "step", "call"),
    [
        ("evaluate", "evaluat", lambda **own: edgewright.evaluate(MODEL, data=DATA, **TASK, **own)),
        ("quantize", "observing", lambda **own: edgewright.quantize(MODEL, data=DATA, output="q", **TASK, **own)),
        ("prune", "evaluat", lambda **own: edgewright.prune(MODEL, output="p", **SPARSE, **TASK, **own)),
    ],
)
def test_a_cancelled_call_is_recorded_as_such(folder: Path, kind: str, step: str, call: Callable[..., Any]) -> None:
    cancel_at(step, call)
    (run,) = edgewright.list_runs(kind=kind, limit=None).rows if kind != "evaluate" else edgewright.list_runs().rows
    assert (run.kind, run.state) == (kind, "cancelled")
    assert {one.state for one in edgewright.list_runs(limit=None).rows} == {"cancelled"}


SCRIPT = f"""{HEEDING}
import edgewright

watch = lambda text: print(text, flush=True)
edgewright.benchmark("m.pretend", option={{"latency_us": "1000"}}, seconds=100, warmup_seconds=0.01, progress=watch)
"""


def test_an_interrupt_ends_the_process_and_its_workers(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        _, text = process.communicate()
    assert process.returncode not in (0, -signal.SIGKILL)
    assert text.splitlines()[-1].startswith(("edgewright.errors.Cancelled: ", "KeyboardInterrupt"))
    assert [one for one in workers if one.is_running()] == []
