"""What distorts measurements on a device: each check is one function over a folder with its /proc and /sys."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from edgewright.devices.environment import list_governors
from edgewright.devices.sensors import find_sensors, read_batteries
from edgewright.devices.sysfs import list_numbered, read_int, read_text
from edgewright.devices.system_state import read_system_state
from edgewright.schema.devices import CheckState, DeviceCheck

BUSY_LOAD = 0.5  # runnable processes per processor
LOW_PERCENT = 30
HOT_CELSIUS = 60.0
LOW_MEMORY = 200e6
LOW_STORAGE = 500e6
CLOCK_SECONDS = 60.0
STEADY_GOVERNORS = frozenset(("performance",))


Found = tuple[CheckState, str, str]


def run_checks(root: Path) -> list[DeviceCheck]:
    """Return the checks that need only /proc and /sys, below `root`. A device without a battery has no such check."""
    found = []
    for code, check in CHECKS.items():
        state, text, try_this = check(root)
        if text:
            found.append(DeviceCheck(code=code, state=state, text=text, try_this=try_this))
    return found


def _check_battery(root: Path) -> Found:
    levels = [level for one in read_batteries(root) if (level := read_int(one.folder / "capacity")) is not None]
    if not levels:
        return ("unknown", "the battery reports no level", "") if read_batteries(root) else ("ok", "", "")
    if min(levels) >= LOW_PERCENT:
        return "ok", f"the battery has {min(levels)} %", ""
    return "warning", f"the battery has only {min(levels)} %", f"charge it to {LOW_PERCENT} %: devices slow down below"


def _check_charging(root: Path) -> Found:
    states = [(read_text(one.folder / "status") or "unknown").lower() for one in read_batteries(root)]
    if not states:
        return "ok", "", ""
    if "charging" in states:
        return "warning", "the battery is charging, which heats the device", "unplug it, or wait until it is full"
    return ("ok" if "unknown" not in states else "unknown"), f"the battery is {states[0]}", ""


def _check_temperature(root: Path) -> Found:
    celsius = find_sensors(root).read().temperature_c
    if celsius is None:
        return "unknown", "no temperature can be read", ""
    if celsius > HOT_CELSIUS:
        return "warning", f"the processor has {celsius:.0f} °C", "let it cool down: hot processors slow down"
    return "ok", f"the processor has {celsius:.0f} °C", ""


def _check_governor(root: Path) -> Found:
    governors = list_governors(root)
    if not governors:
        return "unknown", "the frequency governor cannot be read", ""
    if set(governors) <= STEADY_GOVERNORS:
        return "ok", f"the frequency governor is {governors[0]}", ""
    hint = "as root: echo performance > /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor, for each processor"
    return "warning", f"the frequency governor is {', '.join(governors)}, which changes the frequency", hint


def _check_load(root: Path) -> Found:
    load = read_system_state(root).get("load1")
    cores = len(list_numbered(root / "sys/devices/system/cpu", "cpu")) or 1
    if load is None:
        return "unknown", "the load cannot be read", ""
    if load > BUSY_LOAD * cores:
        return "warning", f"{load:g} processes are running on {cores} processors", "end other programs on the device"
    return "ok", f"the load is {load:g} on {cores} processors", ""


def _check_memory(root: Path) -> Found:
    free = read_system_state(root).get("memory_available_bytes")
    if free is None:
        return "unknown", "the free memory cannot be read", ""
    text = f"{free / 1e6:,.0f} MB of memory are free"
    return ("warning", text, "end other programs on the device") if free < LOW_MEMORY else ("ok", text, "")


CHECKS: dict[str, Callable[[Path], Found]] = {
    "battery": _check_battery,
    "charging": _check_charging,
    "temperature": _check_temperature,
    "governor": _check_governor,
    "load": _check_load,
    "memory": _check_memory,
}


def check_storage(free_bytes: int | None) -> DeviceCheck:
    """Return the check of the free storage."""
    if free_bytes is None:
        return DeviceCheck(code="storage", state="unknown", text="the free storage cannot be read")
    text = f"{free_bytes / 1e6:,.0f} MB of storage are free"
    if free_bytes < LOW_STORAGE:
        return DeviceCheck(code="storage", state="warning", text=text, try_this="free some space on the device")
    return DeviceCheck(code="storage", state="ok", text=text)


def check_clock(offset_s: float | None) -> DeviceCheck:
    """Return the check of the device's clock against this machine's; durations are measured by monotonic clocks."""
    if offset_s is None:
        return DeviceCheck(code="clock", state="unknown", text="the clock cannot be read")
    text = f"the clock differs by {abs(offset_s):.0f} s from this machine's"
    if abs(offset_s) > CLOCK_SECONDS:
        return DeviceCheck(code="clock", state="warning", text=f"{text}; no measurement depends on it")
    return DeviceCheck(code="clock", state="ok", text=text)


class HealthCheck(NamedTuple):
    """A check of a value that is true or false: the text for the wanted value, for the other one, and a remedy."""

    code: str
    wanted: bool
    good: str
    bad: str
    hint: str


def check_battery(level: float | None, unknown: str) -> DeviceCheck:
    """Return the check of a charge from 0 to 1; `unknown` is the text without one."""
    if level is None:
        return DeviceCheck(code="battery", state="unknown", text=unknown)
    text = f"the battery has {level:.0%}"
    if level < LOW_PERCENT / 100:
        return DeviceCheck(code="battery", state="warning", text=text, try_this=f"charge it to {LOW_PERCENT} %")
    return DeviceCheck(code="battery", state="ok", text=text)


def check_value(check: HealthCheck, value: Any, unknown: str) -> DeviceCheck:
    """Return the check of a value; `unknown` is the text for None."""
    if value is None:
        return DeviceCheck(code=check.code, state="unknown", text=unknown)
    if bool(value) is check.wanted:
        return DeviceCheck(code=check.code, state="ok", text=check.good)
    return DeviceCheck(code=check.code, state="warning", text=check.bad, try_this=check.hint)
