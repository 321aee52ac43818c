"""The small files of a device's /proc and /sys, copied into a folder here, where the readers of facts find them."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from edgewright.devices.remote.link import Link, make_script
from edgewright.errors import DeviceUnreachable
from edgewright.system.temporary import TemporaryFolder

MAX_BYTES = 8 << 20
_CPU = "sys/devices/system/cpu/cpu[0-9]*"
_SUPPLY = "sys/class/power_supply/*"
_HWMON = "sys/class/hwmon/hwmon*"
SENSORS = (
    "sys/class/thermal/thermal_zone*/temp",
    "sys/class/thermal/thermal_zone*/type",
    f"{_CPU}/cpufreq/scaling_cur_freq",
    *(f"{_SUPPLY}/{name}" for name in ("type", "scope", "status", "online", "power_now", "voltage_now", "current_now")),
    *(f"{_SUPPLY}/{name}" for name in ("capacity", "temp")),
    *(f"sys/class/powercap/intel-rapl*/{name}" for name in ("name", "energy_uj", "max_energy_range_uj")),
    *(f"{_HWMON}/{name}" for name in ("name", "energy*_input", "power*_input", "power*_average", "curr*_input")),
    *(f"{_HWMON}/{name}" for name in ("in*_input", "temp*_input", "*_label")),
)
STATE = ("proc/loadavg", "proc/stat", "proc/meminfo", "proc/pressure/*")
FACTS = (
    *STATE,
    *SENSORS,
    "proc/cpuinfo",
    "proc/self/status",
    *(f"proc/sys/kernel/{name}" for name in ("osrelease", "version", "arch", "randomize_va_space")),
    *(f"proc/device-tree/{name}" for name in ("model", "compatible", "hypervisor/compatible")),
    "etc/os-release",
    "usr/lib/os-release",
    *(f"sys/class/dmi/id/{name}" for name in ("product_name", "sys_vendor")),
    "sys/hypervisor/type",
    *(
        f"sys/devices/system/cpu/{name}"
        for name in ("isolated", "cpufreq/boost", "intel_pstate/no_turbo", "smt/active")
    ),
    *(f"{_CPU}/{name}" for name in ("cpu_capacity", "acpi_cppc/nominal_freq")),
    *(f"{_CPU}/topology/{name}" for name in ("core_cpus_list", "thread_siblings_list")),
    *(
        f"{_CPU}/cpufreq/{name}"
        for name in ("cpuinfo_max_freq", "base_frequency", "scaling_governor", "scaling_driver")
    ),
    *(f"{_CPU}/cache/index*/{name}" for name in ("level", "size", "type", "shared_cpu_list")),
    "sys/kernel/mm/transparent_hugepage/enabled",
    *(f"sys/devices/soc0/{name}" for name in ("machine", "soc_id", "family")),
    "sys/class/kgsl/kgsl-3d0/gpu_model",
    "sys/class/misc/mali0/device/gpuinfo",
)
# Reads sysfs with the shell's own commands: starting a program for each file would take seconds on a board.
_SCRIPT = """
root=$1; shift
cd "$root/" 2>/dev/null || exit 1
for pattern; do
  for file in $pattern; do
    [ -r "$file" ] && [ -f "$file" ] || continue
    printf '\\001%s\\n' "$file"
    case $file in
      proc/device-tree/*) tr '\\000' '\\n' < "$file" ;;
      proc/* | etc/* | usr/*) cat "$file" ;;
      *) while IFS= read -r line || [ -n "$line" ]; do printf '%s\\n' "$line"; done < "$file" ;;
    esac
  done
done 2>/dev/null
exit 0
"""


class Mirror:
    """A folder with copies of files of a device.

    Args:
        root: folder on the device that contains proc and sys, so that a test can inject its own.
    """

    def __init__(self, link: Link, root: str = "/") -> None:
        self._link, self._root = link, root
        self._folder = TemporaryFolder("device")

    @property
    def path(self) -> Path:
        return self._folder.path

    def fetch(self, patterns: Sequence[str]) -> None:
        """Copy the files that match again; those that cannot be read any more are removed here."""
        for pattern in patterns:
            for old in self.path.glob(pattern):
                old.unlink(missing_ok=True)
        result = self._link.run(make_script(_SCRIPT, self._root, *patterns))
        if result.code:
            raise DeviceUnreachable(f"{self._root} cannot be read on the device", result.stderr.decode()[-300:])
        for name, content in parse_mirror(result.stdout[:MAX_BYTES]):
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)

    def has(self, patterns: Sequence[str]) -> bool:
        """Return whether any file matches."""
        return any(True for pattern in patterns for _ in self.path.glob(pattern))

    def close(self) -> None:
        self._folder.close()


def parse_mirror(output: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file; names that would leave the folder are skipped."""
    for part in output.split(b"\x01")[1:]:
        name, _, content = part.partition(b"\n")
        path = PurePosixPath(name.decode(errors="replace"))
        if (
            not path.is_absolute()
            and ".." not in path.parts
            and path.parts
            and path.parts[0] in ("proc", "sys", "etc", "usr")
        ):
            yield str(path), content
