"""Set up and remove isolated environments: on the user's explicit command, and never half.

An environment is made in a hidden folder beside its place and gets its name when it is whole, so that a setup that is
stopped, by whatever, leaves nothing that could be taken for one. What it leaves is cleared by the next.
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
# pip unpacks beside what it keeps, and a file system needs some room of its own.
DISK_SPACE_FACTOR = 1.3


class SetupPlan(NamedTuple):
    """What a setup would do: the environment, how many packages it brings, and about how large it gets."""

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
            f"install Edgewright under Python {newest}, and run the command there",
        )


def set_up_environment(folder: Path, word: str, progress: Progress) -> EnvironmentStatus:
    """Make an environment from its lock, and say how it stands then; one that is ready is left alone.

    Args:
        folder: that of all environments; made where it is absent.
        tell: is told each stage.

    Raises:
        UsageError: the name is not known, or the Python too new.
        OutputError: the folder cannot be written to, or the disk is too small.
        EdgewrightError: another process is at it, or Python, pip or the library itself failed; names the log.
        Cancelled: after Ctrl-C. Nothing stands under the final name then.
    """
    info = plan_setup(folder, word).environment
    with hold_lock(folder, info.name) as lock:
        clear_unfinished(folder, info.name)
        standing = examine_environment(folder, info.name)
        if standing.state == "ready":
            return standing
        _check_disk_space(folder, info)
        part = folder / f".{info.name}-{os.getpid()}.part"
        setup = EnvironmentSetup(info, part, folder / f"{info.name}.log", lock.fileno(), progress)
        try:
            _activate_environment(setup, _build_environment(setup, standing.lock), standing)
        except KeyboardInterrupt:
            raise Cancelled(
                f"{info.name} was not set up: stopped by Ctrl-C",
                "nothing of it is left",
                f"edgewright runtimes setup {info.name}",
            ) from None
        except OSError as error:
            raise OutputError(f"{info.name} cannot be written to {folder}", str(error)) from None
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return examine_environment(folder, info.name)


def _build_environment(setup: EnvironmentSetup, lock: str) -> EnvironmentRecord:
    """Install everything and try it; the record of what was installed."""
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
    """What is installed must be what the lock says, whatever pip's own configuration made of it."""
    have = {normalize_name(name): version.partition("+")[0] for name, version in packages.items()}
    wrong = [f"{name} {version}" for name, version in read_lock(setup.info.name).items() if have.get(name) != version]
    if wrong:
        raise EdgewrightError(
            f"{setup.info.name} is not what its lock says",
            f"pip did not put these into it: {', '.join(wrong[:5])}; see {setup.log}",
            "look for options in `pip config list` that lead an installation elsewhere",
        )


def _activate_environment(setup: EnvironmentSetup, record: EnvironmentRecord, standing: EnvironmentStatus) -> None:
    """Give the environment its name; what was there before under it, or of older locks, goes."""
    (setup.part / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    rewrite_paths(setup.part, standing.path)
    if standing.path.exists():
        _remove_folder(standing.path)
    setup.part.rename(standing.path)
    for path in standing.leftovers:
        setup.progress(f"{setup.info.name}: removing that of an older lock")
        _remove_folder(path)


def rewrite_paths(part: Path, final: Path) -> None:
    """Write the final path into the scripts of the environment, which name their interpreter by its path."""
    scripts = [path for path in (part / "bin").glob("*") if path.is_file() and not path.is_symlink()]
    old, new = os.fsencode(part), os.fsencode(final)
    for path in (part / "pyvenv.cfg", *scripts):
        content = path.read_bytes()
        if old in content and b"\0" not in content:
            path.write_bytes(content.replace(old, new))


def remove_environment(folder: Path, word: str) -> list[Path]:
    """Remove an environment of whatever lock, and what a stopped setup left; the folders that are gone now."""
    name = find_environment(word).name
    if not folder.is_dir():
        return []
    with hold_lock(folder, name):
        clear_unfinished(folder, name)
        standing = examine_environment(folder, name)
        paths = [path for path in (standing.path, *standing.leftovers) if path.is_dir()]
        for path in paths:
            _remove_folder(path)
        (folder / f"{name}.log").unlink(missing_ok=True)
    return paths


def _remove_folder(path: Path) -> None:
    """Remove a folder; it loses its name first, so that no half of it is ever seen under that."""
    hidden = path.with_name(f".{path.name}.part")
    shutil.rmtree(hidden, ignore_errors=True)
    path.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def clear_unfinished(folder: Path, name: str) -> None:
    for path in folder.glob(f".{name}-*.part"):
        if path.name.removeprefix(f".{name}-").partition(".")[0].isalnum():  # not those of `litert-torch` for `litert`
            shutil.rmtree(path, ignore_errors=True)


def _check_disk_space(folder: Path, info: Environment) -> None:
    wanted, free = info.megabytes * DISK_SPACE_FACTOR, shutil.disk_usage(folder).free / 1e6
    if free < wanted:
        raise OutputError(
            f"there is no room for {info.name}",
            f"it takes about {wanted:.0f} MB while it is made, and {folder} has {free:.0f} MB free",
            "free some space, or point EDGEWRIGHT_HOME at another disk",
        )


@contextmanager
def hold_lock(folder: Path, name: str) -> Iterator[IO[bytes]]:
    """Hold the lock on one environment; EdgewrightError where another process holds it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / f".{name}.lock").open("ab")
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written to", str(error), "point EDGEWRIGHT_HOME at another folder"
        ) from None
    with file:
        if not try_lock(file):
            raise EdgewrightError(
                f"{name} is being set up or removed by another process",
                f"it holds {file.name}",
                "wait until it has ended, and look at: edgewright runtimes list",
            )
        yield file


def _measure_bytes(path: Path) -> int:
    """Bytes of all files below; what links point to is not counted."""
    return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(path) for name in names)  # noqa: PTH118 - Path.walk is Python 3.12's, and rglob takes thrice as long
