"""A real sshd on this machine as the board: a home of its own, this Python, and no network for pip."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

from edgewright.devices import ssh
from edgewright.devices.kinds import DeviceContext
from edgewright.devices.remote.device import RemoteDevice
from edgewright.schema.devices import RegisteredDevice

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
PACKAGES = ("msgspec", "numpy")


def find_obstacle() -> str:
    """Why there can be no sshd here; empty if there can."""
    if sys.platform != "linux" or os.geteuid():
        return "sshd is started by root only"
    if not SSHD or not shutil.which("ssh-keygen"):
        return "openssh-server is not installed"
    try:
        import asyncssh  # noqa: F401
    except ImportError:
        return "asyncssh is not installed"
    return ""


def write_wheels(folder: Path) -> None:
    """Wheels of the installed packages that a worker needs."""
    folder.mkdir()
    for name in PACKAGES:
        found = metadata.distribution(name)
        tags = [line.partition(": ")[2] for line in (found.read_text("WHEEL") or "").splitlines() if line[:4] == "Tag:"]
        with ZipFile(folder / f"{name}-{found.version}-{tags[0]}.whl", "w", ZIP_STORED) as archive:
            for file in found.files or ():
                if ".." not in file.parts and "__pycache__" not in file.parts and "tests" not in file.parts:
                    archive.write(str(file.locate()), str(file))


class SshServer:
    """See the module. `board` is the home folder of its user."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.board = folder, folder / "board"
        self.board.mkdir(parents=True)
        for name in ("host", "user", "other"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.shims = folder / "shims"
        self.shims.mkdir()
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self, host_key: str = "host") -> None:
        Path("/run/sshd").mkdir(exist_ok=True)
        path = f"{self.shims}:{sys.base_prefix}/bin:/usr/bin:/bin"
        config = self.folder / "config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder / host_key}\n"
            f"AuthorizedKeysFile {self.folder / 'user.pub'}\nStrictModes no\nUsePAM no\nPidFile none\n"
            f"SetEnv HOME={self.board} PATH={path}\n"
        )
        command = [str(SSHD), "-D", "-e", "-f", str(config)]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)
        raise AssertionError("sshd does not listen")

    def stop(self) -> None:
        """End the server, but not the sessions, as a firewall would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def list_sessions(self) -> list[int]:
        """The processes of sshd that serve a connection."""
        assert self.process is not None
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        return [int(word) for word in found.stdout.split()]

    def cut(self) -> None:
        """Kill every session: the device is lost."""
        for pid in self.list_sessions():
            with contextlib.suppress(ProcessLookupError):  # it may end by itself between the list and here
                os.kill(pid, signal.SIGKILL)

    def list_processes(self) -> list[int]:
        """The processes that run in the board's folder."""
        mark = str(self.board / ".edgewright-device").encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    if mark in (entry / "cmdline").read_bytes():
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def row(self, key: str = "user", **settings: str) -> RegisteredDevice:
        address = f"ssh://root@127.0.0.1:{self.port}"
        credential = str(self.folder / key)
        return RegisteredDevice(
            name="pi", kind="ssh", address=address, credential=credential, settings=settings, added_at="2026-01-01"
        )

    def connect(self, home: Path, **settings: str) -> RemoteDevice:
        context = DeviceContext(home, lambda line: None)
        device = ssh.connect(ssh.prepare(self.row(**settings), context), context)
        assert isinstance(device, RemoteDevice)
        return device


def wait_until(is_true: Callable[[], bool]) -> bool:
    """Whether it becomes true within the patience of a busy machine."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if is_true():
            return True
        time.sleep(0.02)
    return False
