"""What a remote device must offer: processes and, through them, files. All else is `device.RemoteDevice`."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from edgewright.devices.channel import Channel

COMMAND_SECONDS = 60.0


class CommandResult(NamedTuple):
    """A finished command: its exit code (negative for a signal) and what it wrote."""

    code: int
    stdout: bytes
    stderr: bytes


class Link(Protocol):
    """A connection to one device. Every method raises DeviceUnreachable if the device is lost.

    Attributes:
        sent_bytes: payload of all `send` calls.
        requests: number of commands and transfers, each of which is one round trip.
    """

    sent_bytes: int
    requests: int

    def run(self, command: Sequence[str], timeout_s: float = COMMAND_SECONDS) -> CommandResult:
        """Run a command and wait for its end. Its arguments are not interpreted by a shell."""

    def start(self, command: Sequence[str], log: Path, stop: Sequence[str]) -> Channel:
        """Start a command; its stderr goes to `log`. `stop` is run to end it if it does not end by itself."""

    def send(self, path: Path, command: Sequence[str]) -> CommandResult:
        """Run a command with the content of a file as its stdin."""

    def receive(self, command: Sequence[str], path: Path) -> CommandResult:
        """Run a command and write its stdout to a file."""

    def close(self) -> None:
        """Close the connection. May be called twice."""


def join_command(command: Sequence[str]) -> str:
    """Return the command as one line for a POSIX shell, which it replaces."""
    return f"exec {shlex.join(command)}"


def make_script(script: str, *arguments: str) -> list[str]:
    """Return the command that runs a POSIX shell script, in which `$1` is the first argument."""
    return ["sh", "-c", script, "edgewright", *arguments]
