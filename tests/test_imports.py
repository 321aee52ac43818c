"""What is imported when, and what may import what."""

import subprocess
import sys

from edgewright import telemetry
from tests.paths import ROOT

HEAVY = (
    "onnx",
    "numpy",
    "sqlalchemy",
    "alembic",
    "obstore",
    "onnxruntime",
    "ai_edge_litert",
    "rich",
    "google.protobuf",
    "PIL",
    "starlette",
    "uvicorn",
    "jinja2",
)
# Imports of a worker disturb its measurements.
FOREIGN_TO_A_WORKER = ("onnx", "sqlalchemy", "alembic", "obstore", "rich", "click", "asyncio", "onnxruntime")


def modules_after(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after this code."""
    script = f"import sys\n{code}\nsys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stderr.split())


def found(modules: set[str], names: tuple[str, ...]) -> set[str]:
    return {name for name in names if name in modules}


def test_help_is_light() -> None:
    modules = modules_after("from edgewright.cli.app import run\nassert run(['--help']) == 0")
    assert "edgewright.cli.commands.benchmark" in modules
    assert found(modules, HEAVY) == set()


def test_the_help_of_a_command_is_light() -> None:
    for command in (
        "doctor",
        "demo",
        "analyze",
        "compile",
        "invoke",
        "task",
        "evaluate",
        "benchmark",
        "compare",
        "runs",
        "runtimes",
        "quantize",
        "ui",
    ):
        modules = modules_after(f"from edgewright.cli.app import run\nassert run(['{command}', '--help']) == 0")
        assert found(modules, HEAVY) == set(), command


def test_importing_the_package_costs_little() -> None:
    before, after = modules_after(""), modules_after("import edgewright")
    barred = {name for switch in telemetry.SWITCHES for name in switch.bars}
    assert after - before == {"edgewright", "edgewright.telemetry", *barred}


def test_a_worker_loads_little() -> None:
    modules = modules_after("import edgewright.runtimes.worker\nimport edgewright.runtimes.onnxruntime")
    assert found(modules, FOREIGN_TO_A_WORKER) == set()
