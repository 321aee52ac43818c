"""The processor as /proc and /sys describe it: name, cores, frequencies, instruction sets, caches."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgewright.devices.sysfs import (
    list_folder,
    list_numbered,
    parse_cpu_list,
    parse_int,
    parse_pairs,
    read_int,
    read_text,
)
from edgewright.errors import UsageError

CPU_FOLDER = "sys/devices/system/cpu"

# The kernel's names of the instruction sets that inference kernels choose by.
FEATURES = frozenset(
    (
        *("sse4_1", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx_vnni_int8"),
        *("avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
        *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
        *(
            "neon",
            "asimd",
            "asimddp",
            "fphp",
            "asimdhp",
            "asimdfhm",
            "i8mm",
            "bf16",
            "sve",
            "sve2",
            "sme",
            "sme2",
        ),
    )
)

# MIDR_EL1: implementer codes from the Arm Architecture Reference Manual, part numbers from the
# Technical Reference Manual of each core.
IMPLEMENTERS = {
    0x41: "Arm",
    0x42: "Broadcom",
    0x43: "Cavium",
    0x46: "Fujitsu",
    0x48: "HiSilicon",
    0x4E: "NVIDIA",
    0x50: "APM",
    0x51: "Qualcomm",
    0x53: "Samsung",
    0x56: "Marvell",
    0x61: "Apple",
    0x6D: "Microsoft",
    0xC0: "Ampere",
}
ARM_PARTS = {
    0xC07: "Cortex-A7",
    0xC09: "Cortex-A9",
    0xC0F: "Cortex-A15",
    0xD03: "Cortex-A53",
    0xD04: "Cortex-A35",
    0xD05: "Cortex-A55",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD42: "Cortex-A78AE",
    0xD44: "Cortex-X1",
    0xD46: "Cortex-A510",
    0xD47: "Cortex-A710",
    0xD48: "Cortex-X2",
    0xD49: "Neoverse-N2",
    0xD4D: "Cortex-A715",
    0xD4E: "Cortex-X3",
    0xD4F: "Neoverse-V2",
    0xD80: "Cortex-A520",
    0xD81: "Cortex-A720",
    0xD82: "Cortex-X4",
}

# Text in machine descriptions (DMI, device tree) that a hypervisor wrote.
HYPERVISORS = {
    "qemu": "QEMU",
    "kvm": "KVM",
    "vmware": "VMware",
    "virtualbox": "VirtualBox",
    "innotek": "VirtualBox",
    "xen": "Xen",
    "bochs": "Bochs",
    "parallels": "Parallels",
    "amazon ec2": "KVM",
    "google compute engine": "KVM",
    "virtual machine": "Hyper-V",
    "firecracker": "Firecracker",
}

Blocks = Sequence[Mapping[str, str]]


def read_cpu_facts(root: Path = Path("/")) -> dict[str, Any]:
    """Return the stable facts of the processor, read from `root`/proc and `root`/sys, without unknown ones.

    Keys: `model`, `vendor`, `architecture`, `board`, `physical_cores`, `logical_cores`, `threads_per_core`,
    `one_per_core` (one processor number of each core), `base_khz`, `max_khz`, `features` (the kernel's names
    of instruction sets that all processors have), `caches` (level, type, bytes, count),
    `clusters` (where cores differ: cpus, model, max_khz, capacity, features; the fastest first),
    `virtual` (True under a hypervisor) and
    `hypervisor` (its name).
    """
    blocks = _read_cpuinfo(root)
    facts = {
        "model": find_model(blocks),
        "vendor": _find_vendor(blocks),
        "architecture": _find_architecture(root, blocks),
        "board": _find_board(root),
        **_count_cores(root, blocks),
        "base_khz": _find_base_khz(root, blocks),
        "max_khz": max((khz for khz in _read_max_khz(root).values()), default=None),
        "features": _list_features(blocks),
        "caches": _list_caches(root),
        "clusters": _list_clusters(root, blocks),
        "virtual": find_virtual(root, blocks),
        "hypervisor": _find_hypervisor(root),
    }
    return {name: value for name, value in facts.items() if value not in (None, [], "")}


def _read_cpuinfo(root: Path) -> list[dict[str, str]]:
    """Return /proc/cpuinfo as one dict per processor, from the x86 or the ARM format."""
    text = read_text(root / "proc/cpuinfo") or ""
    blocks = [dict(parse_pairs(block, ":")) for block in re.split(r"\n\s*\n", text)]
    return [block for block in blocks if "processor" in block]


def find_model(blocks: Blocks) -> str | None:
    """Return the processor's name; on ARM the names of its kinds of core, as `Cortex-A76 + Cortex-A55`."""
    kinds = dict.fromkeys(name for block in blocks if (name := _name_core(block)))
    known = [kind for kind in kinds if not kind.startswith("part ")]
    if kinds and (known or not any("model name" in block for block in blocks)):
        return " + ".join(sorted(kinds, key=lambda kind: -_find_largest_part(kind, blocks)))
    return next((block["model name"] for block in blocks if block.get("model name")), None)


def _find_largest_part(kind: str, blocks: Blocks) -> int:
    # Arm gives larger cores of a generation higher numbers, and big.LITTLE lists start with the large cores.
    return max(_parse_hex(block.get("CPU part")) or 0 for block in blocks if _name_core(block) == kind)


def _name_core(block: Mapping[str, str]) -> str | None:
    """Return the core's name from an ARM block's implementer and part; `part 0x…` if it is unknown."""
    part = _parse_hex(block.get("CPU part"))
    if part is None:
        return None
    if _parse_hex(block.get("CPU implementer")) == 0x41 and part in ARM_PARTS:
        return ARM_PARTS[part]
    return f"part {part:#05x}"


def _parse_hex(text: str | None) -> int | None:
    try:
        return int(text, 16) if text else None
    except ValueError:
        return None


def _find_vendor(blocks: Blocks) -> str | None:
    for block in blocks:
        if block.get("vendor_id"):
            return block["vendor_id"]
        code = _parse_hex(block.get("CPU implementer"))
        if code is not None:
            return IMPLEMENTERS.get(code, f"implementer {code:#x}")
    return None


def _find_architecture(root: Path, blocks: Blocks) -> str | None:
    """Return the kernel's name (`x86_64`, `aarch64`); from the flags where the kernel is older than 6.1."""
    reported = read_text(root / "proc/sys/kernel/arch")
    if reported:
        return reported
    flags = _list_flags(blocks[0]) if blocks else set()
    if "fpu" in flags:
        return "x86_64" if "lm" in flags else "i686"
    if {"asimd", "neon"} & flags:
        return "aarch64" if "asimd" in flags else "armv7l"
    return None


def _find_board(root: Path) -> str | None:
    """Return the board's or machine's name from the device tree or DMI."""
    for name in ("proc/device-tree/model", "sys/class/dmi/id/product_name"):
        text = read_text(root / name)
        if text:
            return text
    return None


def _list_flags(block: Mapping[str, str]) -> set[str]:
    return set((block.get("flags") or block.get("Features") or "").split())


def _list_features(blocks: Blocks) -> list[str]:
    """Return the instruction sets among FEATURES that every processor has, sorted."""
    if not blocks:
        return []
    return sorted(FEATURES.intersection(*(_list_flags(block) for block in blocks)))


def _count_cores(root: Path, blocks: Blocks) -> dict[str, Any]:
    """Count the online processors. Siblings are read from sysfs, else from cpuinfo's core ids."""
    groups = list_core_groups(root) or _group_by_core_id(blocks)
    logical = sum(len(group) for group in groups) or len(blocks)
    if not groups:
        return {"logical_cores": logical or None}
    return {
        "physical_cores": len(groups),
        "logical_cores": logical,
        "threads_per_core": max(len(group) for group in groups),
        "one_per_core": [group[0] for group in groups],
    }


def list_core_groups(root: Path) -> list[tuple[int, ...]]:
    """Return the processors of each physical core, from sysfs."""
    groups = set()
    for cpu in list_numbered(root / CPU_FOLDER, "cpu"):
        text = read_text(cpu / "topology/core_cpus_list") or read_text(cpu / "topology/thread_siblings_list")
        if text:
            groups.add(parse_cpu_list(text))
    return sorted(group for group in groups if group)


def _group_by_core_id(blocks: Blocks) -> list[tuple[int, ...]]:
    cores: dict[tuple[str, str], list[int]] = {}
    for block in blocks:
        number = parse_int(block["processor"])
        if number is not None and "core id" in block:
            cores.setdefault((block.get("physical id", "0"), block["core id"]), []).append(number)
    return sorted(tuple(cpus) for cpus in cores.values())


def _read_max_khz(root: Path) -> dict[int, int]:
    """Return the highest frequency of each processor that cpufreq manages."""
    found = {}
    for cpu in list_numbered(root / CPU_FOLDER, "cpu"):
        khz = read_int(cpu / "cpufreq/cpuinfo_max_freq")
        if khz is not None:
            found[int(cpu.name.removeprefix("cpu"))] = khz
    return found


def _find_base_khz(root: Path, blocks: Blocks) -> int | None:
    """Return the frequency without boost: of the driver, of ACPI's CPPC table, or of the name (`@ 2.60GHz`)."""
    first = root / CPU_FOLDER / "cpu0"
    reported = read_int(first / "cpufreq/base_frequency")
    if reported:
        return reported
    nominal_mhz = read_int(first / "acpi_cppc/nominal_freq")
    if nominal_mhz:
        return nominal_mhz * 1000
    named = re.search(r"@ (\d+(?:\.\d+)?)GHz", find_model(blocks) or "")
    return round(float(named[1]) * 1e6) if named else None


def _list_caches(root: Path) -> list[dict[str, Any]]:
    """Return the caches by level and type; `count` is the number of caches of that size."""
    seen: set[tuple[int, str, int, str]] = set()
    for cpu in list_numbered(root / CPU_FOLDER, "cpu"):
        for index in list_numbered(cpu / "cache", "index"):
            level, size = read_int(index / "level"), parse_size(read_text(index / "size"))
            shared = read_text(index / "shared_cpu_list")
            if level is not None and size is not None and shared is not None:
                seen.add((level, read_text(index / "type") or "Unified", size, shared))
    kinds = [entry[:3] for entry in seen]
    return [
        {"level": level, "type": kind, "bytes": size, "count": kinds.count((level, kind, size))}
        for level, kind, size in sorted(set(kinds))
    ]


def parse_size(text: str | None) -> int | None:
    """Return the bytes of a size such as `32K` or `8M`."""
    number = parse_int((text or "").rstrip("KMG"))
    scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get((text or " ")[-1], 1)
    return None if number is None else number * scale


def _list_clusters(root: Path, blocks: Blocks) -> list[dict[str, Any]]:
    """Return the groups of equal cores, fastest first, if the machine has several kinds (big.LITTLE, hybrid)."""
    khz = _read_max_khz(root)
    groups: dict[tuple[str, int], list[int]] = {}
    features: dict[int, list[str]] = {}
    for block in blocks:
        cpu = parse_int(block["processor"])
        if cpu is not None:
            groups.setdefault((_name_core(block) or "", khz.get(cpu, 0)), []).append(cpu)
            features[cpu] = _list_features([block])
    # Boost limits that differ a little between equal cores do not make two kinds of core.
    speeds = [speed for _, speed in groups if speed]
    kinds = {name for name, _ in groups}
    if len(kinds) < 2 and (not speeds or min(speeds) > 0.85 * max(speeds)):
        return []
    ordered = sorted(groups.items(), key=lambda item: (-item[0][1], -_read_capacity(root, item[1]), item[1]))
    return [_make_cluster(kind, cpus, _read_capacity(root, cpus), features[cpus[0]]) for kind, cpus in ordered]


def choose_cores(text: str, facts: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the processors of `big`, `little`, `all` (none: the system's choice) or a list such as `0-3`.

    On a device whose cores are equal, all are big and little. Raises UsageError for another text.
    """
    word = text.strip().lower()
    clusters = facts.get("clusters") or [{"cpus": ()}]
    if word in ("big", "little"):
        return tuple(clusters[0 if word == "big" else -1]["cpus"])
    if word == "all":
        return ()
    cpus = parse_cpu_list(word)
    if not cpus or not re.fullmatch(r"[\d,\s-]+", word):
        raise UsageError(
            f"--cores {text[:40]} cannot be used", "it is no list of processors", "--cores big, or --cores 0-3"
        )
    return cpus


def _read_capacity(root: Path, cpus: Sequence[int]) -> int:
    """Return the kernel's measure of speed, 1024 for the fastest processor; 0 if it is unknown."""
    return read_int(root / CPU_FOLDER / f"cpu{cpus[0]}" / "cpu_capacity") or 0


def _make_cluster(kind: tuple[str, int], cpus: list[int], capacity: int, features: list[str]) -> dict[str, Any]:
    facts = {"cpus": cpus, "model": kind[0], "max_khz": kind[1], "capacity": capacity, "features": features}
    return {key: value for key, value in facts.items() if value}


def find_virtual(root: Path, blocks: Blocks) -> bool | None:
    """Return True under a hypervisor, False if an x86 processor reports none, None if it is unknown."""
    if _find_hypervisor(root):
        return True
    flags = _list_flags(blocks[0]) if blocks else set()
    return "hypervisor" in flags if "fpu" in flags else None


def _find_hypervisor(root: Path) -> str | None:
    """Return the hypervisor's name, from Xen's own file, the device tree or DMI."""
    reported = read_text(root / "sys/hypervisor/type")
    if reported and reported != "none":
        return {"xen": "Xen"}.get(reported, reported)
    paths = [root / "proc/device-tree/hypervisor/compatible", root / "proc/device-tree/model"]
    paths += [entry for entry in list_folder(root / "sys/class/dmi/id") if entry.name in ("sys_vendor", "product_name")]
    text = " ".join(read_text(path) or "" for path in paths).lower()
    return next((name for mark, name in HYPERVISORS.items() if mark in text), None)
