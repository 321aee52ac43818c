"""Reading of the small files of /proc and /sys, any of which may be absent or unreadable."""

from collections.abc import Iterator
from pathlib import Path

# Far above what any kernel is built for (8,192); keeps a damaged list from filling the memory.
MAX_CPUS = 1 << 16


def read_text(path: Path) -> str | None:
    """Return the file's text without surrounding whitespace and NULs; None where it cannot be read."""
    try:
        return path.read_text(errors="replace").strip("\0 \t\r\n")
    except OSError:
        return None


def read_int(path: Path) -> int | None:
    """Return the file's whole text as a decimal number; None where it is not one."""
    return parse_int(read_text(path))


def parse_int(text: str | None) -> int | None:
    try:
        return int(text) if text else None
    except ValueError:
        return None


def parse_float(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def list_folder(folder: Path) -> list[Path]:
    """Return the folder's entries by name; empty where it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def list_numbered(folder: Path, prefix: str) -> list[Path]:
    """Return the entries named `prefix` and a number, in the order of the numbers (cpu2 before cpu10)."""
    found = [entry for entry in list_folder(folder) if _parse_number(entry.name, prefix) is not None]
    return sorted(found, key=lambda entry: _parse_number(entry.name, prefix) or 0)


def _parse_number(name: str, prefix: str) -> int | None:
    rest = name.removeprefix(prefix)
    return int(rest) if rest != name and rest.isdecimal() else None


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """Return the processors of a kernel list: `0-2,8` is 0, 1, 2, 8. Parts that are not numbers are skipped."""
    return tuple(sorted({cpu for part in text.split(",") for cpu in _parse_span(part)}))


def _parse_span(part: str) -> range:
    first, _, last = part.strip().partition("-")
    low, high = parse_int(first), parse_int(last or first)
    if low is None or high is None or high > MAX_CPUS:
        return range(0)
    return range(low, high + 1)


def parse_pairs(text: str, separator: str) -> Iterator[tuple[str, str]]:
    """Yield key and value of each line that has the separator."""
    for line in text.splitlines():
        key, found, value = line.partition(separator)
        if found:
            yield key.strip(), value.strip()


def read_meminfo(root: Path) -> dict[str, int]:
    """Return /proc/meminfo with its sizes in bytes."""
    sizes: dict[str, int] = {}
    for name, value in parse_pairs(read_text(root / "proc/meminfo") or "", ":"):
        size = parse_int(value.removesuffix("kB").strip())
        if size is not None and value.endswith("kB"):
            sizes[name] = size * 1024
    return sizes
