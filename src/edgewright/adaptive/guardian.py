"""A process that undoes settings of the system once the process that made them ends, also by SIGKILL.

Before a setting is changed, its old value is appended to a journal and written to the disk. The guardian is a process
in a session of its own that waits for the end of its owner (pidfd, Linux 5.3), and then restores the journal in
reverse. A journal that outlives both, because the guardian was killed too, is restored at the next start. What belongs
to the owner alone (its nice value, affinity, policy) ends with it and is not in the journal.
"""

import fcntl
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

if sys.platform != "linux":
    raise ImportError("edgewright.adaptive needs Linux for this")

NOT_RESTORABLE = "the old value could not be restored"
LARGEST_VALUE = 1 << 20  # of a setting's file
SERVICE_GROUPS = [Path("/sys/fs/cgroup", one, "cgroup.procs") for one in ("", "systemd", "unified")]


class Guardian:
    """Changes settings that are restored at `close`, or when this process ends in any way; used in a `with` block.

    Args:
        folder: of the journals; it belongs to this user alone. Default: one in the system's temporary folder.

    Raises:
        OSError: the folder belongs to somebody else, or the system has no pidfd.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir()) / f"edgewright-guardian-{os.getuid()}"
        _make_private(self._folder)
        restore_left_behind(self._folder)
        self._changed: set[tuple[Any, ...]] = set()
        self._journal = self._folder / f"{os.getpid()}-{id(self)}.journal"
        _append(self._journal, {"boot": _read_boot(), "owner": os.getpid(), "start": _find_start(os.getpid())})
        try:
            self._process = _start(self._journal)
        except OSError:
            self._journal.unlink(missing_ok=True)
            raise

    def write(self, path: Path, content: bytes) -> None:
        """Write the file of a setting. Raises OSError if it cannot be read or written; nothing is changed then."""
        old = _read(path)
        self._note(("file", str(path)), {"kind": "file", "path": str(path), "old": b64encode(old).decode()})
        _write(path, content)

    def set_affinity(self, pid: int, cpus: Sequence[int]) -> None:
        """Bind another process to processors. Raises OSError."""
        old = sorted(os.sched_getaffinity(pid))
        self._note(("affinity", pid), {"kind": "affinity", **_identify(pid), "old": old})
        os.sched_setaffinity(pid, cpus)

    def set_nice(self, pid: int, nice: int) -> None:
        """Set the nice value of another process. Raises OSError, also if the old value could not be restored."""
        old = os.getpriority(os.PRIO_PROCESS, pid)
        if nice > old and not may_lower_nice(old):
            raise PermissionError(f"{NOT_RESTORABLE}: only root lowers a nice value to {old}")
        self._note(("nice", pid), {"kind": "nice", **_identify(pid), "old": old})
        os.setpriority(os.PRIO_PROCESS, pid, nice)

    def _note(self, key: tuple[Any, ...], entry: dict[str, Any]) -> None:
        """Write the first old value of a setting to the journal."""
        if key not in self._changed:
            _append(self._journal, entry)
            self._changed.add(key)

    def close(self) -> tuple[str, ...]:
        """Restore all settings, end the guardian, and return what could not be restored."""
        problems = restore(self._journal)
        self._changed.clear()
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                self._process.kill()
        self._process.wait()
        return problems

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def restore_left_behind(folder: Path) -> None:
    """Restore the journals of owners that have ended without a guardian."""
    for journal in sorted(folder.glob("*.journal")):
        head = next(_list_entries(journal), {})
        if head.get("boot") != _read_boot():
            journal.unlink(missing_ok=True)  # all settings ended with that boot
        elif head.get("start") != _find_start(head.get("owner", 0)):
            restore(journal)


def restore(journal: Path) -> tuple[str, ...]:
    """Restore a journal in reverse, and remove it; return what could not be restored.

    A second call, or one of another process at the same time, does nothing more.
    """
    problems = []
    with _lock(journal) as found:
        if not found:
            return ()
        for entry in reversed([*_list_entries(journal)][1:]):
            try:
                _restore_entry(entry)
            except OSError as error:
                problems.append(f"{entry.get('path') or entry.get('pid')}: {error.strerror or error}")
        journal.unlink(missing_ok=True)
    return tuple(problems)


def _restore_entry(entry: dict[str, Any]) -> None:
    if entry["kind"] == "file":
        _write(Path(entry["path"]), b64decode(entry["old"]))
        return
    pid = entry["pid"]
    if _find_start(pid) != entry["start"]:
        return  # it has ended, and the number may be that of another process
    with suppress(ProcessLookupError):
        if entry["kind"] == "affinity":
            os.sched_setaffinity(pid, entry["old"])
        else:
            os.setpriority(os.PRIO_PROCESS, pid, entry["old"])


def _start(journal: Path) -> subprocess.Popen[bytes]:
    """Return the guardian once it waits for the end of this process."""
    owner = os.pidfd_open(os.getpid())  # opened here: the number of an ended process may be used again
    try:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", "edgewright.adaptive.guardian", str(owner), str(journal)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(owner,),
            start_new_session=True,
        )
    finally:
        os.close(owner)
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    with process.stdout as answer:
        if not answer.read(1):
            process.wait()
            raise OSError("the guardian did not start")
    return process


def _serve(owner: int, journal: Path) -> None:
    for group in SERVICE_GROUPS:  # a service manager kills all processes of the owner's group
        with suppress(OSError):
            group.write_text("0")
    poll = select.poll()
    poll.register(owner, select.POLLIN)
    os.write(1, b"r")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)  # the owner reads until the end
    poll.poll()
    restore(journal)


def _append(journal: Path, entry: dict[str, Any]) -> None:
    file = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, json.dumps(entry).encode() + b"\n")
        os.fsync(file)
    finally:
        os.close(file)


def _list_entries(journal: Path) -> Iterator[dict[str, Any]]:
    """Yield the complete entries: a setting whose entry was cut off had not been changed."""
    with suppress(OSError, ValueError):
        for line in journal.read_bytes().splitlines():
            yield json.loads(line)


@contextmanager
def _lock(journal: Path) -> Iterator[bool]:
    """Hold the journal; yield False if it is gone."""
    try:
        file = os.open(journal, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield os.fstat(file).st_nlink > 0
    finally:
        os.close(file)


def _make_private(folder: Path) -> None:
    """Create the folder; PermissionError if another user could have written a journal into it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(f"{folder} can be written by others")


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LARGEST_VALUE)


def _write(path: Path, content: bytes) -> None:
    """Write an existing file in one call, as the kernel's files need it."""
    file = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(file, content)
    finally:
        os.close(file)


def _identify(pid: int) -> dict[str, Any]:
    return {"pid": pid, "start": _find_start(pid)}


def _find_start(pid: int) -> int | None:
    """Return when a process started, in ticks since the boot; None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _read_boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def may_lower_nice(nice: int) -> bool:
    return os.geteuid() == 0 or 20 - resource.getrlimit(resource.RLIMIT_NICE)[0] <= nice


if __name__ == "__main__":
    _serve(int(sys.argv[1]), Path(sys.argv[2]))
