"""Diagnosis of the installed runtimes and of the machine."""

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from edgewright import __version__, telemetry
from edgewright.flows.doctor.checks import DoctorFinding, read_machine_state, run_checks
from edgewright.kernels.library import KernelStatus, read_status
from edgewright.runtimes.environments import EnvironmentStatus, examine_environments, normalize_name
from edgewright.runtimes.table import ENTRY_POINTS, TABLE, RuntimeInfo, make_install_command

TEST_RUNTIME = "pretend"


class RuntimeState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """State of one runtime on this machine; its library is located but not imported.

    Attributes:
        for_tests: whether the runtime is for tests and measures nothing real.
        version: version of its distribution; None if it is not installed.
        file: file that Python would load.
        missing: required packages that are not installed.
        problem: why the runtime cannot be used; empty if it can.
        remedy: command that installs what is missing; empty if nothing is.
        environment: isolated environment of its workers, to which version and file belong; empty for this Python.
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
    environment: str = ""


class EnvironmentState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """State of one isolated environment on this machine.

    Attributes:
        state: `ready`, `outdated` (from another lock file) or `broken` (without its record or its Python).
        lock: sha256 of the current lock file.
        bytes: size after the setup; None if it is not ready.
        remedy: command that repairs it; empty if it is ready.
    """

    name: str
    runtime: str
    state: str
    path: str
    lock: str
    bytes: int | None = None
    remedy: str = ""


class TelemetryState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """State of one switch that keeps a dependency from sending data in this process.

    Attributes:
        variable: environment variable that disables sending; empty if a barrier does.
        value: required value of the variable.
        set: whether the switch is in effect in this process.
        sends: what the package would send, and when.
        barrier: how sending is blocked without a variable; empty if there is a variable.
    """

    package: str
    variable: str
    value: str
    set: bool
    sends: str
    barrier: str = ""


class Diagnosis(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Report of `edgewright doctor`.

    Attributes:
        runtimes: in the table's order, then plug-ins.
        environments: isolated environments on this machine, in their table's order.
        findings: errors first, then warnings, then notes.
        environment: facts that are stored with each run (`devices/environment.py`).
        moment: current load, pressure and memory (`devices/system_state.py`).
        energy: sensor of energy or power, or why there is none.
        telemetry: switches of dependencies that send data by default, installed or not.
        kernels: instruction set and source of the kernels; null in a report of an older version.
    """

    schema: str = "edgewright.doctor/1"
    edgewright: str
    python: str
    runtimes: tuple[RuntimeState, ...]
    findings: tuple[DoctorFinding, ...]
    environment: dict[str, Any]
    moment: dict[str, float]
    energy: str
    temperature_c: float | None
    environments: tuple[EnvironmentState, ...] = ()
    telemetry: tuple[TelemetryState, ...] = ()
    kernels: KernelStatus | None = None


def diagnose(root: Path, environ: Mapping[str, str], home: Path, environments: Path | None = None) -> Diagnosis:
    """Check the runtimes and the machine without starting, writing or changing anything.

    Args:
        root: folder that contains /proc, /sys and /etc.
        environ: environment variables.
        home: folder of the store; it may not exist yet.
        environments: folder of the isolated environments; None if there are none.
    """
    statuses = [one for one in examine_environments(environments) if one.state != "absent"] if environments else []
    runtimes = [_apply_environment(runtime, statuses) for runtime in examine_runtimes()]
    packages = ["numpy", *(info.distribution for info in TABLE.values())]
    machine = read_machine_state(root, environ, packages, home)
    return Diagnosis(
        edgewright=__version__,
        python=platform.python_version(),
        runtimes=tuple(runtimes),
        findings=tuple(run_checks(machine)),
        environment=dict(machine.environment),
        moment=dict(machine.moment),
        energy=machine.reading.source,
        temperature_c=machine.reading.temperature_c,
        environments=tuple(_describe_environment(status) for status in statuses),
        telemetry=tuple(describe_switch(switch) for switch in telemetry.SWITCHES),
        kernels=read_status(),
    )


def has_usable_runtime(diagnosis: Diagnosis) -> bool:
    """Return whether any runtime other than the one for tests can be used."""
    return any(runtime.usable and not runtime.for_tests for runtime in diagnosis.runtimes)


def examine_runtimes() -> list[RuntimeState]:
    """Return the runtimes of the table, then those of plug-ins; a plug-in that fails to load is reported."""
    points = metadata.entry_points(group=ENTRY_POINTS)
    return [*(examine_runtime(info) for info in TABLE.values()), *(examine_plugin(point) for point in points)]


def examine_plugin(point: metadata.EntryPoint) -> RuntimeState:
    try:
        info = point.load()
    except Exception as error:  # a plug-in's module can raise anything
        text = " ".join(str(error).split())
        problem = f"the plug-in {point.value} does not load: {type(error).__name__}: {text}"
        remedy = f"pip install --force-reinstall {point.dist.name}" if point.dist else ""
        return RuntimeState(name=point.name, title=point.name, usable=False, problem=problem, remedy=remedy)
    if isinstance(info, RuntimeInfo):
        return examine_runtime(info)
    problem = f"the plug-in {point.value} is not a RuntimeInfo"
    return RuntimeState(name=point.name, title=point.name, usable=False, problem=problem)


def examine_runtime(info: RuntimeInfo) -> RuntimeState:
    """Return whether a runtime's packages are installed, without importing them."""
    files = {name: _find_file(name) for name in info.needs or (info.module,)}
    missing = tuple(name for name, file in files.items() if file is None)
    return RuntimeState(
        name=info.name,
        title=info.title,
        usable=not missing,
        for_tests=info.name == TEST_RUNTIME,
        version=_find_version(info.distribution),
        file=next((file for file in files.values() if file), None),
        missing=missing,
        problem=f"not installed: {', '.join(missing)}" if missing else "",
        remedy=make_install_command(info) if missing else "",
    )


def _apply_environment(runtime: RuntimeState, statuses: Sequence[EnvironmentStatus]) -> RuntimeState:
    """Return the state with the runtime's isolated environment, if that is ready."""
    for status in statuses:
        if status.environment.name == runtime.name and status.record is not None:
            distribution = normalize_name(TABLE[runtime.name].distribution)
            versions = {normalize_name(name): version for name, version in status.record.packages.items()}
            return msgspec.structs.replace(
                runtime,
                usable=True,
                version=versions.get(distribution),
                file=str(status.path),
                missing=(),
                problem="",
                remedy="",
                environment=runtime.name,
            )
    return runtime


def _describe_environment(status: EnvironmentStatus) -> EnvironmentState:
    name = status.environment.name
    return EnvironmentState(
        name=name,
        runtime=status.environment.runtime,
        state=status.state,
        path=str(status.path if status.path.is_dir() else status.leftovers[0]),
        lock=status.lock,
        bytes=status.record.bytes if status.record else None,
        remedy="" if status.state == "ready" else f"edgewright runtimes setup {name}",
    )


def describe_switch(switch: telemetry.Switch) -> TelemetryState:
    return TelemetryState(
        package=switch.package,
        variable=switch.variable,
        value=switch.value,
        set=telemetry.is_off(switch),
        sends=switch.sends,
        barrier=switch.barrier,
    )


def _find_file(module: str) -> str | None:
    """Return the file of a module, or the folder of a namespace package; None if there is none.

    A folder without code, which an uninstalled package may leave behind, does not count.
    """
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin:
        return spec.origin if spec else None
    folders = spec.submodule_search_locations or ()
    return next((folder for folder in folders if next(Path(folder).rglob("*.py"), None)), None)


def _find_version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except (metadata.PackageNotFoundError, ValueError):
        return None
