"""What dependencies send is switched off in every process, before they are imported."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from edgewright import telemetry
from edgewright.flows.doctor.flow import describe_switch
from edgewright.runtimes.launch import SITE_CODE, VARIABLE
from edgewright.runtimes.wire import Open, Opened, SessionRequest, TimeRuns, Times
from tests.models.onnx_files import normal_feed, write_conv_net
from tests.paths import ROOT
from tests.runtimes.workers import save_feeds, start

PACKAGE = ROOT / "src" / "edgewright"
VARIABLES = {switch.variable: switch.value for switch in telemetry.SWITCHES if switch.variable}
CONTRARY = dict.fromkeys(VARIABLES, "0")
SHOW = "import json, os; print(json.dumps(dict(os.environ)))"


def switches_in(command: list[str], environ: dict[str, str]) -> dict[str, str]:
    """The variables of the table as a process has them that prints its environment as JSON."""
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60)
    values = json.loads(done.stdout)
    return {name: values[name] for name in VARIABLES if name in values}


def test_a_program_that_imports_the_package_and_its_children_have_the_switches() -> None:
    """Whatever the user has set; the second process is any program, without Edgewright."""
    child = f"import edgewright, subprocess, sys; subprocess.run([sys.executable, '-I', '-c', {SHOW!r}], check=True)"
    assert switches_in([sys.executable, "-c", child], {**os.environ, **CONTRARY}) == VARIABLES


def test_an_isolated_environment_has_the_switches() -> None:
    """Its Python finds no installed package and reads no PYTHON variable; a file of the environment lends ours."""
    command = [sys.executable, "-I", "-S", "-c", f"{SITE_CODE}\n{SHOW}"]
    assert switches_in(command, {**CONTRARY, VARIABLE: str(PACKAGE)}) == VARIABLES


def test_a_worker_of_onnxruntime_writes_no_identifier_and_starts_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "empty"
    home.mkdir()
    for name in ("HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    feeds = save_feeds(tmp_path / "feeds.npz", {"x": normal_feed(1, 3, 8, 8)})
    with start("onnxruntime", tmp_path) as worker:
        session = SessionRequest(model=str(write_conv_net(tmp_path / "m.onnx")))
        worker.ask(Open(session=session, feeds=feeds), Opened)
        worker.ask(TimeRuns(runs=3, seconds=10.0), Times)
        threads = [path.read_text().strip() for path in Path(f"/proc/{worker.hello.pid}/task").glob("*/comm")]
        worker.leave()
    assert [str(path.relative_to(home)) for path in home.rglob("*")] == []
    assert len(threads) <= 2  # its own, and one that ends it with its parent


def test_what_is_loaded_already_is_reported_as_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    switch = telemetry.SWITCHES[0]
    monkeypatch.setattr(telemetry, "_too_late", set())
    monkeypatch.setitem(sys.modules, switch.loads, sys)
    assert describe_switch(switch).set
    telemetry.switch_off()  # it was set before
    assert telemetry.is_off(switch)
    monkeypatch.setenv(switch.variable, "0")
    assert not telemetry.is_off(switch)
    telemetry.switch_off()
    assert os.environ[switch.variable] == switch.value
    assert not describe_switch(switch).set  # it may have read the other value


def test_barred_modules_cannot_be_imported_and_one_that_was_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    barring = [switch for switch in telemetry.SWITCHES if switch.bars]
    assert {switch.package for switch in barring} == {"openvino", "MNN"}
    for switch in barring:
        assert telemetry.is_off(switch)
        for name in switch.bars:
            with pytest.raises(ImportError):
                __import__(name)
        monkeypatch.setitem(sys.modules, switch.loads, sys)
        assert not telemetry.is_off(switch)


def test_each_row_has_one_way_to_stop_it() -> None:
    for switch in telemetry.SWITCHES:
        assert bool(switch.variable) != bool(switch.barrier), switch.package
        assert bool(switch.variable) == bool(switch.value), switch.package
        assert switch.sends


@pytest.mark.parametrize("document", ["doctor.md", "decisions/0011-what-dependencies-send.md"])
def test_each_package_is_documented(document: str) -> None:
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    for switch in telemetry.SWITCHES:
        assert f"`{switch.package}`" in text, switch.package
        assert f"`{switch.variable}" in text, switch.variable


@pytest.mark.parametrize("folder", ["benchmarks", "scripts"])
def test_a_script_that_imports_onnxruntime_imports_the_package_before(folder: str) -> None:
    late = [str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*.py") if sends(path.read_text("utf-8"))]
    assert late == []


def sends(code: str) -> bool:
    """Whether a script imports ONNX Runtime without having imported Edgewright at its top."""
    tree = ast.parse(code)
    ours = lines_of(tree.body, "edgewright")
    theirs = lines_of(ast.walk(tree), "onnxruntime")
    return bool(theirs) and not (ours and min(ours) < min(theirs))


def lines_of(nodes: Iterable[ast.AST], package: str) -> list[int]:
    """Where a package is imported, or something of it."""
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        if any(name.partition(".")[0] == package for name in names):
            found.append(node.lineno)
    return found


def test_the_look_at_scripts_sees_what_it_shall_see() -> None:
    assert sends("import onnxruntime\nimport edgewright")
    assert sends("def run():\n    import onnxruntime.quantization\n    import edgewright")
    assert not sends("from edgewright import errors\ndef run():\n    from onnxruntime import capi")
