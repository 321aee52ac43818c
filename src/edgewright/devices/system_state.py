"""Changing state of the machine: load, pressure, free memory, swap, time stolen by a hypervisor."""

from collections.abc import Mapping
from pathlib import Path

from edgewright.devices.sysfs import parse_float, parse_int, read_meminfo, read_text

# user nice system idle iowait irq softirq steal; the guest columns after them are part of user and nice.
TICK_COLUMNS = 8


def read_system_state(root: Path = Path("/")) -> dict[str, float]:
    """Return the machine's state now, without the keys that the system does not report.

    Keys: `load1` and `running_processes` (counts); `psi_cpu_some_avg10`, `psi_memory_some_avg10`,
    `psi_io_some_avg10` (percent of the last ten seconds in which some task waited for it; the kernel's
    Documentation/accounting/psi.rst); `memory_available_bytes`, `swap_used_bytes`; and the counters since
    boot `cpu_steal_ticks` and `cpu_total_ticks`, two readings of which give `compute_steal_share`.
    """
    return {**_read_load(root), **_read_pressure(root), **read_memory(root), **_read_ticks(root)}


def compute_steal_share(before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    """Return the share (0 to 1) of processor time that the hypervisor gave to others between two moments.

    None if the system does not count it or no time passed. An empty `before` means since boot.
    """
    if "cpu_steal_ticks" not in after or "cpu_total_ticks" not in after:
        return None
    total = after["cpu_total_ticks"] - before.get("cpu_total_ticks", 0.0)
    stolen = after["cpu_steal_ticks"] - before.get("cpu_steal_ticks", 0.0)
    return max(stolen, 0.0) / total if total > 0 else None


def _read_load(root: Path) -> dict[str, float]:
    fields = (read_text(root / "proc/loadavg") or "").split()
    load = parse_float(fields[0]) if fields else None
    running = parse_int(fields[3].partition("/")[0]) if len(fields) > 3 else None
    return _drop_unknown({"load1": load, "running_processes": running})


def _read_pressure(root: Path) -> dict[str, float]:
    """Return pressure stall information; empty on kernels built or booted without it."""
    kinds = ("cpu", "memory", "io")
    return _drop_unknown({f"psi_{kind}_some_avg10": _read_some_avg10(root / "proc/pressure" / kind) for kind in kinds})


def _read_some_avg10(path: Path) -> float | None:
    for line in (read_text(path) or "").splitlines():
        words = line.split()
        if words[:1] == ["some"]:
            return parse_float(next((w[6:] for w in words if w.startswith("avg10=")), None))
    return None


def read_memory(root: Path) -> dict[str, float]:
    sizes = read_meminfo(root)
    total, free = sizes.get("SwapTotal"), sizes.get("SwapFree")
    used = None if total is None or free is None else total - free
    return _drop_unknown({"memory_available_bytes": sizes.get("MemAvailable"), "swap_used_bytes": used})


def _read_ticks(root: Path) -> dict[str, float]:
    for line in (read_text(root / "proc/stat") or "").splitlines():
        words = line.split()
        if words[:1] == ["cpu"]:
            ticks = [parse_int(word) for word in words[1 : TICK_COLUMNS + 1]]
            if len(ticks) == TICK_COLUMNS and None not in ticks:
                total = sum(tick for tick in ticks if tick is not None)
                return _drop_unknown({"cpu_steal_ticks": ticks[-1], "cpu_total_ticks": total})
    return {}


def _drop_unknown(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if value is not None}
