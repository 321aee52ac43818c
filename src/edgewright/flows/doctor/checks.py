"""Doctor checks: one for each condition that makes measurements less reliable; docs/doctor.md explains them."""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from edgewright.devices.environment import read_environment_facts
from edgewright.devices.protocol import Reading
from edgewright.devices.sensors import find_sensors, is_on_battery
from edgewright.devices.system_state import compute_steal_share
from edgewright.devices.system_state import read_system_state as read_moment
from edgewright.store.location import get_bad_folder, list_bad_files

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

# docs/doctor.md explains each code under its name.
Code = Literal[
    "governor",
    "turbo",
    "load",
    "pressure",
    "smt",
    "mixed-cores",
    "few-cores",
    "memory-low",
    "swap",
    "cpu-limit",
    "memory-limit",
    "virtual-machine",
    "steal",
    "battery",
    "heat",
    "thread-variables",
    "store-unwritable",
    "disk-full",
    "unsaved-runs",
    "no-energy-sensor",
]

MIB, GIB = 1 << 20, 1 << 30

# Thresholds of a busy machine, low enough to detect one other busy program.
BUSY_SHARE_OF_CORES = 0.25
BUSY_LOAD = 0.5
PRESSURE_PERCENT = 5.0
STEAL_SHARE = 0.01
SWAP_BYTES = 16 * MIB
# A processor that is this hot when idle soon throttles; most throttle at 80 to 100 °C.
HOT_C = 70.0
DISK_LOW_BYTES, DISK_FULL_BYTES = GIB, 100 * MIB

THREAD_VARIABLES = ("OMP_", "GOMP_", "KMP_", "MKL_NUM_THREADS", "MKL_DYNAMIC", "OPENBLAS_NUM_THREADS")


class DoctorFinding(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Condition that makes a measurement less reliable (`warning`), prevents it (`error`), or informs (`note`)."""

    code: Code
    severity: Severity
    text: str
    advice: str


class MachineState(Struct, frozen=True, kw_only=True):
    """Input of the checks."""

    environment: Mapping[str, Any]
    moment: Mapping[str, float]
    reading: Reading
    on_battery: bool | None
    home: Path
    home_error: str
    free_bytes: int | None
    bad_runs: int = 0


def read_machine_state(root: Path, environ: Mapping[str, str], packages: Iterable[str], home: Path) -> MachineState:
    return MachineState(
        environment=read_environment_facts(root, packages, environ),
        moment=read_moment(root),
        reading=find_sensors(root).read(),
        on_battery=is_on_battery(root),
        home=home,
        home_error=_explain_unwritable(home),
        free_bytes=_read_free_bytes(home),
        bad_runs=len(list_bad_files(home)),
    )


def _find_existing_folder(path: Path) -> Path:
    """Return the path itself, or its nearest existing parent that this user can see."""
    return next((folder for folder in (path, *path.parents) if os.path.lexists(folder)), path)


def _explain_unwritable(home: Path) -> str:
    """Return why the store cannot be written in this folder; empty if it can."""
    folder = _find_existing_folder(home.absolute())
    if not folder.is_dir():
        return f"{folder} is not a folder"
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"{folder} is not writable"


def _read_free_bytes(home: Path) -> int | None:
    try:
        return shutil.disk_usage(_find_existing_folder(home.absolute())).free
    except OSError:
        return None


def run_checks(machine: MachineState) -> list[DoctorFinding]:
    """Return all findings, the most severe first."""
    found = [finding for check in CHECKS for finding in check(machine)]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def _list_usable_cpus(machine: MachineState) -> list[int]:
    """Return the processors that a worker may run on."""
    allowed = machine.environment.get("allowed_cpus")
    return list(allowed or range(machine.environment.get("processor", {}).get("logical_cores", 0)))


def _check_governor(machine: MachineState) -> Iterator[DoctorFinding]:
    slow = [governor for governor in machine.environment.get("governors", ()) if governor != "performance"]
    if slow:
        yield DoctorFinding(
            code="governor",
            severity="warning",
            text=f"the frequency governor is {_join(slow)}: processors reduce their frequency between inferences",
            advice="sudo cpupower frequency-set -g performance",
        )


def _check_turbo(machine: MachineState) -> Iterator[DoctorFinding]:
    if machine.environment.get("turbo"):
        pstate = str(machine.environment.get("frequency_driver", "")).startswith("intel_")
        switch = "1 | sudo tee {}/intel_pstate/no_turbo" if pstate else "0 | sudo tee {}/cpufreq/boost"
        yield DoctorFinding(
            code="turbo",
            severity="warning",
            text="turbo is on: the frequency depends on temperature and on the load of other cores",
            advice="echo " + switch.format("/sys/devices/system/cpu"),
        )


def _check_load(machine: MachineState) -> Iterator[DoctorFinding]:
    load = machine.moment.get("load1", 0.0)
    cpus = len(_list_usable_cpus(machine))
    if load > max(BUSY_LOAD, BUSY_SHARE_OF_CORES * cpus):
        yield DoctorFinding(
            code="load",
            severity="warning",
            text=f"other programs are running: load {load:.2f} over the last minute on {cpus} processors",
            advice="close other programs, or wait; `uptime` shows the load",
        )


def _check_pressure(machine: MachineState) -> Iterator[DoctorFinding]:
    shares = {kind: machine.moment.get(f"psi_{kind}_some_avg10", 0.0) for kind in ("cpu", "memory", "io")}
    high = [f"{kind} {share:.0f} %" for kind, share in shares.items() if share > PRESSURE_PERCENT]
    if high:
        yield DoctorFinding(
            code="pressure",
            severity="warning",
            text=f"programs waited for a resource in the last ten seconds: {', '.join(high)} of the time",
            advice="close other programs, or wait; /proc/pressure shows the shares",
        )


def _check_smt(machine: MachineState) -> Iterator[DoctorFinding]:
    processor = machine.environment.get("processor", {})
    if machine.environment.get("smt") or processor.get("threads_per_core", 1) > 1:
        allowed = set(_list_usable_cpus(machine))
        one_each = [cpu for cpu in processor.get("one_per_core", ()) if cpu in allowed]
        yield DoctorFinding(
            code="smt",
            severity="warning",
            text="two hardware threads share each core: a program on the sibling thread slows the worker down",
            advice=_bind(one_each) if one_each else "bind the worker to one thread per core with --affinity",
        )


def _check_mixed_cores(machine: MachineState) -> Iterator[DoctorFinding]:
    allowed = set(_list_usable_cpus(machine))
    clusters = machine.environment.get("processor", {}).get("clusters", [])
    reached = [cluster for cluster in clusters if allowed.intersection(cluster["cpus"])]
    if len(reached) > 1:
        names = [str(cluster.get("model") or f"{cluster.get('max_khz', 0) // 1000} MHz") for cluster in reached]
        yield DoctorFinding(
            code="mixed-cores",
            severity="warning",
            text=f"the cores differ ({_join(names)}): the latency depends on which core the system chooses",
            advice=_bind([cpu for cpu in reached[0]["cpus"] if cpu in allowed]),
        )


def _check_few_cores(machine: MachineState) -> Iterator[DoctorFinding]:
    if len(_list_usable_cpus(machine)) == 1:
        yield DoctorFinding(
            code="few-cores",
            severity="warning",
            text="the worker and all other programs share one processor",
            advice="use a machine with two or more, or allow this process more (`taskset -p` shows the allowed ones)",
        )


def _check_memory(machine: MachineState) -> Iterator[DoctorFinding]:
    free = machine.moment.get("memory_available_bytes")
    total = machine.environment.get("memory_bytes", 0)
    if free is not None and free < min(GIB, max(256 * MIB, total / 10)):
        yield DoctorFinding(
            code="memory-low",
            severity="warning",
            text=f"only {_size(free)} of memory is free",
            advice="close other programs: a worker that does not fit into memory is killed or swapped",
        )


def _check_swap(machine: MachineState) -> Iterator[DoctorFinding]:
    used = machine.moment.get("swap_used_bytes", 0.0)
    if used > SWAP_BYTES:
        yield DoctorFinding(
            code="swap",
            severity="warning",
            text=f"{_size(used)} of swap is in use: reading memory back from disk causes outliers",
            advice="free some memory, then: sudo swapoff -a && sudo swapon -a",
        )


def _check_limits(machine: MachineState) -> Iterator[DoctorFinding]:
    limits = machine.environment.get("cgroup", {})
    cpus, size = limits.get("cpus"), limits.get("memory_bytes")
    if cpus is not None and cpus < max(len(_list_usable_cpus(machine)), 1):
        yield DoctorFinding(
            code="cpu-limit",
            severity="warning",
            text=f"a control group limits CPU time to {cpus:g} processors and pauses the worker when it is used up",
            advice="raise the CPU limit of the container or service, or use fewer --threads",
        )
    if size is not None and size < machine.environment.get("memory_bytes", size + 1):
        yield DoctorFinding(
            code="memory-limit",
            severity="note",
            text=f"a control group limits memory to {_size(size)}; a worker above the limit is killed",
            advice="raise the memory limit of the container or service for large models",
        )


def _check_virtual(machine: MachineState) -> Iterator[DoctorFinding]:
    processor = machine.environment.get("processor", {})
    if processor.get("virtual"):
        name = processor.get("hypervisor")
        yield DoctorFinding(
            code="virtual-machine",
            severity="warning",
            text=f"this is a virtual machine{f' ({name})' if name else ''}: other load on its host is not visible",
            advice="compare only interleaved measurements; for absolute times, use a physical machine",
        )
    share = compute_steal_share({}, machine.moment)
    if share is not None and share > STEAL_SHARE:
        yield DoctorFinding(
            code="steal",
            severity="warning",
            text=f"the host gave {share:.1%} of this machine's processor time since boot to other virtual machines",
            advice="use a machine with dedicated processors",
        )


def _check_battery(machine: MachineState) -> Iterator[DoctorFinding]:
    if machine.on_battery:
        yield DoctorFinding(
            code="battery",
            severity="warning",
            text="this machine runs on battery: most machines reduce their frequency to save power",
            advice="connect the power supply, unless you measure the energy of the battery",
        )


def _check_heat(machine: MachineState) -> Iterator[DoctorFinding]:
    heat = machine.reading.temperature_c
    if heat is not None and heat >= HOT_C:
        yield DoctorFinding(
            code="heat",
            severity="warning",
            text=f"the processor is at {heat:.0f} °C when idle, and will soon throttle",
            advice="let it cool, and find the cause of the heat",
        )


def _check_thread_variables(machine: MachineState) -> Iterator[DoctorFinding]:
    variables = machine.environment.get("variables", {})
    found = [f"{name}={value}" for name, value in variables.items() if name.startswith(THREAD_VARIABLES)]
    if found:
        yield DoctorFinding(
            code="thread-variables",
            severity="note",
            text=f"{', '.join(found)}: runtimes may use these variables instead of --threads",
            advice="unset them, or use the same values for all compared runs; each run records them",
        )


def _check_store(machine: MachineState) -> Iterator[DoctorFinding]:
    if machine.home_error:
        yield DoctorFinding(
            code="store-unwritable",
            severity="error",
            text=f"runs cannot be stored in {machine.home}: {machine.home_error}",
            advice="set EDGEWRIGHT_HOME to a writable folder",
        )
    if machine.free_bytes is not None and machine.free_bytes < DISK_LOW_BYTES:
        yield DoctorFinding(
            code="disk-full",
            severity="error" if machine.free_bytes < DISK_FULL_BYTES else "warning",
            text=f"only {_size(machine.free_bytes)} is free on the disk of {machine.home}",
            advice="free some space, or set EDGEWRIGHT_HOME to a folder on another disk",
        )


def _check_unsaved(machine: MachineState) -> Iterator[DoctorFinding]:
    if machine.bad_runs:
        what = "1 finished run" if machine.bad_runs == 1 else f"{machine.bad_runs} finished runs"
        yield DoctorFinding(
            code="unsaved-runs",
            severity="warning",
            text=f"{what} could not be stored, because the file is not valid: {get_bad_folder(machine.home)}",
            advice="read the .why file beside each; repair the file and move it to the parent folder, or delete it",
        )


def _check_energy(machine: MachineState) -> Iterator[DoctorFinding]:
    if machine.reading.energy_uj is None and machine.reading.power_uw is None:
        yield DoctorFinding(
            code="no-energy-sensor",
            severity="note",
            text=f"energy is not measured ({machine.reading.source})",
            advice="use --power-w WATTS for an estimate, or measure on a device with a sensor",
        )


CHECKS = (
    _check_store,
    _check_unsaved,
    _check_governor,
    _check_turbo,
    _check_load,
    _check_pressure,
    _check_smt,
    _check_mixed_cores,
    _check_few_cores,
    _check_memory,
    _check_swap,
    _check_limits,
    _check_virtual,
    _check_battery,
    _check_heat,
    _check_thread_variables,
    _check_energy,
)


def _bind(cpus: Sequence[int]) -> str:
    return f"bind the worker: --affinity {','.join(map(str, cpus))}"


def _join(words: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(words))


def _size(size_bytes: float) -> str:
    return f"{size_bytes / GIB:.1f} GiB" if size_bytes >= GIB else f"{size_bytes / MIB:.0f} MiB"
