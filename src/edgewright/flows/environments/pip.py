"""Python and pip as child processes that build an environment, and their error messages."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from edgewright.errors import EdgewrightError, OutputError
from edgewright.runtimes.environments import (
    TORCH_INDEX,
    Environment,
    get_lock_path,
    get_python_path,
    make_launch_command,
    read_lock,
    select_cpu_build,
)
from edgewright.runtimes.launch import SITE_FILES
from edgewright.runtimes.wire import Greeting, Hello
from edgewright.system.signals import kill_group

POLL_S = 0.2
TAIL_BYTES = 65536
WORKER_START_SECONDS = 180
# Variables that redirect the installation, or add other packages to the environment.
REDIRECTING_VARIABLES = {
    "PYTHONPATH",
    "PYTHONHOME",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_USER",
    "PIP_DRY_RUN",
    "PIP_PYTHON",
}
NETWORK_ERROR = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|Max retries exceeded"
    r"|Temporary failure in name resolution|Network is unreachable|Connection refused|Connection aborted|SSLError"
)
DISK_FULL_ERROR = re.compile(r"No space left on device|Errno 28|Disk quota exceeded")


class EnvironmentSetup(NamedTuple):
    """State of a running setup.

    Attributes:
        part: folder that is being built.
        log: file with the output of Python and pip.
        lock: descriptor of the held lock; pip inherits it, so that a pip that outlives this process keeps the lock.
        progress: progress callback.
    """

    info: Environment
    part: Path
    log: Path
    lock: int
    progress: Callable[[str], None]


def make_venv(setup: EnvironmentSetup) -> None:
    """Create an empty environment with pip; raise EdgewrightError if this Python cannot create one."""
    setup.progress(f"{setup.info.name}: creating the environment")
    if run_logged([sys.executable, "-I", "-m", "venv", str(setup.part)], setup) == 0:
        for name, text in SITE_FILES.items():
            (find_site_packages(setup.part) / name).write_text(text, encoding="utf-8")
        return
    output = _read_tail(setup.log)
    _check_disk_full(setup, output)
    lacking = "ensurepip is not" in output or "No module named" in output
    raise EdgewrightError(
        f"{setup.info.name} was not set up: Python could not create a virtual environment",
        f"{_extract_error_lines(output)}\nsee {setup.log}",
        "install your system's package python3-venv"
        if lacking
        else "run `python -m venv FOLDER` to reproduce the error",
    )


def find_site_packages(path: Path) -> Path:
    """Return an environment's site-packages folder."""
    return next(iter([*path.glob("lib/python3*/site-packages"), path / "Lib" / "site-packages"]))


def install_packages(setup: EnvironmentSetup) -> None:
    """Install the packages of the lock file without dependency resolution; torch first, as the build without CUDA."""
    lock = read_lock(setup.info.name)
    if "torch" in lock:
        _install_torch(setup, select_cpu_build(f"torch=={lock['torch']}"))
    count = len(lock)
    seen: set[str] = set()

    def follow(text: str) -> None:
        seen.update(re.findall(r"^(?:Collecting|Processing|Requirement already satisfied:) (\S+)", text, re.MULTILINE))
        share = min(len(seen), count) * 4 // count * 25
        unpacks = "Installing collected packages" in text
        setup.progress(f"{setup.info.name}: {'installing' if unpacks else f'downloading {count} packages, {share} %'}")

    if _run_pip(setup, "packages", ["-r", str(get_lock_path(setup.info.name))], follow):
        raise _make_pip_error(setup)


def _install_torch(setup: EnvironmentSetup, build: str) -> None:
    """Install torch from the user's indexes if they have the build, else from the PyTorch index."""
    setup.progress(f"{setup.info.name}: downloading {build}")
    if _run_pip(setup, "torch", [build]) and _run_pip(setup, "torch", ["--extra-index-url", TORCH_INDEX, build]):
        raise _make_pip_error(setup)


def _run_pip(
    setup: EnvironmentSetup, title: str, wants: Sequence[str], follow: Callable[[str], None] | None = None
) -> int:
    """Return pip's exit code. pip uses the user's configuration: indexes, proxies, certificates."""
    options = ["--no-deps", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    command = [str(get_python_path(setup.part)), "-I", "-m", "pip", "install", *options]
    return run_logged([*command, "--report", str(_get_report_path(setup, title)), *wants], setup, follow)


def _get_report_path(setup: EnvironmentSetup, title: str) -> Path:
    return setup.part / f"pip-{title}.json"


def run_logged(command: Sequence[str], setup: EnvironmentSetup, follow: Callable[[str], None] | None = None) -> int:
    """Run a command with its output in the log, and return its exit code; an exception kills the process."""
    environ = {name: value for name, value in os.environ.items() if name not in REDIRECTING_VARIABLES}
    with setup.log.open("ab") as log:
        begin = setup.log.stat().st_size
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environ,
            start_new_session=True,
            pass_fds=() if sys.platform == "win32" else (setup.lock,),
        )
        try:
            while process.poll() is None:
                if follow:
                    follow(setup.log.read_bytes()[begin:].decode(errors="replace"))
                time.sleep(POLL_S)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                kill_group(process.pid)
            process.wait()
            raise
    return process.returncode


def _query_pip(setup: EnvironmentSetup, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(get_python_path(setup.part)), "-I", "-m", "pip", "--disable-pip-version-check", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - as above


def read_packages(setup: EnvironmentSetup) -> dict[str, str]:
    """Return the installed versions by package name."""
    listing = _query_pip(setup, "list", "--format=json").stdout
    return {item["name"]: item["version"] for item in json.loads(listing or "[]")}


def find_conflicts(setup: EnvironmentSetup) -> tuple[str, ...]:
    """Return the conflicts of `pip check`: another system may need packages that are not in the lock file."""
    setup.progress(f"{setup.info.name}: checking for dependency conflicts")
    checked = _query_pip(setup, "check")
    return tuple(checked.stdout.strip().splitlines()) if checked.returncode else ()


def read_wheels(setup: EnvironmentSetup) -> dict[str, str]:
    """Return the sha256 of the installed files by package name, from pip's installation reports (version 1)."""
    items: list[dict[str, Any]] = []
    for path in setup.part.glob("pip-*.json"):
        items += json.loads(path.read_text(encoding="utf-8"))["install"]
        path.unlink()
    hashes = {item["metadata"]["name"]: item["download_info"].get("archive_info", {}) for item in items}
    return {
        name: info["hashes"]["sha256"] for name, info in sorted(hashes.items()) if "sha256" in info.get("hashes", {})
    }


def check_worker(setup: EnvironmentSetup) -> None:
    """Start the environment's worker, to check that the installed library loads."""
    if setup.info.modules:
        _check_modules(setup)
        return
    setup.progress(f"{setup.info.name}: starting a worker")
    command = make_launch_command(setup.part, setup.info.worker, setup.info.runtime)
    output, greeting = f"the worker did not start within {WORKER_START_SECONDS} s", None
    try:
        done = subprocess.run(  # noqa: S603 - as above
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WORKER_START_SECONDS, check=False
        )
        output = done.stderr
        greeting = msgspec.json.decode(done.stdout.partition("\n")[0], type=Greeting)
    except (subprocess.TimeoutExpired, msgspec.MsgspecError):
        pass
    if not isinstance(greeting, Hello):
        why = greeting.why if greeting else _extract_error_lines(output)
        with setup.log.open("a") as log:
            log.write(output)
        raise EdgewrightError(
            f"{setup.info.name} was not set up: its worker does not start",
            f"{why}\nsee {setup.log}",
            "report the error with the log",
        )


def _check_modules(setup: EnvironmentSetup) -> None:
    setup.progress(f"{setup.info.name}: importing its packages")
    command = [str(get_python_path(setup.part)), "-I", "-c", f"import {', '.join(setup.info.modules)}"]
    if run_logged(command, setup):
        raise EdgewrightError(
            f"{setup.info.name} was not set up: its packages cannot be imported",
            f"{_extract_error_lines(_read_tail(setup.log))}\nsee {setup.log}",
            "report the error with the log",
        )


def _make_pip_error(setup: EnvironmentSetup) -> EdgewrightError:
    """Return the error for a failed pip command."""
    output = _read_tail(setup.log)
    _check_disk_full(setup, output)
    if NETWORK_ERROR.search(output):
        return EdgewrightError(
            f"{setup.info.name} was not set up: the package index cannot be reached",
            f"{_extract_error_lines(output)}\nsee {setup.log}",
            "check the network connection, or use another index: pip config set global.index-url URL",
        )
    return EdgewrightError(
        f"{setup.info.name} was not set up: pip failed",
        f"{_extract_error_lines(output)}\nsee {setup.log}",
        "read the log; a package may have no wheel for this system and Python",
    )


def _check_disk_full(setup: EnvironmentSetup, output: str) -> None:
    if DISK_FULL_ERROR.search(output):
        raise OutputError(
            f"{setup.info.name} was not set up: the disk is full",
            f"see {setup.log}",
            "free some space, or set EDGEWRIGHT_HOME (and TMPDIR, where pip unpacks) to a folder on another disk",
        )


def _read_tail(log: Path) -> str:
    return log.read_bytes()[-TAIL_BYTES:].decode(errors="replace")


def _extract_error_lines(text: str) -> str:
    """Return the last three error lines: those marked by pip, else the last lines of the output."""
    lines = [line.strip()[:300] for line in text.splitlines() if line.strip()]
    marked = [line for line in lines if line.startswith("ERROR")]
    return "\n".join((marked or lines)[-3:]) or "there is no output"
