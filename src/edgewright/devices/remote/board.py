"""The part that runs on a device, with Python's own library only: `python board.py COMMAND …`.

worker SETTINGS            become a worker; SETTINGS is JSON: paths, cpus, variables, pid_file, module, arguments
end_worker PID_FILE FOLDER end the worker that wrote the file
unpack FILE TO             unpack a wheel or a zip into a folder
guard FOLDER               end the workers and remove the folder when stdin ends or falls silent
read_rate FILE             print the sequential read rate of the storage, in bytes per second
"""

import contextlib
import json
import os
import runpy
import select
import shutil
import signal
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

SILENCE_SECONDS = 60
CHUNK_BYTES = 1 << 20
if sys.platform == "win32" or sys.platform == "darwin":
    raise SystemExit("a board has a Linux system")


def _become_worker(text: str) -> None:
    """Run a module as the main program, in a session of its own."""
    settings = json.loads(text)
    with contextlib.suppress(OSError):  # it leads one already
        os.setsid()
    Path(settings["pid_file"]).write_text(str(os.getpid()))
    if settings["cpus"]:
        os.sched_setaffinity(0, settings["cpus"])
    os.environ.update(settings["variables"])
    sys.path[:0] = settings["paths"]
    sys.argv = [settings["module"], *settings["arguments"]]
    runpy.run_module(settings["module"], run_name="__main__", alter_sys=True)


def _unpack(archive: str, target: str) -> None:
    """Unpack into a new folder that appears complete or not at all."""
    part = Path(f"{target}.part-{os.getpid()}")
    try:
        with zipfile.ZipFile(archive) as file:
            file.extractall(part)
            for info in file.infolist():
                if info.external_attr >> 16 & 0o111:  # extractall drops the permission to execute
                    (part / info.filename).chmod(0o700)
        if not Path(target).is_dir():
            part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _guard(folder: str) -> None:
    """Wait for the end of the connection, then leave nothing running and no files."""
    with contextlib.suppress(OSError):
        os.setsid()
    while select.select([0], [], [], SILENCE_SECONDS)[0] and os.read(0, 4096):
        pass
    for pid_file in Path(folder, "pids").glob("*"):
        _end_worker(str(pid_file), folder)
    shutil.rmtree(folder, ignore_errors=True)


def _end_worker(pid_file: str, folder: str) -> None:
    """Kill the process group of a worker, unless its id belongs to another process by now."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(Path(pid_file).read_text())
        if folder.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.killpg(pid, signal.SIGKILL)


def _measure_read_rate(path: str) -> None:
    """Print bytes per second of reading a file, whose pages are dropped from the cache first."""
    with Path(path).open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        began, count = time.perf_counter(), 0
        while chunk := file.read(CHUNK_BYTES):
            count += len(chunk)
        print(round(count / max(time.perf_counter() - began, 1e-9)))


COMMANDS: dict[str, Callable[..., None]] = {
    "worker": _become_worker,
    "end_worker": _end_worker,
    "unpack": _unpack,
    "guard": _guard,
    "read_rate": _measure_read_rate,
}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]](*sys.argv[2:])
