"""Settings of the operating system for an inference: each is optional, and what was really applied is reported.

Files below /sys and cgroup limits outlive the process that writes them, so they are changed by a guardian. What
belongs to this process or thread ends with it, and is restored when the block ends.
"""

import ctypes
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import get_native_id
from typing import Any, Self

from msgspec import Struct

from edgewright.adaptive.guardian import NOT_RESTORABLE, Guardian, may_lower_nice
from edgewright.devices.cpu import CPU_FOLDER, choose_cores, read_cpu_facts
from edgewright.devices.sysfs import list_folder, list_numbered, parse_cpu_list, read_text
from edgewright.errors import UsageError

if sys.platform != "linux":
    raise ImportError("edgewright.adaptive needs Linux for this")

MOST_THREADS = 4
SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}  # numbers of the system call
KEEP_POLICY_AND_PARAMETERS, CLAMP_MINIMUM = 0x08 | 0x10, 0x20  # flags of sched_setattr(2)
LARGEST_CLAMP = 1024
LOCK_CURRENT_AND_FUTURE = 3  # flags of mlockall(2)
PERIOD_US = 100_000


class Controls(Struct, frozen=True, kw_only=True):
    """What is asked of the system; None and False leave a setting as it is.

    Attributes:
        cores: processors of this thread: `big`, `little`, or a list such as `0-3`.
        nice, realtime: nice value, or priority of SCHED_FIFO, of this thread.
        clamp: lowest performance of this thread that the scheduler assumes, 0 to 1 (uclamp).
        governor, floor_khz: cpufreq governor and lowest frequency of all processors.
        memory_bytes, cpu_share: limits of `group`; the share is of all online processors.
        group: folder of a cgroup (version 2) of the app's own.
        lock_memory: keep the memory of this process from being paged out.
    """

    cores: str = ""
    nice: int | None = None
    realtime: int | None = None
    clamp: float | None = None
    governor: str | None = None
    floor_khz: int | None = None
    memory_bytes: int | None = None
    cpu_share: float | None = None
    group: str = ""
    lock_memory: bool = False


class AppliedControl(Struct, frozen=True, kw_only=True):
    """One setting that was asked for, whether it holds, and why not."""

    name: str
    wanted: str
    applied: bool
    why: str = ""


def count_threads(root: Path = Path("/")) -> int:
    """Return the threads of an inference: as many as the fastest cluster has online cores, at most 4."""
    facts = read_cpu_facts(root)
    online = _list_online(root)
    big = choose_cores("big", facts) or facts.get("one_per_core") or online
    usable = [cpu for cpu in big if cpu in online]
    return max(1, min(len(usable), MOST_THREADS))


def _list_online(root: Path = Path("/")) -> Sequence[int]:
    """Return the online processors, of this machine only those that this process may use."""
    found = parse_cpu_list(read_text(root / CPU_FOLDER / "online") or "") or tuple(range(os.cpu_count() or 1))
    allowed = os.sched_getaffinity(0) if root == Path("/") else set(found)
    return [cpu for cpu in found if cpu in allowed] or sorted(allowed)


class SystemControls:
    """Applies controls for the calling thread and the system, and restores them at the end of the block.

    Args:
        root: folder in which /sys and /proc are read and written.
        guardian: that changes files; without one, they are not changed.

    Attributes:
        applied: one entry for each control that was asked for.
    """

    def __init__(self, controls: Controls, guardian: Guardian | None, root: Path = Path("/")) -> None:
        self._guardian, self._root = guardian, root
        self._undo: list[Callable[[], object]] = []
        setters: Mapping[str, Callable[[Any], None]] = {
            "cores": self._bind,
            "nice": self._set_nice,
            "realtime": self._set_realtime,
            "clamp": self._clamp,
            "governor": lambda value: self._set_frequency("scaling_governor", value),
            "floor_khz": lambda value: self._set_frequency("scaling_min_freq", str(value)),
            "memory_bytes": lambda value: self._limit(controls.group, "memory.max", str(value)),
            "cpu_share": lambda value: self._limit(controls.group, "cpu.max", self._make_quota(value)),
            "lock_memory": lambda _: self._lock(),
        }
        wanted = {name: value for name in setters if (value := getattr(controls, name)) not in (None, "", False)}
        self.applied = tuple(_apply(name, value, setters[name]) for name, value in wanted.items())

    def _bind(self, cores: str) -> None:
        online = _list_online(self._root)
        cpus = [cpu for cpu in choose_cores(cores, read_cpu_facts(self._root)) or online if cpu in online]
        if not cpus:
            raise OSError("none of these processors is online")
        old = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cpus)
        self._undo.append(lambda: os.sched_setaffinity(0, old))

    def _set_nice(self, nice: int) -> None:
        thread = get_native_id()
        old = os.getpriority(os.PRIO_PROCESS, thread)
        if nice > old and not may_lower_nice(old):
            raise PermissionError(f"{NOT_RESTORABLE}: only root lowers a nice value to {old}")
        os.setpriority(os.PRIO_PROCESS, thread, nice)
        self._undo.append(lambda: os.setpriority(os.PRIO_PROCESS, thread, old))

    def _set_realtime(self, priority: int) -> None:
        old = os.sched_getscheduler(0), os.sched_getparam(0)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
        self._undo.append(lambda: os.sched_setscheduler(0, *old))

    def _clamp(self, share: float) -> None:
        _set_clamp(round(share * LARGEST_CLAMP))
        self._undo.append(lambda: _set_clamp(0))

    def _set_frequency(self, name: str, value: str) -> None:
        policies = [one / name for one in list_folder(self._root / CPU_FOLDER / "cpufreq") if (one / name).is_file()]
        policies = policies or [
            one / "cpufreq" / name
            for one in list_numbered(self._root / CPU_FOLDER, "cpu")
            if (one / "cpufreq" / name).is_file()
        ]
        if not policies:
            raise OSError("this system has no cpufreq")
        for path in policies:
            self._write(path, value)

    def _limit(self, group: str, name: str, value: str) -> None:
        if not group:
            raise OSError("no cgroup of the app's own is named")
        self._write(Path(group) / name, value)

    def _make_quota(self, share: float) -> str:
        return f"{round(share * len(_list_online(self._root)) * PERIOD_US)} {PERIOD_US}"

    def _write(self, path: Path, value: str) -> None:
        if self._guardian is None:
            raise OSError("there is no guardian that restores it")
        self._guardian.write(path, value.encode())

    def _lock(self) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        if library.mlockall(LOCK_CURRENT_AND_FUTURE):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._undo.append(library.munlockall)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Restore what belongs to the thread; the guardian's owner restores the rest."""
        for undo in reversed(self._undo):
            with suppress(OSError):
                undo()
        self._undo.clear()


def _apply(name: str, value: Any, setter: Callable[[Any], None]) -> AppliedControl:
    try:
        setter(value)
    except (OSError, UsageError, OverflowError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        return AppliedControl(name=name, wanted=str(value), applied=False, why=why)
    return AppliedControl(name=name, wanted=str(value), applied=True)


class _SchedulingAttributes(ctypes.Structure):
    """`struct sched_attr` of sched_setattr(2)."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
        ("clamp_minimum", ctypes.c_uint32),
        ("clamp_maximum", ctypes.c_uint32),
    )


def _set_clamp(minimum: int) -> None:
    number = SCHED_SETATTR.get(platform.machine())
    if number is None:
        raise OSError(f"the system call is not known for {platform.machine()}")
    flags = KEEP_POLICY_AND_PARAMETERS | CLAMP_MINIMUM
    attributes = _SchedulingAttributes(
        size=ctypes.sizeof(_SchedulingAttributes), flags=flags, clamp_minimum=minimum, clamp_maximum=LARGEST_CLAMP
    )
    if ctypes.CDLL(None, use_errno=True).syscall(number, 0, ctypes.byref(attributes), 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
