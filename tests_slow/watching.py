"""Run a command under strace and report what it and all its children do beyond its own folders.

Four kinds of findings:

- `network`: a connection or a message to anything but this machine;
- `lookup`: a name look-up: a query to a name server, a look-up daemon, or the resolver's own files being read;
- `file`: a file, link or folder made or written outside the allowed folders;
- `switch`: a child process that was started without the switches of `edgewright.telemetry`.

Nothing is judged by name: what is not allowed is found, whoever did it.
"""

import ipaddress
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from edgewright.telemetry import SWITCHES

STRACE = shutil.which("strace")
FAST = ("--seccomp-bpf",)  # only the calls that are looked at stop the process
Until = Callable[[Path], None]
ROOT = Path(__file__).parents[1]
SENDING = ("connect", "sendto", "sendmsg", "sendmmsg")
MAKING = (
    *("openat", "openat2", "creat", "open", "mkdir", "mkdirat", "mknod", "mknodat", "truncate"),
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"),
)
NAME_PORTS = (53, 853, 5353, 5355)
# Files that only a resolver reads, and sockets of daemons that look names up.
RESOLVER = re.compile(r"/etc/(resolv\.conf|hosts|host\.conf|gai\.conf)$|/nscd/|/resolve/|avahi-daemon|Resolve")
CALL = re.compile(r"^(\d+) +(\w+)\((.*)$")
INTERNET = re.compile(r"sa_family=(AF_\w+)(?:, sin6?_port=htons\((\d+)\))?")
ADDRESS = re.compile(r'inet_(?:addr\("|pton\(AF_INET6, ")([^"]+)"')
LOCAL_PATH = re.compile(r'sun_path=@?"([^"]*)"')
OPENED = re.compile(r"= \d+<([^>]*)>")
PATHS = re.compile(r'(?:AT_FDCWD(?:<([^>]*)>)?|\d+<([^>]*)>)?(?:, )?"((?:[^"\\]|\\.)*)"')
WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_TMPFILE")
# Devices, the process's own memory, and semaphores, which have names only while they are made.
HARMLESS = re.compile(r"^(/dev/(null|zero|tty|ptmx|pts/.*)|/proc/.*|/memfd:.*|anon_inode:.*|/SYSV.*|/dev/shm/sem\..*)$")
VARIABLES = {switch.variable: switch.value for switch in SWITCHES if switch.variable}


class Finding(NamedTuple):
    kind: str
    process: str
    what: str


def why_not() -> str:
    """Why nothing can be watched here; empty where it can."""
    if STRACE is None:
        return "strace is not installed: nothing was watched"
    tried = subprocess.run(
        [STRACE, *FAST, "-f", "-qq", "-o", os.devnull, "true"], capture_output=True, text=True, check=False
    )
    return "" if tried.returncode == 0 else f"strace may not trace here: {tried.stderr.strip()}"


class Scene:
    """The folders that a watched command may write to, and its environment.

    Attributes:
        folder: of the scene; the current one of the command.
        home: the user's home, which must stay empty.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home, self.temporary, self.work = folder / "home", folder / "tmp", folder / "work"
        for one in (self.home, self.temporary, self.work):
            one.mkdir(parents=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("EDGEWRIGHT_", "XDG_"))}
        for name in ("CI", *VARIABLES):  # some packages send nothing in CI; and the product must set its own switches
            kept.pop(name, None)
        self.environ = {
            **kept,
            "HOME": str(self.home),
            "USER": "watched",
            "LOGNAME": "watched",
            "TMPDIR": str(self.temporary),
            "EDGEWRIGHT_HOME": str(self.work / "record"),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(
        self, command: Sequence[str], *, network: bool = True, seconds: float = 600, until: Until | None = None
    ) -> "Watched":
        """Run a command in `work` to its end.

        Args:
            network: without it each connection fails before it leaves the process.
            seconds: the longest that it may take.
            until: called with the file that the command prints to; the command is ended by SIGTERM when it returns.
        """
        calls = ",".join((*SENDING, *MAKING, "execve", "execveat"))
        watch = [str(STRACE), *FAST, "-f", "-qq", "-y", "-v", "-s", "300", "-e", f"trace={calls}", "-e", "signal=none"]
        if not network:
            watch += ["-e", f"inject={','.join(SENDING)}:error=ENETUNREACH"]
        number = len(list(self.folder.glob("calls.*")))
        log, out = self.folder / f"calls.{number}", self.folder / f"out.{number}"
        with out.open("wb") as printed:
            process = subprocess.Popen(
                [*watch, "-o", str(log), *command], cwd=self.work, env=self.environ, stdout=printed, stderr=printed
            )
        try:
            if until:
                until(out)
                (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                os.kill(int(child), signal.SIGTERM)
            code = process.wait(seconds)
        finally:
            process.kill()
            process.wait()
        found = find(log.read_text(errors="replace"), (self.work, self.temporary))
        return Watched(code, out.read_text(errors="replace"), found)

    def leftovers(self) -> list[str]:
        """What lies in the home, and the files in the temporary folder; torch leaves an empty folder there."""
        left = [path for path in self.temporary.rglob("*") if path.is_file()]
        return [str(path) for path in (*sorted(self.home.rglob("*")), *sorted(left))]


class Watched(NamedTuple):
    """What a command printed, to both of its streams, and what was found."""

    code: int
    out: str
    findings: list[Finding]


def find(log: str, allowed: Sequence[Path]) -> list[Finding]:
    """Judge each call in strace's log; a finding that repeats is told once."""
    found: dict[Finding, None] = {}
    first = True
    for process, name, rest in join_halves(log):
        if name.startswith("exec"):
            if not first and " = 0" in rest and (lacking := lacking_switches(rest)):
                found[Finding("switch", process, f"{rest[:80]} without {', '.join(lacking)}")] = None
            first = False
        elif name in SENDING:
            if kind := judge_message(rest):
                found[Finding(kind, process, f"{name}({rest[:160]}")] = None
        elif kind := judge_path(name, rest, allowed):
            found[Finding(kind, process, f"{name}({rest[:200]}")] = None
    return list(found)


def join_halves(log: str) -> list[tuple[str, str, str]]:
    """Process, call and the rest of each line; a call that another process interrupted in the log is put together."""
    halves: dict[str, tuple[str, str]] = {}
    calls = []
    for line in log.splitlines():
        if resumed := re.match(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$", line):
            process = resumed[1]
            name, begun = halves.pop(process, (resumed[2], ""))
            calls.append((process, name, begun + resumed[3]))
        elif call := CALL.match(line):
            process, name, rest = call.groups()
            if rest.endswith("<unfinished ...>"):
                halves[process] = (name, rest.removesuffix("<unfinished ...>"))
            else:
                calls.append((process, name, rest))
    # What never came back was tried all the same.
    return calls + [(process, name, rest) for process, (name, rest) in halves.items()]


def lacking_switches(rest: str) -> list[str]:
    """The variables of the table that a started program was not given."""
    return [name for name, value in VARIABLES.items() if f'"{name}={value}"' not in rest]


def judge_message(rest: str) -> str:
    """`network` or `lookup` for a call that names an address outside of this machine; empty for others."""
    for family, port in INTERNET.findall(rest):
        if family in ("AF_UNSPEC", "AF_UNIX"):
            continue
        if port and int(port) in NAME_PORTS:
            return "lookup"
        addresses = [ipaddress.ip_address(text) for text in ADDRESS.findall(rest)]
        if not addresses or not all(address.is_loopback for address in addresses):
            return "network"
    return "lookup" if any(RESOLVER.search(path) for path in LOCAL_PATH.findall(rest)) else ""


def judge_path(name: str, rest: str, allowed: Sequence[Path]) -> str:
    """`lookup` for a resolver's file, `file` for something made or written elsewhere; empty for others."""
    places = [Path(base or rest_base or "", path) for base, rest_base, path in PATHS.findall(rest)]
    opens = name.startswith("open")
    if opens and any(RESOLVER.search(str(place)) for place in places):
        return "lookup"
    if " = -1" in rest or (opens and not WRITING.search(rest)):
        return ""
    if opened := OPENED.search(rest):
        places = [Path(opened[1].removesuffix("(deleted)"))]
    strangers = [place for place in places if place.is_absolute() and not is_allowed(place, allowed)]
    return "file" if strangers else ""


def is_allowed(place: Path, allowed: Sequence[Path]) -> bool:
    text = os.path.normpath(place)
    return bool(HARMLESS.match(text)) or any(Path(text).is_relative_to(folder) for folder in allowed)


def show(findings: Sequence[Finding]) -> str:
    return "\n".join(f"{finding.kind}: [{finding.process}] {finding.what}" for finding in findings)
