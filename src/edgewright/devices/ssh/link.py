"""A connection to a board by asyncssh. Host keys are checked; keys and jump hosts are the user's."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import TimeoutError as WaitTimeout
from pathlib import Path
from typing import Any, TypeVar

import asyncssh
from msgspec.structs import replace

from edgewright.devices.channel import Channel
from edgewright.devices.remote.link import COMMAND_SECONDS, CommandResult, join_command
from edgewright.devices.ssh.address import parse_address
from edgewright.devices.ssh.channel import SshChannel
from edgewright.devices.ssh.loop import submit
from edgewright.errors import DeviceUnauthorized, DeviceUnreachable
from edgewright.schema.devices import RegisteredDevice

CONNECT_SECONDS = 15.0
KEEPALIVE_SECONDS = 5
LOST_AFTER = 4  # unanswered signs of life
CHUNK_BYTES = 256 << 10
OUTPUT_BYTES = 64 << 20  # of one command
FILE_BYTES = 4 << 30  # of one file or folder that is read from the board
SEND_SECONDS = 3600.0
HOST_KEY = "host_key"  # in a row's settings: the public key of the board

ResultT = TypeVar("ResultT")


class SshLink:
    """See `remote.link.Link`."""

    def __init__(self, connection: asyncssh.SSHClientConnection, name: str) -> None:
        self._connection, self._name = connection, name
        self.sent_bytes = 0
        self.requests = 0

    def run(self, command: Sequence[str], timeout_s: float = COMMAND_SECONDS) -> CommandResult:
        return self._wait(self._run(command), timeout_s)

    def send(self, path: Path, command: Sequence[str]) -> CommandResult:
        return self._wait(self._send(path, command), SEND_SECONDS)

    def receive(self, command: Sequence[str], path: Path) -> CommandResult:
        return self._wait(self._receive(command, path), SEND_SECONDS)

    def start(self, command: Sequence[str], log: Path, stop: Sequence[str]) -> Channel:
        def end() -> None:
            if stop:
                self.run(stop)

        process = self._wait(self._open(command), COMMAND_SECONDS)
        return SshChannel(process, log, self._make_lost_error, end)

    def close(self) -> None:
        async def end() -> None:
            self._connection.close()
            await self._connection.wait_closed()

        with contextlib.suppress(Exception):  # it may be lost already
            submit(end()).result(CONNECT_SECONDS)

    async def _open(self, command: Sequence[str]) -> "asyncssh.SSHClientProcess[bytes]":
        self.requests += 1
        return await self._connection.create_process(join_command(command), encoding=None)

    async def _run(self, command: Sequence[str]) -> CommandResult:
        process = await self._open(command)
        _end_stdin(process)
        return await self._collect(process)

    async def _collect(self, process: "asyncssh.SSHClientProcess[bytes]") -> CommandResult:
        stdout, stderr = await asyncio.gather(self._read_all(process.stdout), self._read_all(process.stderr))
        return await self._finish(process, stdout, stderr)

    async def _finish(self, process: "asyncssh.SSHClientProcess[bytes]", stdout: bytes, stderr: bytes) -> CommandResult:
        await process.wait_closed()
        if process.exit_status is None and process.exit_signal is None:
            raise self._make_lost_error("the connection was lost")
        return CommandResult(-9 if process.exit_signal else process.exit_status or 0, stdout, stderr)

    async def _read_all(self, stream: "asyncssh.SSHReader[bytes]") -> bytes:
        found = bytearray()
        async for chunk in self._read_chunks(stream, OUTPUT_BYTES):
            found += chunk
        return bytes(found)

    async def _read_chunks(self, stream: "asyncssh.SSHReader[bytes]", most: int) -> AsyncIterator[bytes]:
        count = 0
        while chunk := await stream.read(CHUNK_BYTES):
            count += len(chunk)
            if count > most:
                raise DeviceUnreachable(
                    f"the device '{self._name}' sent too much", f"a command's output has more than {most >> 20} MiB"
                )
            yield chunk

    async def _send(self, path: Path, command: Sequence[str]) -> CommandResult:
        process = await self._open(command)
        collecting = asyncio.ensure_future(self._collect(process))
        with contextlib.suppress(ConnectionError), path.open("rb") as file:
            while (chunk := file.read(CHUNK_BYTES)) and not collecting.done():
                process.stdin.write(chunk)
                self.sent_bytes += len(chunk)
                await process.stdin.drain()
            process.stdin.write_eof()
        return await collecting

    async def _receive(self, command: Sequence[str], path: Path) -> CommandResult:
        process = await self._open(command)
        _end_stdin(process)
        errors = asyncio.ensure_future(self._read_all(process.stderr))
        with path.open("wb") as file:
            async for chunk in self._read_chunks(process.stdout, FILE_BYTES):
                file.write(chunk)
        return await self._finish(process, b"", await errors)

    def _wait(self, work: Coroutine[Any, Any, ResultT], seconds: float) -> ResultT:
        running = submit(work)
        try:
            return running.result(seconds)
        except WaitTimeout:
            running.cancel()
            raise self._make_lost_error(f"it gave no answer in {seconds:g} s") from None
        except (asyncssh.Error, ConnectionError) as error:
            raise self._make_lost_error(str(error)) from None
        except BaseException:
            running.cancel()
            raise

    def _make_lost_error(self, why: str) -> DeviceUnreachable:
        return DeviceUnreachable(
            f"the device '{self._name}' was lost", why, "check its power and network, then run the same command again"
        )


def _end_stdin(process: "asyncssh.SSHClientProcess[bytes]") -> None:
    """Close the stdin of a command, unless the command has ended already."""
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write_eof()


def open_link(row: RegisteredDevice) -> SshLink:
    """Connect to a board. Raises DeviceUnreachable, or DeviceUnauthorized for keys that do not fit."""
    connection = _attempt(row, lambda: _connect(row))
    return SshLink(connection, row.name)


async def _connect(row: RegisteredDevice) -> asyncssh.SSHClientConnection:
    options = {
        **_make_options(row),
        "known_hosts": _make_matcher(row),
        "keepalive_interval": KEEPALIVE_SECONDS,
        "keepalive_count_max": LOST_AFTER,
        "connect_timeout": CONNECT_SECONDS,
        "login_timeout": CONNECT_SECONDS,
        "password_auth": False,
        "kbdint_auth": False,
    }
    if row.credential:
        options["client_keys"] = [row.credential]
    return await asyncssh.connect(**options)


def _make_options(row: RegisteredDevice) -> dict[str, Any]:
    address = parse_address(row.address)
    options: dict[str, Any] = {"host": address.host}
    if address.port:
        options["port"] = address.port
    if address.user:
        options["username"] = address.user
    return options


def _read_known_hosts() -> asyncssh.SSHKnownHosts:
    """Return the user's known hosts."""
    names = ("known_hosts", "known_hosts2")
    files = [str(path) for name in names if (path := Path.home() / ".ssh" / name).is_file()]
    return asyncssh.read_known_hosts(files) if files else asyncssh.import_known_hosts("")


def _make_matcher(row: RegisteredDevice) -> Callable[[str, str, int | None], Any]:
    """Return asyncssh's callback for trusted keys: the user's known hosts and the key of the first connection."""

    def match(host: str, address: str, port: int | None) -> Any:
        keys, *rest = asyncssh.match_known_hosts(_read_known_hosts(), host, address, port)
        own = [asyncssh.import_public_key(row.settings[HOST_KEY])] if row.settings.get(HOST_KEY) else []
        return ([*keys, *own], *rest)

    return match


def fetch_host_key(row: RegisteredDevice) -> RegisteredDevice:
    """Return the row with the board's public key, unless the user's known hosts already have one for it."""
    address = parse_address(row.address)
    known = asyncssh.match_known_hosts(_read_known_hosts(), address.host, "", address.port)
    if known[0]:
        return row
    options = {name: value for name, value in _make_options(row).items() if name != "username"}
    key = _attempt(row, lambda: asyncssh.get_server_host_key(**options))
    if key is None:
        raise DeviceUnreachable(f"the device '{row.name}' has no host key", "it cannot be recognized again")
    text = key.export_public_key().decode().strip()
    return replace(row, settings={**row.settings, HOST_KEY: text})


def get_fingerprint(row: RegisteredDevice) -> str:
    """Return the SHA-256 fingerprint of the stored host key; empty if the user's known hosts have it."""
    text = row.settings.get(HOST_KEY)
    return asyncssh.import_public_key(text).get_fingerprint() if text else ""


def _attempt(row: RegisteredDevice, start: Callable[[], Coroutine[Any, Any, ResultT]]) -> ResultT:
    """Return the result of a coroutine that connects; its failure becomes an error of ours."""

    async def work() -> ResultT:
        return await start()

    running = submit(work())
    try:
        return running.result(2 * CONNECT_SECONDS)
    except BaseException as error:
        running.cancel()
        raise _translate(row, error) from None


def _translate(row: RegisteredDevice, error: BaseException) -> BaseException:
    what = f"the device '{row.name}' is not reachable"
    match error:
        case asyncssh.HostKeyNotVerifiable():
            return DeviceUnauthorized(
                f"the host key of the device '{row.name}' is not the known one",
                f"{row.address} is another machine, was set up again, or somebody intercepts the connection ({error})",
                f"if it was set up again: ssh-keygen -R HOST, edgewright devices remove {row.name}, then add it again",
            )
        case asyncssh.PermissionDenied():
            return DeviceUnauthorized(
                f"the device '{row.name}' does not accept the key",
                f"{row.address}: {error}",
                "add the public key to ~/.ssh/authorized_keys on it, or add the device with another --key",
            )
        case asyncssh.KeyImportError() | asyncssh.KeyEncryptionError():
            return DeviceUnauthorized(
                f"the key of the device '{row.name}' cannot be used",
                f"{row.credential or 'a key of the configuration'}: {error}",
                "load a key with a passphrase into the agent with ssh-add, and add the device without --key",
            )
        case WaitTimeout() | TimeoutError():
            return DeviceUnreachable(what, f"{row.address} gave no answer in {CONNECT_SECONDS:g} s")
        case OSError() | asyncssh.Error():
            return DeviceUnreachable(
                what, f"{row.address}: {error.strerror if isinstance(error, OSError) and error.strerror else error}"
            )
    return error
