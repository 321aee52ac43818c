"""MNN neither speaks to anyone nor installs anything, neither when it compiles nor when it runs.

The package brings tools that do both (`MNN.tools`). The worker and all processes that it starts are watched by the
kernel's own account of their system calls.
"""

import re
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path

import msgspec
import pytest

from edgewright.runtimes.mnn.library import load_library
from edgewright.runtimes.wire import (
    Answer,
    Close,
    Command,
    CommandDone,
    Compile,
    Compiled,
    CompileRequest,
    Invoke,
    Open,
    Opened,
    ProfileRuns,
    Request,
    SessionRequest,
)
from tests.models.onnx_files import normal_feed, write_conv_net
from tests.runtimes.workers import save_feeds

pytest.importorskip("MNN", reason="MNN is not installed")
STRACE = shutil.which("strace")
CALL = re.compile(r"^\d+ +(socket|connect|sendto|sendmsg|bind|execve)\(", re.MULTILINE)


def can_trace(folder: Path) -> bool:
    """A container may forbid what strace needs."""
    if STRACE is None:
        return False
    return (
        subprocess.run([STRACE, "-o", str(folder / "probe"), "true"], capture_output=True, check=False).returncode == 0
    )


def list_installed() -> list[tuple[str, str]]:
    return sorted((one.metadata["Name"], one.version) for one in distributions())


def trace_worker(commands: list[Command], folder: Path) -> tuple[list[Answer], str]:
    """The answers of a worker and the system calls of all of its processes that have to do with the network."""
    lines = [msgspec.json.encode(Request(id=i, command=command)) for i, command in enumerate(commands)]
    reported = folder / "calls"
    watch = [str(STRACE), "-f", "-e", "trace=network,execve", "-o", str(reported)]
    work = [sys.executable, "-P", "-m", "edgewright.runtimes.worker", "mnn"]
    done = subprocess.run(
        [*watch, *work], input=b"\n".join(lines) + b"\n", capture_output=True, timeout=240, check=True
    )
    _, *answers = done.stdout.splitlines()
    return [msgspec.json.decode(line, type=Answer) for line in answers], reported.read_text()


def test_compiling_running_and_profiling_use_no_network_and_install_nothing(tmp_path: Path) -> None:
    if not can_trace(tmp_path):
        pytest.skip("strace is not installed, or may not trace here")
    installed = list_installed()
    feeds = save_feeds(tmp_path / "feeds.npz", {"x": normal_feed(1, 3, 8, 8)})
    session = SessionRequest(model=str(tmp_path / "out/m.mnn"))
    source = str(write_conv_net(tmp_path / "m.onnx"))
    (tmp_path / "out").mkdir()
    (tmp_path / "layers").mkdir()
    wish = CompileRequest(
        source=source, format="onnx", precision="fp32", shapes={}, folder=str(tmp_path / "out"), stem="m"
    )
    commands: list[Command] = [
        Compile(request=wish),
        Open(session=session, feeds=feeds),
        Invoke(feeds=feeds, outputs=str(tmp_path / "outputs.npz")),
        ProfileRuns(session=session, feeds=feeds, runs=2, folder=str(tmp_path / "layers")),
        Close(),
    ]
    answers, calls = trace_worker(commands, tmp_path)
    assert [type(answer.result) for answer in answers] == [Compiled, Opened, CommandDone, CommandDone, CommandDone]
    programs = [call for call in calls.splitlines() if "execve(" in call and "= 0" in call]
    assert len(programs) == 3  # the worker, the converter, the trial
    assert all("python" in program.split("[")[0] for program in programs)
    assert {found.group(1) for found in CALL.finditer(calls)} == {"execve"}
    assert list_installed() == installed


def test_what_phones_home_cannot_be_imported_where_mnn_is_loaded() -> None:
    load_library()
    with pytest.raises(ImportError):
        import_module("MNN.tools")
