"""What holds for every test: a home of its own, and nothing of Edgewright's settings from outside."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from edgewright.telemetry import SWITCHES
from tests.paths import ROOT

SOURCE = str(ROOT / "src")
# Marks by folder or file below tests/. `make test-fast` leaves out all but the pure packages.
MARKS: dict[str, tuple[str, ...]] = {
    "process": (
        "api", "cli", "devices", "flows", "fuzz", "kernels", "packaging/native", "packaging/web", "runtimes", "store",
        "system", "web",
        "bench/test_measure.py", "formats/onnx/normalize", "formats/onnx/test_typed.py", "formats/test_bounds.py",
        "adaptive/test_guardian.py", "test_imports.py", "test_package.py", "test_readme.py", "test_telemetry.py",
    ),
    "training": (
        "flows/distill", "flows/personalize", "flows/prune", "flows/quantize/test_finetuning.py", "flows/experiment",
        "training",
    ),
    "browser": (
        "web/test_browser.py", "web/test_journeys.py", "web/browsers/test_page.py", "web/browsers/test_chromium.py",
    ),
}  # fmt: skip
# What only `make test-slow` runs, and why.
SLOW = {
    "web/browsers/test_chromium.py": "opens two dozen pages with WebAssembly and WebGPU; only in make test-devices",
    "devices/test_mutated_models.py": "hundreds of damaged files in workers; make test has 200 cases of the fuzzer",
    "runtimes/support/test_tables.py": "compiles a model for each operator in each runtime",
    "api/test_torch_modules.py": "imports torch, exports modules and trains",
    "flows/personalize/test_flow.py": "trains networks in processes of their own",
    "flows/distill/test_flow.py": "each test trains two to eight networks in processes of their own",
    "flows/prune/test_flow.py": "each test trains a pruned network and its control in processes of their own",
    "flows/quantize/test_finetuning.py": "each test trains a quantized graph, most of them a control too",
}
_lacking: list[str] = []


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty EDGEWRIGHT_HOME, no config of the user's, and a time limit that a busy machine does not reach."""
    for name in [name for name in os.environ if name.startswith("EDGEWRIGHT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EDGEWRIGHT_TIME_LIMIT", "150")
    home = tmp_path / "own-home"
    monkeypatch.setenv("EDGEWRIGHT_HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "own-config"))
    return home


def note_child(event: str, args: tuple[Any, ...]) -> None:
    """Note each program that code of ours starts without the switches that keep dependencies from sending data."""
    if event != "subprocess.Popen":
        return
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename == subprocess.__file__:
        frame = frame.f_back
    environ: Mapping[str, str] = os.environ if args[3] is None else args[3]
    lacking = [one.variable for one in SWITCHES if one.variable and environ.get(one.variable) != one.value]
    if lacking and frame.f_code.co_filename.startswith(SOURCE):
        _lacking.append(f"{frame.f_code.co_filename}:{frame.f_lineno} without {', '.join(lacking)}")


sys.addaudithook(note_child)


@pytest.fixture(autouse=True)
def switches_reach_children() -> Iterator[None]:
    """Every process that the product starts in any test has the switches of `edgewright.telemetry`."""
    _lacking.clear()
    yield
    assert not _lacking, _lacking


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        path = item.path.relative_to(ROOT)
        if path.parts[0] != "tests":
            continue
        name = path.relative_to("tests").as_posix()
        places = {name, *(parent.as_posix() for parent in path.relative_to("tests").parents)}
        for mark, where in MARKS.items():
            if not places.isdisjoint(where):
                item.add_marker(mark)
        if name in SLOW:
            item.add_marker("slow")


def pytest_configure(config: pytest.Config) -> None:
    """Print each failure when it happens: a run that is ended from outside has no summary."""
    if hasattr(config, "workerinput"):
        return
    config.pluginmanager.register(PrintFailures(config), "print-failures")


class PrintFailures:
    """Prints the name and the error of a failed test, or of one whose process died, at once."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.failed:
            return
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:
            error = report.longreprtext.strip().splitlines()[-8:]
            terminal.ensure_newline()
            terminal.write_line(
                "\n".join([f"FAILED {report.nodeid} ({report.when})", *(f"    {line}" for line in error)])
            )


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say which skipped tests `make all-runtimes` would run."""
    reasons = [str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", []) if report.longrepr]
    absent = sum("not installed" in reason for reason in reasons)
    if absent:
        terminalreporter.write_line(
            f"{absent} tests were skipped for packages that are not installed: make all-runtimes"
        )


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a separate disk of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if not is_root or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a disk can be mounted by root only")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
