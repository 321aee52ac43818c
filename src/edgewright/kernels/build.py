"""The compiled kernels: prebuilt in the wheel, or built on this machine and cached by source and flags."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import platformdirs
from msgspec import Struct

from edgewright.kernels.sources import FLAGS, PREBUILT

TIMEOUT_S = 180  # zig compiles its C library at its first use


class Compiler(Struct, frozen=True):
    """A C compiler of this machine.

    Attributes:
        name: to show.
        command: its command line without flags.
    """

    name: str
    command: tuple[str, ...]


def find_compiler() -> Compiler | None:
    """Return the first of `$CC`, cc, gcc, clang, zig and the Python package ziglang; None if there is none."""
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        if name and (found := shutil.which(name)):
            return Compiler(name, (found,))
    if found := shutil.which("zig"):
        return Compiler("zig", (found, "cc"))
    if find_spec("ziglang"):
        return Compiler("ziglang", (sys.executable, "-m", "ziglang", "cc"))
    return None


def find_prebuilt() -> Path | None:
    """Return the library in the wheel for this system and processor; None if it has none."""
    path = PREBUILT / f"{sys.platform}-{name_machine()}{_get_suffix()}"
    return path if path.is_file() else None


def name_machine() -> str:
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())


def _get_suffix() -> str:
    return {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")


def find_cache() -> Path:
    """Return the folder of libraries that were built on this machine; it may not exist."""
    return platformdirs.user_cache_path("edgewright", appauthor=False) / "kernels"


def get_cached_path(compiler: Compiler, sources: Sequence[Path], flags: Sequence[str] = FLAGS) -> Path:
    """Return the path of a library by the hash of its sources, headers, flags, compiler and platform."""
    digest = hashlib.sha256(repr((compiler.command, tuple(flags), sysconfig.get_platform())).encode())
    for path in sorted({one for source in sources for one in source.parent.glob("*.[chi]*")}):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return find_cache() / f"{sources[0].stem}-{digest.hexdigest()[:20]}{_get_suffix()}"


def build_library(compiler: Compiler, sources: Sequence[Path], flags: Sequence[str] = FLAGS) -> tuple[Path | None, str]:
    """Return the cached library, built if it is absent; or None and the reason.

    Two processes may build the same library: each renames a finished file.
    """
    target = get_cached_path(compiler, sources, flags)
    if target.is_file():
        return target, ""
    part = target.with_name(f".{os.getpid()}-{target.name}")
    command = [*compiler.command, *flags, *map(str, sources), "-o", str(part), "-lm"]
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)  # noqa: S603 - the compiler of this machine
        if done.returncode:
            return None, f"{compiler.name} failed: {_shorten(done.stderr)}"
        part.replace(target)
    except subprocess.TimeoutExpired:
        return None, f"{compiler.name} took over {TIMEOUT_S} s"
    except OSError as error:
        return None, f"it cannot be built: {error.strerror or error}"
    finally:
        part.unlink(missing_ok=True)
    return target, ""


def _shorten(text: str) -> str:
    """Return the first error of a compiler's output, in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[0] if lines else "no message")[:300]
