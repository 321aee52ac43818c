"""Run many cases at once, each in a fork of this process, and kill what passes the limits."""

import faulthandler
import gc
import json
import os
import resource
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from ctypes import CDLL
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import NoReturn

from tests.fuzz.cases import make_case

MOST_SECONDS = 60.0
MOST_BYTES = 2 * 10**9
WATCH_S = 0.1
# Beyond this a case may not even allocate, so that the machine is not harmed before the case is killed.
WALL_BYTES = 6 * 2**30
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
# What no case runs, and what would be long to load.
LEFT_OUT = (
    "store.migrations.", "training", "flows.installing", "formats.torch", "formats.onnx_to_torch", "runtimes.torch",
    "runtimes.executorch", "runtimes.coreml", "runtimes.mnn", "runtimes.ncnn", "runtimes.openvino",
)  # fmt: skip


@dataclass
class Running:
    """A case that runs; `peak_bytes` is the most resident memory of its processes together."""

    kind: str
    number: int
    folder: Path
    pid: int
    started: float
    peak_bytes: int = 0
    killed: str = ""


@dataclass
class Outcome:
    """A case that ended."""

    kind: str
    number: int
    seconds: float
    peak_bytes: int
    cpu_s: float
    label: str = ""
    faults: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.number}"


def load_product() -> None:
    """Import all that a case runs, once for all forks."""
    import edgewright

    def skip(_: str) -> None:
        """Leave out a package whose extra is not installed."""

    for found in walk_packages(edgewright.__path__, "edgewright.", onerror=skip):
        name = found.name.removeprefix("edgewright.")
        if name.startswith(LEFT_OUT) or name.endswith("__main__"):
            continue
        try:
            import_module(found.name)
        except ImportError:
            continue
    for name in ("onnxruntime", "onnx.inliner", "onnx.reference", "ai_edge_litert.interpreter", "tests.fuzz.run_case"):
        import_module(name)
    from edgewright.web.server.responses import load_templates

    for name in load_templates().list_templates(["html"]):
        load_templates().get_template(name)
    gc.collect()
    gc.freeze()


def write_seeds_apart(folder: Path) -> Path:
    """Write the seeds in a fork: the store's threads must not be running where cases are forked from."""
    pid = os.fork()
    if pid == 0:
        from tests.fuzz.forking import run_apart
        from tests.fuzz.seeds import write_seeds

        os._exit(run_apart(lambda: write_seeds(folder)))
    _, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError("the seeds cannot be written")
    return folder


def run_cases(cases: Iterable[tuple[str, int]], seeds: Path, work: Path, jobs: int) -> Iterator[Outcome]:
    """Run cases side by side and yield them as they end; `load_product` was called."""
    waiting = iter(cases)
    running: list[Running] = []
    try:
        while True:
            while len(running) < jobs and (chosen := next(waiting, None)) is not None:
                running.append(start(*chosen, seeds, work))
            if not running:
                return
            wait_for_any([one.pid for one in running])
            for one in list(running):
                outcome = look_at(one)
                if outcome is not None:
                    running.remove(one)
                    yield outcome
    finally:
        for one in running:
            kill_tree(one.pid)


def wait_for_any(pids: list[int]) -> None:
    """Wait until one of the processes ends, and not longer than memory may go unwatched."""
    watched = [os.pidfd_open(pid) for pid in pids]
    try:
        select.select(watched, [], [], WATCH_S)
    finally:
        for descriptor in watched:
            os.close(descriptor)


def start(kind: str, number: int, seeds: Path, work: Path) -> Running:
    folder = work / f"{kind}-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        be_case(kind, number, seeds, folder)
    return Running(kind, number, folder, pid, time.monotonic())


def be_case(kind: str, number: int, seeds: Path, folder: Path) -> NoReturn:
    """Run the case in this forked process."""
    from tests.fuzz.forking import fork_own_modules, run_apart
    from tests.fuzz.run_case import lay_out, run_whole_case

    def whole() -> None:
        case = make_case(kind, number, seeds)
        folder.mkdir(parents=True)
        (folder / "label").write_text(case.label)
        lay_out(case, folder, seeds)
        (folder / "started").touch()
        run_whole_case(case, folder)

    code = 1
    try:
        os.setsid()
        CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (WALL_BYTES, WALL_BYTES))
        null = os.open(os.devnull, os.O_RDWR)
        for place in range(3):
            os.dup2(null, place)
        faulthandler.dump_traceback_later(0.95 * MOST_SECONDS, file=(folder.parent / f"{folder.name}.stack").open("w"))
        fork_own_modules()
        code = run_apart(whole)
    finally:
        left = descendants(os.getpid())
        kill_all(left)
        os._exit(code)


def look_at(one: Running) -> Outcome | None:
    """Return what came of a case where it has ended, by itself or because it passed a limit."""
    pid, status, used = os.wait4(one.pid, os.WNOHANG)
    seconds = time.monotonic() - one.started
    if not pid:
        one.peak_bytes = max(one.peak_bytes, sum(map(resident, [one.pid, *descendants(one.pid)])))
        if seconds > MOST_SECONDS:
            one.killed = f"it takes more than {MOST_SECONDS:g} s"
        if one.peak_bytes > MOST_BYTES:
            one.killed = f"it takes more than {MOST_BYTES / 1e9:g} GB"
        if not one.killed:
            return None
        kill_tree(one.pid)
        _, status, used = os.wait4(one.pid, 0)
    outcome = Outcome(one.kind, one.number, seconds, one.peak_bytes, used.ru_utime + used.ru_stime)
    outcome.peak_bytes = max(outcome.peak_bytes, used.ru_maxrss * 1024)
    outcome.label = read_text(one.folder / "label")
    outcome.faults = find_faults(one, status)
    shutil.rmtree(one.folder, ignore_errors=True)
    return outcome


def find_faults(one: Running, status: int) -> list[str]:
    if one.killed:
        stderr, stack = read_text(one.folder / "stderr")[-300:], one.folder.parent / f"{one.folder.name}.stack"
        return [f"{one.killed}; its last words were: {stderr}\n{read_text(stack)[:1500]}"]
    if not (one.folder / "faults.json").exists():
        how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit code {os.WEXITSTATUS(status)}"
        unhandled = read_text(one.folder / "tmp/unhandled")
        return [f"the process of the command ended with {how}\n{unhandled}"]
    return [str(fault) for fault in json.loads((one.folder / "faults.json").read_text())]


def read_text(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""


def descendants(pid: int) -> list[int]:
    """Return the processes below one, nearest first."""
    found = [pid]
    for one in found:
        try:
            tasks = list(Path(f"/proc/{one}/task").iterdir())
            found += [int(word) for task in tasks for word in (task / "children").read_text().split()]
        except OSError:  # it ended
            continue
    return found[1:]


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):  # it ended
        return 0


def kill_tree(pid: int) -> None:
    kill_all([*reversed(descendants(pid)), pid])


def kill_all(pids: Iterable[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
