"""Nothing of what we run with OpenVINO reaches for the network or leaves traces in the home folder."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgewright.devices.connection import start_worker
from edgewright.runtimes.wire import (
    CommandDone,
    Compile,
    Compiled,
    CompileRequest,
    Open,
    Opened,
    ProfileRuns,
    ReadMemory,
    SessionRequest,
    TimeRuns,
    Times,
)
from tests.models.onnx_files import normal_feed, write_conv_net
from tests.runtimes.workers import TIMEOUT_S, save_feeds

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")

# Written down before anything is imported; a child process made by fork keeps the hook. What it sees, it forbids.
WATCH = """
import os, sys
WATCHED = ("socket.", "urllib.", "http.", "subprocess.", "os.fork", "os.exec", "os.posix_spawn", "os.system")
def watch(event, args):
    if event.startswith(WATCHED):
        with open({log!r}, "a") as file:
            file.write(event + "\\n")
        raise PermissionError(event)
sys.addaudithook(watch)
"""
WORK = "import runpy; runpy.run_module('edgewright.runtimes.worker', run_name='__main__')"
PRINT_TELEMETRY_MODULES = (
    "print([name for name in sys.modules if 'openvino_telemetry' in name and sys.modules[name] is not None])"
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home; and should telemetry be sent after all, then to nobody."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("CI", raising=False)  # there OpenVINO would keep still anyway
    return folder


def test_a_worker_never_reaches_out(home: Path, tmp_path: Path) -> None:
    log, folder = tmp_path / "events", tmp_path / "made"
    folder.mkdir()
    source = write_conv_net(tmp_path / "m.onnx")
    feeds = save_feeds(tmp_path / "feeds.npz", {"x": normal_feed(1, 3, 8, 8)})
    command = [sys.executable, "-P", "-c", WATCH.format(log=str(log)) + WORK, "openvino"]
    with start_worker(command, "openvino", TIMEOUT_S, tmp_path / "log") as worker:
        request = CompileRequest(
            source=str(source), format="onnx", precision="fp16", shapes={}, folder=str(folder), stem="m"
        )
        compiled = worker.ask(Compile(request=request), Compiled)
        session = SessionRequest(model=str(folder / compiled.main))
        worker.ask(Open(session=session, feeds=feeds), Opened)
        worker.ask(TimeRuns(runs=3, seconds=10.0), Times)
        worker.ask(ProfileRuns(session=session, feeds=feeds, runs=2, folder=str(tmp_path / "trace")), CommandDone)
        worker.ask(ReadMemory(), CommandDone)
        worker.leave()
    assert not log.exists(), log.read_text()
    assert not list(home.iterdir())


def test_the_watch_sees_what_it_shall_see(tmp_path: Path) -> None:
    log = tmp_path / "events"
    for act in ("import socket; socket.create_connection(('127.0.0.1', 9))", "import os; os.fork()"):
        subprocess.run([sys.executable, "-c", WATCH.format(log=str(log)) + act], capture_output=True, check=False)
    seen = log.read_text().splitlines()
    assert "os.fork" in seen
    assert any(event.startswith("socket.") for event in seen)


def run_script(script: str) -> str:
    reported = subprocess.run(
        [sys.executable, "-c", "import sys\n" + script], capture_output=True, text=True, check=True
    )
    return reported.stdout.strip()


def test_telemetry_is_not_imported(home: Path) -> None:
    script = "from edgewright.runtimes.openvino.library import import_library\nimport_library().Core()\n"
    assert run_script(script + PRINT_TELEMETRY_MODULES) == "[]"
    assert not list(home.iterdir())


def test_telemetry_is_not_imported_later_either(home: Path) -> None:
    """Whoever imports OpenVINO's converter after us gets OpenVINO's own stub in telemetry's place."""
    script = "from edgewright.runtimes.openvino.library import import_library\nimport_library()\n"
    script += "import openvino.tools.ovc as converter\nprint(converter.telemetry_utils.tm.__name__)"
    assert run_script(script) == "openvino.tools.ovc.telemetry_stub"
    assert not list(home.iterdir())


def test_the_import_can_be_repeated() -> None:
    script = "from edgewright.runtimes.openvino.library import import_library as f, CONVERTER\n"
    assert run_script(script + "print(f() is f(), CONVERTER in sys.modules)") == "True False"
