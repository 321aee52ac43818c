"""What is installed on a device: Edgewright's worker as a zip, and the wheels of a runtime for the device's platform.

The wheels are resolved and downloaded on this machine by pip, whose configuration applies (`PIP_FIND_LINKS`,
`PIP_NO_INDEX`, `PIP_INDEX_URL`). They are kept in a folder of the user's data: the next device needs no network.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import NamedTuple
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from edgewright.devices.remote.probe import BoardInfo
from edgewright.errors import DeviceUnreachable, RuntimeMissing
from edgewright.formats.files import hash_file
from edgewright.runtimes.table import RuntimeInfo
from edgewright.system.files import replace_atomically

PACKAGE = Path(__file__).resolve().parents[2]
# Parts of the package that a worker may import.
WORKER_PARTS = ("runtimes", "schema", "system", "formats")
WORKER_PACKAGES = ("msgspec", "numpy")
PROFILER_PACKAGES = {"onnxruntime": ("onnx",)}  # what the layer pass imports beyond the runtime
PIP_SECONDS = 1800
OLDEST_GLIBC, OLDEST_MUSL = 17, 1
FOLDER = "devices/wheels"


class Wheel(NamedTuple):
    """A wheel file with its hash."""

    path: Path
    sha256: str

    @property
    def package(self) -> tuple[str, str]:
        """Return name and version."""
        name, version = self.path.name.split("-")[:2]
        return name.replace("_", "-").lower(), version


def list_platforms(machine: str, libc: tuple[str, int, int]) -> list[str]:
    """Return the platform tags of wheels that run with this C library, the newest first (PEP 600, PEP 656)."""
    kind, major, minor = libc
    if kind == "musl":
        return [f"musllinux_{major}_{number}_{machine}" for number in range(minor, OLDEST_MUSL - 1, -1)]
    tags = [f"manylinux_{major}_{number}_{machine}" for number in range(minor, OLDEST_GLIBC - 1, -1)]
    return [*tags, f"manylinux2014_{machine}", f"linux_{machine}"]


def list_requirements(info: RuntimeInfo) -> list[str]:
    """Return the packages of a runtime's worker, in this machine's versions so that results can be compared."""
    names = [*WORKER_PACKAGES, *PROFILER_PACKAGES.get(info.name, ())]
    if info.name != "pretend":
        names.append(info.distribution)
    return [f"{name}=={version}" if (version := _find_version(name)) else name for name in names]


def _find_version(name: str) -> str:
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        return ""


def collect_wheels(
    info: RuntimeInfo, board: BoardInfo, python: tuple[int, int, int], home: Path, progress: Callable[[str], None]
) -> list[Wheel]:
    """Return the wheels of a runtime and all it depends on, for the device's platform and Python.

    Raises RuntimeMissing if there are none, DeviceUnreachable for a device whose platform is unknown.
    """
    if board.system != "Linux" or board.libc is None:
        raise DeviceUnreachable(
            f"{info.title} cannot be set up on this device",
            f"its system is {board.system or 'unknown'}, and its C library is neither a known glibc nor musl",
            "use a device with Linux",
        )
    platforms, requirements = list_platforms(board.machine, board.libc), list_requirements(info)
    key = sha256(" ".join([*platforms, *map(str, python[:2]), *requirements]).encode()).hexdigest()[:16]
    folder = home / FOLDER / key
    if not (folder / "complete").exists():
        progress(f"collecting the packages of {info.title} for {board.machine} and Python {python[0]}.{python[1]}")
        folder.mkdir(parents=True, exist_ok=True)
        _download(info, [*_make_options(platforms, python), "--dest", str(folder)], requirements)
        (folder / "complete").touch()
    return [Wheel(path, hash_file(path)) for path in sorted(folder.glob("*.whl"))]


def _make_options(platforms: Sequence[str], python: tuple[int, int, int]) -> list[str]:
    number = f"{python[0]}{python[1]}"
    options = ["--only-binary=:all:", "--implementation", "cp", "--python-version", f"{python[0]}.{python[1]}"]
    for abi in (f"cp{number}", "abi3", "none"):
        options += ["--abi", abi]
    for platform in platforms:
        options += ["--platform", platform]
    return options


def _download(info: RuntimeInfo, options: Sequence[str], requirements: Sequence[str]) -> None:
    """Download in the given versions, else in the newest that exist for the platform."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        *options,
    ]
    failure = ""
    for wanted in (requirements, [requirement.partition("==")[0] for requirement in requirements]):
        done = subprocess.run(  # noqa: S603 - pip, with names from our own table
            [*command, *wanted], capture_output=True, timeout=PIP_SECONDS, check=False, env=_make_environment()
        )
        if done.returncode == 0:
            return
        failure = failure or done.stderr.decode(errors="replace")
    lines = [line for line in failure.splitlines() if line.startswith("ERROR")] or failure.splitlines()[-3:]
    raise RuntimeMissing(
        f"{info.title} cannot be set up on this device",
        "\n".join(lines) or "pip reported no reason",
        "check the network and pip's configuration, or choose a runtime with wheels for the device's platform",
    )


def _make_environment() -> dict[str, str]:
    """Return our variables without those that redirect pip."""
    redirecting = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_DRY_RUN")
    return {name: value for name, value in os.environ.items() if name not in redirecting}


def write_source(home: Path) -> Wheel:
    """Return a zip of the modules that a worker may import: equal sources give equal bytes."""
    files = sorted([*PACKAGE.glob("*.py"), *(path for part in WORKER_PARTS for path in (PACKAGE / part).rglob("*.py"))])
    digest = sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    target = home / FOLDER / f"edgewright-{digest}.zip"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(target) as part, ZipFile(part, "w", ZIP_DEFLATED) as archive:
            for path in files:
                name = ZipInfo(f"edgewright/{path.relative_to(PACKAGE).as_posix()}", (1980, 1, 1, 0, 0, 0))
                archive.writestr(name, path.read_bytes(), ZIP_DEFLATED)
    return Wheel(target, hash_file(target))


def describe_packages(wheels: Sequence[Wheel]) -> dict[str, str]:
    return dict(wheel.package for wheel in wheels)
