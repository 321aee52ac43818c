"""The limits that control groups put on this process, version 1 and 2.

Only folders that are mounted as `cgroup` or `cgroup2` count: files of the same names on another file system
can be written and limit nothing.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edgewright.devices.sysfs import parse_int, read_int, read_text

# Version 1 says "no limit" by the largest multiple of the page size that fits 63 bits.
NO_LIMIT_BYTES = 1 << 60


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo: a part of a file system and its mount point."""

    root: str
    point: str
    kind: str
    options: tuple[str, ...]


def read_cgroup_limits(root: Path) -> dict[str, float]:
    """Return the tightest limits on the way from this process's group to the mount point.

    `cpus` is processor time per time (1.5 is one and a half processors), `memory_bytes` the memory.
    Unlimited resources are left out.
    """
    mounts = _list_mounts(root)
    groups = _list_groups(root)
    cpus = [
        quota for folder in _list_folders(root, mounts, groups, "cpu") if (quota := _read_quota(folder)) is not None
    ]
    sizes = [size for folder in _list_folders(root, mounts, groups, "memory") for size in _read_memory_limits(folder)]
    limits: dict[str, float] = {}
    if cpus:
        limits["cpus"] = min(cpus)
    if sizes:
        limits["memory_bytes"] = min(sizes)
    return limits


def _list_mounts(root: Path) -> list[Mount]:
    """Return the mounted control group file systems."""
    mounts = []
    for line in (read_text(root / "proc/self/mountinfo") or "").splitlines():
        before, found, after = line.partition(" - ")
        left, right = before.split(), after.split()
        if found and len(left) > 5 and len(right) > 2 and right[0] in ("cgroup", "cgroup2"):
            mounts.append(Mount(_unescape(left[3]), _unescape(left[4]), right[0], tuple(right[2].split(","))))
    return mounts


def _unescape(path: str) -> str:
    # mountinfo writes a space in a path as \040 (proc(5)).
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _list_groups(root: Path) -> dict[str, str]:
    """Return the path of this process's group per controller; the key of version 2 is `""`."""
    groups = {}
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        fields = line.split(":", 2)
        if len(fields) == 3:
            groups.update(dict.fromkeys(fields[1].split(","), fields[2]))
    return groups


def _list_folders(root: Path, mounts: list[Mount], groups: dict[str, str], controller: str) -> Iterator[Path]:
    for mount in mounts:
        if mount.kind == "cgroup2":
            yield from _list_ancestors(root, mount, groups.get("", "/"))
        elif controller in mount.options:
            yield from _list_ancestors(root, mount, groups.get(controller, "/"))


def _list_ancestors(root: Path, mount: Mount, group: str) -> Iterator[Path]:
    """Yield the group's folder and all folders above it, up to the mount point.

    In a container the mount's root is removed from the group's path, since the container sees only its part of the
    tree.
    """
    point = root / mount.point.lstrip("/")
    inside = group.removeprefix("/" if mount.root == "/" else mount.root).strip("/")
    parts = [] if ".." in group or not _is_under(group, mount.root) else inside.split("/")
    for length in range(len(parts), -1, -1):
        yield point.joinpath(*parts[:length])


def _is_under(group: str, top: str) -> bool:
    return top == "/" or group == top or group.startswith(top.rstrip("/") + "/")


def _read_quota(folder: Path) -> float | None:
    """Return the processors that one group may use; None without a limit."""
    words = (read_text(folder / "cpu.max") or "").split()
    if len(words) == 2:
        quota, period = parse_int(words[0]), parse_int(words[1])
    else:
        quota, period = read_int(folder / "cpu.cfs_quota_us"), read_int(folder / "cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 and period > 0 else None


def _read_memory_limits(folder: Path) -> list[int]:
    """Return the hard limit and, in version 2, the one above which the group is slowed down."""
    names = ("memory.max", "memory.high", "memory.limit_in_bytes")
    sizes = [read_int(folder / name) for name in names]
    return [size for size in sizes if size is not None and 0 < size < NO_LIMIT_BYTES]
