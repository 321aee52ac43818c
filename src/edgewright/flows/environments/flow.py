"""Setup and removal of isolated environments on the user's explicit command.

An environment is created in a hidden folder and renamed when it is complete, so that an interrupted setup never leaves
a usable but incomplete environment. The next setup removes the leftovers.
"""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from edgewright.errors import Cancelled, EdgewrightError, OutputError, UsageError
from edgewright.flows.environments.pip import (
    EnvironmentSetup,
    check_worker,
    find_conflicts,
    install_packages,
    make_venv,
    read_packages,
    read_wheels,
)
from edgewright.runtimes.environments import (
    RECORD,
    Environment,
    EnvironmentRecord,
    EnvironmentStatus,
    examine_environment,
    find_environment,
    normalize_name,
    read_lock,
)
from edgewright.system.locks import try_lock

Progress = Callable[[str], None]
# pip unpacks wheels beside its cache, and the file system needs some reserve.
DISK_SPACE_FACTOR = 1.3


class SetupPlan(NamedTuple):
    """Plan of a setup: the environment, its number of packages, and its approximate size."""

    environment: Environment
    packages: int
    bytes: int
    path: Path


def plan_setup(folder: Path, word: str) -> SetupPlan:
    """Return what `set_up_environment` would install.

    Raises:
        UsageError: an unknown name, or a Python version that its packages do not support.
    """
    info = find_environment(word)
    _check_python(info)
    path = examine_environment(folder, info.name).path
    return SetupPlan(info, len(read_lock(info.name)), info.megabytes * 1_000_000, path)


def _check_python(info: Environment) -> None:
    if sys.version_info[:2] > info.newest_python:
        newest = ".".join(map(str, info.newest_python))
        raise UsageError(
            f"{info.name} cannot be set up with Python {platform.python_version()}",
            f"its packages have no wheels for a Python newer than {newest}",
            f"install Edgewright in Python {newest}, and run the command there",
        )


def set_up_environment(folder: Path, word: str, progress: Progress) -> EnvironmentStatus:
    """Set up an environment from its lock file and return its state; one that is ready is not changed.

    Args:
        folder: folder of all environments; created if it does not exist.
        word: name of the environment.
        progress: progress callback.

    Raises:
        UsageError: the name is unknown, or the Python version is too new.
        OutputError: the folder is not writable, or the disk is too small.
        EdgewrightError: another process uses the environment, or Python, pip or the library failed; names the log.
        Cancelled: Ctrl-C; the environment does not exist then.
    """
    info = plan_setup(folder, word).environment
    with hold_lock(folder, info.name) as lock:
        clear_unfinished(folder, info.name)
        status = examine_environment(folder, info.name)
        if status.state == "ready":
            return status
        _check_disk_space(folder, info)
        part = folder / f".{info.name}-{os.getpid()}.part"
        setup = EnvironmentSetup(info, part, folder / f"{info.name}.log", lock.fileno(), progress)
        try:
            _activate_environment(setup, _build_environment(setup, status.lock), status)
        except KeyboardInterrupt:
            raise Cancelled(
                f"setup of {info.name} was stopped by Ctrl-C",
                "its incomplete files were removed",
                f"edgewright runtimes setup {info.name}",
            ) from None
        except OSError as error:
            raise OutputError(f"{info.name} cannot be written in {folder}", str(error)) from None
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return examine_environment(folder, info.name)


def _build_environment(setup: EnvironmentSetup, lock: str) -> EnvironmentRecord:
    """Install all packages, start a worker, and return the record of the environment."""
    setup.log.write_bytes(b"")
    make_venv(setup)
    install_packages(setup)
    packages = read_packages(setup)
    _check_versions(setup, packages)
    conflicts = find_conflicts(setup)
    check_worker(setup)
    setup.progress(f"{setup.info.name}: measuring its size")
    return EnvironmentRecord(
        name=setup.info.name,
        lock=lock,
        python=platform.python_version(),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        bytes=_measure_bytes(setup.part),
        packages=packages,
        wheels=read_wheels(setup),
        conflicts=conflicts,
    )


def _check_versions(setup: EnvironmentSetup, packages: dict[str, str]) -> None:
    """Raise EdgewrightError if the installed versions differ from the lock file, for example by pip's configuration."""
    have = {normalize_name(name): version.partition("+")[0] for name, version in packages.items()}
    wrong = [f"{name} {version}" for name, version in read_lock(setup.info.name).items() if have.get(name) != version]
    if wrong:
        raise EdgewrightError(
            f"{setup.info.name} does not match its lock file",
            f"pip did not install these packages in it: {', '.join(wrong[:5])}; see {setup.log}",
            "look for options in `pip config list` that redirect installations",
        )


def _activate_environment(setup: EnvironmentSetup, record: EnvironmentRecord, status: EnvironmentStatus) -> None:
    """Rename the environment to its final name, and remove earlier ones, including those of older lock files."""
    (setup.part / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    rewrite_paths(setup.part, status.path)
    if status.path.exists():
        _remove_folder(status.path)
    setup.part.rename(status.path)
    for path in status.leftovers:
        setup.progress(f"{setup.info.name}: removing the environment of an older lock file")
        _remove_folder(path)


def rewrite_paths(part: Path, final: Path) -> None:
    """Replace the folder's path in the environment's scripts, which contain the path of their interpreter."""
    scripts = [path for path in (part / "bin").glob("*") if path.is_file() and not path.is_symlink()]
    old, new = os.fsencode(part), os.fsencode(final)
    for path in (part / "pyvenv.cfg", *scripts):
        content = path.read_bytes()
        if old in content and b"\0" not in content:
            path.write_bytes(content.replace(old, new))


def remove_environment(folder: Path, word: str) -> list[Path]:
    """Remove an environment and leftovers of interrupted setups; return the removed folders."""
    name = find_environment(word).name
    if not folder.is_dir():
        return []
    with hold_lock(folder, name):
        clear_unfinished(folder, name)
        status = examine_environment(folder, name)
        paths = [path for path in (status.path, *status.leftovers) if path.is_dir()]
        for path in paths:
            _remove_folder(path)
        (folder / f"{name}.log").unlink(missing_ok=True)
    return paths


def _remove_folder(path: Path) -> None:
    """Remove a folder; rename it first, so that a partly removed folder is never used."""
    hidden = path.with_name(f".{path.name}.part")
    shutil.rmtree(hidden, ignore_errors=True)
    path.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def clear_unfinished(folder: Path, name: str) -> None:
    for path in folder.glob(f".{name}-*.part"):
        if (
            path.name.removeprefix(f".{name}-").partition(".")[0].isalnum()
        ):  # skip `litert-torch` when the name is `litert`
            shutil.rmtree(path, ignore_errors=True)


def _check_disk_space(folder: Path, info: Environment) -> None:
    wanted, free = info.megabytes * DISK_SPACE_FACTOR, shutil.disk_usage(folder).free / 1e6
    if free < wanted:
        raise OutputError(
            f"not enough disk space for {info.name}",
            f"the setup needs about {wanted:.0f} MB, and {folder} has {free:.0f} MB free",
            "free some space, or set EDGEWRIGHT_HOME to a folder on another disk",
        )


@contextmanager
def hold_lock(folder: Path, name: str) -> Iterator[IO[bytes]]:
    """Hold the lock of one environment; raise EdgewrightError if another process holds it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / f".{name}.lock").open("ab")
    except OSError as error:
        raise OutputError(
            f"folder is not writable: {folder}", str(error), "set EDGEWRIGHT_HOME to another folder"
        ) from None
    with file:
        if not try_lock(file):
            raise EdgewrightError(
                f"another process is setting up or removing {name}",
                f"it holds the lock {file.name}",
                "wait until it ends, then run: edgewright runtimes list",
            )
        yield file


def _measure_bytes(path: Path) -> int:
    """Return the bytes of all files in a folder, without the targets of links."""
    return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(path) for name in names)  # noqa: PTH118 - Path.walk is Python 3.12's, and rglob takes thrice as long
