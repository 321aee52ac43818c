"""Python and pip as child processes that fill an environment, and what they say when they fail."""

import contextlib
import json
import os
import re
import signal
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
    WORKER,
    Environment,
    cpu_build,
    launch_command,
    lock_path,
    python_of,
    read_lock,
)
from edgewright.runtimes.launch import SITE
from edgewright.runtimes.wire import Greeting, Hello

LOOK_S = 0.2
TAIL_BYTES = 65536
TRY_SECONDS = 180
# These would lead the installation elsewhere than into the environment, or mix packages into it.
STRAY = {"PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_DRY_RUN", "PIP_PYTHON"}
UNREACHED = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|Max retries exceeded"
    r"|Temporary failure in name resolution|Network is unreachable|Connection refused|Connection aborted|SSLError"
)
FULL = re.compile(r"No space left on device|Errno 28|Disk quota exceeded")


class Chore(NamedTuple):
    """A setup that is under way.

    Attributes:
        part: the folder that it fills.
        log: where Python and pip write to.
        lock: descriptor of the held lock; pip inherits it, so that a pip that outlives us keeps others out.
        tell: is told each stage.
    """

    info: Environment
    part: Path
    log: Path
    lock: int
    tell: Callable[[str], None]


def make_venv(chore: Chore) -> None:
    """An empty environment with pip in it; EdgewrightError where this Python cannot make one."""
    chore.tell(f"{chore.info.name}: making the environment")
    if run([sys.executable, "-I", "-m", "venv", str(chore.part)], chore) == 0:
        (site_packages(chore.part) / "sitecustomize.py").write_text(SITE, encoding="utf-8")
        return
    said = read_tail(chore.log)
    check_disk(chore, said)
    lacking = "ensurepip is not" in said or "No module named" in said
    raise EdgewrightError(
        f"{chore.info.name} was not set up: Python could not make an environment",
        f"{last_lines(said)}\nsee {chore.log}",
        "install the package python3-venv of your system"
        if lacking
        else "python -m venv FOLDER shows the same by hand",
    )


def site_packages(path: Path) -> Path:
    """Where an environment's packages lie."""
    return next(iter([*path.glob("lib/python3*/site-packages"), path / "Lib" / "site-packages"]))


def install(chore: Chore) -> None:
    """Install the lock, nothing more and nothing resolved. Torch comes first, in its build without CUDA."""
    lock = read_lock(chore.info.name)
    if "torch" in lock:
        install_torch(chore, cpu_build(f"torch=={lock['torch']}"))
    count = len(lock)
    seen: set[str] = set()

    def follow(text: str) -> None:
        seen.update(re.findall(r"^(?:Collecting|Processing|Requirement already satisfied:) (\S+)", text, re.MULTILINE))
        share = min(len(seen), count) * 4 // count * 25
        unpacks = "Installing collected packages" in text
        chore.tell(f"{chore.info.name}: {'unpacking' if unpacks else f'fetching {count} packages, {share} %'}")

    if pip(chore, "packages", ["-r", str(lock_path(chore.info.name))], follow):
        raise explain(chore)


def install_torch(chore: Chore, build: str) -> None:
    """From the user's own indexes where they have that build, else from PyTorch's."""
    chore.tell(f"{chore.info.name}: fetching {build}")
    if pip(chore, "torch", [build]) and pip(chore, "torch", ["--extra-index-url", TORCH_INDEX, build]):
        raise explain(chore)


def pip(chore: Chore, title: str, wants: Sequence[str], follow: Callable[[str], None] | None = None) -> int:
    """pip's exit code. pip reads the user's own configuration: indexes, proxies, certificates."""
    options = ["--no-deps", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    command = [str(python_of(chore.part)), "-I", "-m", "pip", "install", *options]
    return run([*command, "--report", str(report_path(chore, title)), *wants], chore, follow)


def report_path(chore: Chore, title: str) -> Path:
    return chore.part / f"pip-{title}.json"


def run(command: Sequence[str], chore: Chore, follow: Callable[[str], None] | None = None) -> int:
    """Run to the end with all output in the log; the exit code. What is raised meanwhile ends the process."""
    environ = {name: value for name, value in os.environ.items() if name not in STRAY}
    with chore.log.open("ab") as log:
        begin = log.tell()
        process = subprocess.Popen(  # noqa: S603 - our own interpreter, and words of our own
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environ,
            start_new_session=True,
            pass_fds=() if sys.platform == "win32" else (chore.lock,),
        )
        try:
            while process.poll() is None:
                if follow:
                    follow(chore.log.read_bytes()[begin:].decode(errors="replace"))
                time.sleep(LOOK_S)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    return process.returncode


def ask_pip(chore: Chore, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(python_of(chore.part)), "-I", "-m", "pip", "--disable-pip-version-check", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - as above


def read_packages(chore: Chore) -> dict[str, str]:
    """The versions that are installed, by name."""
    told = ask_pip(chore, "list", "--format=json").stdout
    return {item["name"]: item["version"] for item in json.loads(told or "[]")}


def view_conflicts(chore: Chore) -> tuple[str, ...]:
    """What `pip check` finds: a lock is resolved on one system, and another may want more."""
    chore.tell(f"{chore.info.name}: checking that all fits together")
    checked = ask_pip(chore, "check")
    return tuple(checked.stdout.strip().splitlines()) if checked.returncode else ()


def read_wheels(chore: Chore) -> dict[str, str]:
    """sha256 of the files that pip installed, by name (pip's installation report, version 1)."""
    items: list[dict[str, Any]] = []
    for path in chore.part.glob("pip-*.json"):
        items += json.loads(path.read_text(encoding="utf-8"))["install"]
        path.unlink()
    hashes = {item["metadata"]["name"]: item["download_info"].get("archive_info", {}) for item in items}
    return {
        name: info["hashes"]["sha256"] for name, info in sorted(hashes.items()) if "sha256" in info.get("hashes", {})
    }


def try_worker(chore: Chore) -> None:
    """Start the worker that the environment is for: what was installed must also load."""
    chore.tell(f"{chore.info.name}: starting a worker in it")
    command = launch_command(chore.part, WORKER, chore.info.runtime)
    said, greeting = f"it did not greet within {TRY_SECONDS} s", None
    try:
        done = subprocess.run(  # noqa: S603 - as above
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TRY_SECONDS, check=False
        )
        said = done.stderr
        greeting = msgspec.json.decode(done.stdout.partition("\n")[0], type=Greeting)
    except (subprocess.TimeoutExpired, msgspec.MsgspecError):
        pass
    if not isinstance(greeting, Hello):
        why = greeting.why if greeting else last_lines(said)
        with chore.log.open("a") as log:
            log.write(said)
        raise EdgewrightError(
            f"{chore.info.name} was not set up: its worker does not start",
            f"{why}\nsee {chore.log}",
            "report it with the log",
        )


def explain(chore: Chore) -> EdgewrightError:
    """What to tell of a pip that failed."""
    said = read_tail(chore.log)
    check_disk(chore, said)
    if UNREACHED.search(said):
        return EdgewrightError(
            f"{chore.info.name} was not set up: the package index cannot be reached",
            f"{last_lines(said)}\nsee {chore.log}",
            "check the connection, or name another index: pip config set global.index-url URL",
        )
    return EdgewrightError(
        f"{chore.info.name} was not set up: pip failed",
        f"{last_lines(said)}\nsee {chore.log}",
        "the log tells all; a package may have no wheel for this system and Python",
    )


def check_disk(chore: Chore, said: str) -> None:
    if FULL.search(said):
        raise OutputError(
            f"{chore.info.name} was not set up: the disk is full",
            f"see {chore.log}",
            "free some space, or point EDGEWRIGHT_HOME at another disk (and TMPDIR, where pip unpacks)",
        )


def read_tail(log: Path) -> str:
    return log.read_bytes()[-TAIL_BYTES:].decode(errors="replace")


def last_lines(text: str) -> str:
    """The last three lines that say what went wrong: pip marks them, others put them at the end."""
    lines = [line.strip()[:300] for line in text.splitlines() if line.strip()]
    marked = [line for line in lines if line.startswith("ERROR")]
    return "\n".join((marked or lines)[-3:]) or "nothing was said"
