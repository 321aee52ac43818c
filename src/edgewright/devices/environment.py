"""Stable facts outside the plan that can change a result: two calls in a row return the same."""

import platform
import re
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgewright import __version__
from edgewright.devices.cgroup import read_cgroup_limits
from edgewright.devices.cpu import CPU_FOLDER, read_cpu_facts
from edgewright.devices.sensors import list_thermal_zones, read_batteries
from edgewright.devices.sysfs import list_numbered, parse_cpu_list, parse_pairs, read_int, read_meminfo, read_text

# Variables that thread pools, runtimes and allocators read.
VARIABLE_PREFIXES = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ORT_", "TFLITE_", "XNNPACK_", "MALLOC_", "TF_")
VARIABLE_NAMES = frozenset(("LD_PRELOAD", "PYTHONMALLOC"))
# TF_VAR_ and TF_TOKEN_ are Terraform's and often hold credentials; so may variables with names like these.
SECRET = re.compile(r"^TF_(VAR|TOKEN|CLI|CLOUD)_|TOKEN|SECRET|PASS|KEY|CREDENTIAL|AUTH")
SECRET_VALUE = re.compile(r"://[^/\s]*@")


def read_environment_facts(
    root: Path,
    packages: Iterable[str],
    environ: Mapping[str, str],
    locks: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return plain JSON values that are hashed and stored with a run, without unknown ones.

    Args:
        root: folder of /proc, /sys and /etc.
        packages: distributions whose versions are included, if they are installed.
        environ: the variables of the process; only those that affect a measurement are included.
        locks: sha256 of the locks of the isolated environments that workers may run in, by name.

    Keys: `processor` (see `read_cpu_facts`), `memory_bytes`, `kernel`, `kernel_build`, `system`, `governors`,
    `frequency_driver`, `turbo`, `smt`, `allowed_cpus`, `isolated_cpus`, `cgroup`, `transparent_huge_pages`,
    `aslr`, `python`, `edgewright`, `packages`, `variables`, `locks`.
    """
    facts = {
        "processor": read_cpu_facts(root),
        "memory_bytes": read_meminfo(root).get("MemTotal"),
        "kernel": read_text(root / "proc/sys/kernel/osrelease"),
        "kernel_build": read_text(root / "proc/sys/kernel/version"),
        "system": _find_system(root),
        "governors": list_governors(root),
        "frequency_driver": read_text(root / CPU_FOLDER / "cpu0/cpufreq/scaling_driver"),
        "turbo": find_turbo(root),
        "smt": _find_smt(root),
        "allowed_cpus": _list_allowed_cpus(root),
        "isolated_cpus": list(parse_cpu_list(read_text(root / CPU_FOLDER / "isolated") or "")),
        "cgroup": read_cgroup_limits(root),
        "transparent_huge_pages": _find_huge_pages(root),
        "aslr": read_int(root / "proc/sys/kernel/randomize_va_space"),
        "python": {"version": platform.python_version(), "implementation": platform.python_implementation()},
        "edgewright": __version__,
        "packages": _list_versions(packages),
        "variables": list_variables(environ),
        "locks": dict(locks),
    }
    return {name: value for name, value in facts.items() if value not in (None, [], {}, "")}


def _find_system(root: Path) -> str | None:
    """Return the name of the operating system."""
    for name in ("etc/os-release", "usr/lib/os-release"):
        pairs = dict(parse_pairs(read_text(root / name) or "", "="))
        title = pairs.get("PRETTY_NAME") or pairs.get("NAME")
        if title:
            return title.strip("\"'")
    return None


def list_governors(root: Path) -> list[str]:
    """Return the frequency governors in use, each once, sorted."""
    cpus = list_numbered(root / CPU_FOLDER, "cpu")
    found = {read_text(cpu / "cpufreq/scaling_governor") for cpu in cpus}
    return sorted(governor for governor in found if governor)


def find_turbo(root: Path) -> bool | None:
    """Return whether processors may go above their base frequency; None where no driver reports it."""
    no_turbo = read_int(root / CPU_FOLDER / "intel_pstate/no_turbo")
    if no_turbo is not None:
        return no_turbo == 0
    boost = read_int(root / CPU_FOLDER / "cpufreq/boost")
    return None if boost is None else boost != 0


def _find_smt(root: Path) -> bool | None:
    """Return whether two threads share a core now."""
    active = read_int(root / CPU_FOLDER / "smt/active")
    return None if active is None else active != 0


def _list_allowed_cpus(root: Path) -> list[int]:
    """Return the processors that this process may run on."""
    pairs = dict(parse_pairs(read_text(root / "proc/self/status") or "", ":"))
    return list(parse_cpu_list(pairs.get("Cpus_allowed_list", "")))


def _find_huge_pages(root: Path) -> str | None:
    """Return the choice in brackets, as in `always [madvise] never`."""
    text = read_text(root / "sys/kernel/mm/transparent_hugepage/enabled") or ""
    chosen = re.search(r"\[(\w+)\]", text)
    return chosen[1] if chosen else None


def _list_versions(packages: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in sorted(set(packages)):
        try:
            found[name] = metadata.version(name)
        except (metadata.PackageNotFoundError, ValueError):
            continue
    return found


def list_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that affect a measurement, without any that may hold a secret."""
    return {
        name: value for name, value in sorted(environ.items()) if _is_relevant(name) and not _is_secret(name, value)
    }


def _is_relevant(name: str) -> bool:
    return name in VARIABLE_NAMES or name.startswith(VARIABLE_PREFIXES)


def _is_secret(name: str, value: str) -> bool:
    return bool(SECRET.search(name) or SECRET_VALUE.search(value))


def read_device_facts(root: Path) -> dict[str, Any]:
    """Return plain JSON values without unknown ones.

    Keys: those of `read_cpu_facts`; `soc`, `gpu`, `os`, `kernel` (texts), `memory` (bytes), `cores` (processors),
    `thermal_zones` (their kinds), `batteries` (their number), `governors`.
    """
    cpu = read_cpu_facts(root)
    facts = {
        **cpu,
        "soc": _find_soc(root) or cpu.get("model"),
        "gpu": _find_gpu(root),
        "os": _find_system(root),
        "kernel": read_text(root / "proc/sys/kernel/osrelease"),
        "memory": read_meminfo(root).get("MemTotal"),
        "cores": cpu.get("logical_cores"),
        "thermal_zones": list_thermal_zones(root),
        "batteries": len(read_batteries(root)),
        "governors": list_governors(root),
    }
    return {name: value for name, value in facts.items() if value not in (None, [], {}, "", 0)}


def _find_soc(root: Path) -> str | None:
    """Return the system on chip, from the kernel's soc bus or the last name in the device tree, as `bcm2712`."""
    for name in ("machine", "soc_id"):
        text = read_text(root / "sys/devices/soc0" / name)
        if text and text.lower() not in ("unknown", "0"):
            return text
    names = re.split(r"[\0\n]+", read_text(root / "proc/device-tree/compatible") or "")
    return names[-1].partition(",")[2] or names[-1] or None


def _find_gpu(root: Path) -> str | None:
    for name in ("sys/class/kgsl/kgsl-3d0/gpu_model", "sys/class/misc/mali0/device/gpuinfo"):
        text = read_text(root / name)
        if text:
            return text.splitlines()[0]
    return None
