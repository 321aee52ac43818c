"""What works here, and what on this machine will spoil measurements."""

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
from edgewright.runtimes.environments import EnvironmentStatus, examine_environments, normalize_name
from edgewright.runtimes.table import ENTRY_POINTS, TABLE, RuntimeInfo, make_install_command

TEST_RUNTIME = "pretend"


class RuntimeState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One runtime as it is installed here; its library is looked for and not imported.

    Attributes:
        for_tests: it measures nothing real.
        version: of its distribution; None where that is not installed.
        file: where Python would load it from.
        missing: packages that were looked for and not found.
        problem: why it cannot be used, in words; empty where it can.
        remedy: the command that brings what is missing; empty where nothing is.
        environment: the isolated one that its workers run in, whose version and folder these are; empty for our own.
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
    """One isolated environment that lies on this machine.

    Attributes:
        state: `ready`; `outdated`, of another lock than this Edgewright's; `broken`, without its record or its Python.
        lock: sha256 of the lock of this Edgewright.
        bytes: its size when it was made; None where it is not ready.
        remedy: the command that mends it; empty where nothing is to be mended.
    """

    name: str
    runtime: str
    state: str
    path: str
    lock: str
    bytes: int | None = None
    remedy: str = ""


class TelemetryState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one dependency is kept from sending data in this process.

    Attributes:
        variable: the environment variable that stops it; empty where a barrier does.
        value: what the variable must be set to.
        set: whether the switch is in effect in this process.
        sends: what the package would send or ask, and when.
        barrier: how it is stopped without a variable; empty where there is one.
    """

    package: str
    variable: str
    value: str
    set: bool
    sends: str
    barrier: str = ""


class Diagnosis(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that `edgewright doctor` tells.

    Attributes:
        runtimes: in the table's order, then plug-ins.
        environments: the isolated ones that lie here, in their table's order.
        findings: errors first, then warnings, then notes.
        environment: as it is stored with a run (`devices/environment.py`).
        moment: load, pressure and memory now (`devices/system_state.py`).
        energy: the sensor that tells energy or power, or why there is none.
        telemetry: the switches of dependencies that send data by themselves, whether installed here or not.
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


def diagnose(root: Path, environ: Mapping[str, str], home: Path, environments: Path | None = None) -> Diagnosis:
    """Look at the runtimes and at the machine; nothing is started, written or changed.

    Args:
        root: where /proc, /sys and /etc are found.
        environ: the environment variables.
        home: the folder of the store, which need not exist yet.
        environments: the folder of the isolated environments; None where there are none.
    """
    standings = [one for one in examine_environments(environments) if one.state != "absent"] if environments else []
    runtimes = [_apply_environment(runtime, standings) for runtime in examine_runtimes()]
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
        environments=tuple(_describe_environment(standing) for standing in standings),
        telemetry=tuple(describe_switch(switch) for switch in telemetry.SWITCHES),
    )


def has_usable_runtime(diagnosis: Diagnosis) -> bool:
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


def _apply_environment(runtime: RuntimeState, standings: Sequence[EnvironmentStatus]) -> RuntimeState:
    """The runtime as its workers will find it: in the environment of its name, where that is ready."""
    for standing in standings:
        if standing.environment.name == runtime.name and standing.record is not None:
            distribution = normalize_name(TABLE[runtime.name].distribution)
            versions = {normalize_name(name): version for name, version in standing.record.packages.items()}
            return msgspec.structs.replace(
                runtime,
                usable=True,
                version=versions.get(distribution),
                file=str(standing.path),
                missing=(),
                problem="",
                remedy="",
                environment=runtime.name,
            )
    return runtime


def _describe_environment(standing: EnvironmentStatus) -> EnvironmentState:
    name = standing.environment.name
    return EnvironmentState(
        name=name,
        runtime=standing.environment.runtime,
        state=standing.state,
        path=str(standing.path if standing.path.is_dir() else standing.leftovers[0]),
        lock=standing.lock,
        bytes=standing.record.bytes if standing.record else None,
        remedy="" if standing.state == "ready" else f"edgewright runtimes setup {name}",
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
    """The file that Python would load for a module, or the folder of a namespace package; None where it finds none.

    A folder without any code, as an uninstalled package may leave behind, is none.
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
