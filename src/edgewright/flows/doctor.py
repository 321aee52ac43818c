"""What works here, and what on this machine will spoil measurements."""

import platform
from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from msgspec import Struct

from edgewright import __version__
from edgewright.flows.spoilers import Finding, find_spoilers, read_signs
from edgewright.runtimes.table import ENTRY_POINTS, TABLE, RuntimeInfo

FOR_TESTS = "pretend"


class RuntimeState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One runtime as it is installed here; its library is looked for and not imported.

    Attributes:
        for_tests: it measures nothing real.
        version: of its distribution; None where that is not installed.
        file: where Python would load it from.
        missing: packages that were looked for and not found.
        problem: why it cannot be used, in words; empty where it can.
        remedy: the command that brings what is missing; empty where nothing is.
    """

    name: str
    title: str
    usable: bool
    for_tests: bool = False
    version: str | None = None
    file: str | None = None
    missing: tuple[str, ...] = ()
    problem: str = ""
    remedy: str = ""


class Diagnosis(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that `edgewright doctor` tells.

    Attributes:
        runtimes: in the table's order, then plug-ins.
        findings: errors first, then warnings, then notes.
        environment: as it is stored with a run (`devices/environment.py`).
        moment: load, pressure and memory now (`devices/moment.py`).
        energy: the sensor that tells energy or power, or why there is none.
    """

    schema: str = "edgewright.doctor/1"
    edgewright: str
    python: str
    runtimes: tuple[RuntimeState, ...]
    findings: tuple[Finding, ...]
    environment: dict[str, Any]
    moment: dict[str, float]
    energy: str
    temperature_c: float | None


def examine(root: Path, environ: Mapping[str, str], home: Path) -> Diagnosis:
    """Look at the runtimes and at the machine; nothing is started, written or changed.

    Args:
        root: where /proc, /sys and /etc are found.
        environ: the environment variables.
        home: the folder of the store, which need not exist yet.
    """
    runtimes = examine_runtimes()
    packages = ["numpy", *(info.distribution for info in TABLE.values())]
    signs = read_signs(root, environ, packages, home)
    return Diagnosis(
        edgewright=__version__,
        python=platform.python_version(),
        runtimes=tuple(runtimes),
        findings=tuple(find_spoilers(signs)),
        environment=dict(signs.environment),
        moment=dict(signs.moment),
        energy=signs.reading.source,
        temperature_c=signs.reading.temperature_c,
    )


def works(diagnosis: Diagnosis) -> bool:
    """Whether any runtime that measures something real can be used."""
    return any(runtime.usable and not runtime.for_tests for runtime in diagnosis.runtimes)


def examine_runtimes() -> list[RuntimeState]:
    """The runtimes of the table, then those of plug-ins; a plug-in that fails to load is told, not raised."""
    points = metadata.entry_points(group=ENTRY_POINTS)
    return [*(examine_runtime(info) for info in TABLE.values()), *(examine_plugin(point) for point in points)]


def examine_plugin(point: metadata.EntryPoint) -> RuntimeState:
    try:
        info = point.load()
    except Exception as error:  # whatever a stranger's module raises when it is imported
        text = " ".join(str(error).split())
        problem = f"the plug-in {point.value} does not load: {type(error).__name__}: {text}"
        remedy = f"pip install --force-reinstall {point.dist.name}" if point.dist else ""
        return RuntimeState(name=point.name, title=point.name, usable=False, problem=problem, remedy=remedy)
    if isinstance(info, RuntimeInfo):
        return examine_runtime(info)
    problem = f"the plug-in {point.value} is no RuntimeInfo"
    return RuntimeState(name=point.name, title=point.name, usable=False, problem=problem)


def examine_runtime(info: RuntimeInfo) -> RuntimeState:
    """Whether the packages that a runtime needs are there, without importing them."""
    files = {name: find_file(name) for name in info.needs or (info.module,)}
    missing = tuple(name for name, file in files.items() if file is None)
    return RuntimeState(
        name=info.name,
        title=info.title,
        usable=not missing,
        for_tests=info.name == FOR_TESTS,
        version=find_version(info.distribution),
        file=next((file for file in files.values() if file), None),
        missing=missing,
        problem=f"not installed: {', '.join(missing)}" if missing else "",
        remedy=name_remedy(info) if missing else "",
    )


def find_file(module: str) -> str | None:
    """The file that Python would load for a module; None where it finds none.

    A folder without any code (Python's namespace package, as an uninstalled package may leave behind) is none.
    """
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return None
    return spec.origin if spec else None


def find_version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except (metadata.PackageNotFoundError, ValueError):
        return None


def name_remedy(info: RuntimeInfo) -> str:
    """The runtime's own distribution: an extra of ours can be installed only where Edgewright itself comes from."""
    return f"pip install {info.distribution}"
