"""Connections to an agent."""

import contextlib
import hmac
import ipaddress
import secrets
import socket
import ssl
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from edgewright.devices.agent.messages import (
    AGENT_PROTOCOL,
    Action,
    AgentFailed,
    Challenge,
    ControlReply,
    ControlRequest,
    Enter,
    EnterReply,
    Welcome,
    make_proof,
)
from edgewright.devices.channel import READ_BYTES
from edgewright.errors import DeviceBusy, DeviceUnauthorized, DeviceUnreachable

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0
MAX_LINE_BYTES = 1 << 20
HINT = "start the agent on the device, and keep it open"
# A device that was switched off or left the network is noticed after this many seconds, in which it answers nothing.
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}

ReplyT = TypeVar("ReplyT", bound=Struct)


class Place(NamedTuple):
    """Where an agent is, and how to prove that we may use it.

    Attributes:
        name: of the device, for messages.
        secret: its code for `pair`, and its token otherwise.
        fingerprint: sha256 of its certificate; empty to accept any, as when it is added.
    """

    name: str
    address: str
    secret: str
    fingerprint: str = ""


def split_address(address: str) -> tuple[str, int]:
    """Return host and port. Raises ValueError."""
    parts = urlsplit(address)
    if not parts.hostname or parts.port is None or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("it is not agent://HOST:PORT")
    if parts.username is not None or parts.password is not None:
        raise ValueError("it has a user or a password")
    return parts.hostname, parts.port


def is_loopback(host: str) -> bool:
    """Return whether a connection stays on this machine, and so needs no TLS."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


class AgentSocket:
    """One connection. Every method raises DeviceUnreachable if it is lost, or the agent breaks the protocol.

    Attributes:
        fingerprint: sha256 of the agent's certificate; empty without TLS.
    """

    def __init__(self, place: Place) -> None:
        self._name = place.name
        self._buffer = bytearray()
        self._socket, self.fingerprint = _connect(place)

    def fail(self, why: str) -> DeviceUnreachable:
        """Close, and return the error of an agent that cannot be trusted or is lost."""
        self.close()
        return DeviceUnreachable(f"the agent '{self._name}' cannot be used", why, HINT)

    def send(self, data: bytes) -> None:
        try:
            self._socket.settimeout(ANSWER_SECONDS)
            self._socket.sendall(data)
        except OSError as error:
            raise self.fail(f"the connection was lost: {error}") from None

    def receive(self, seconds: float) -> bytes | None:
        """Return the next bytes: b"" at the end, None if none came within `seconds`."""
        if self._buffer:
            left, self._buffer = bytes(self._buffer), bytearray()
            return left
        try:
            self._socket.settimeout(min(max(seconds, 1e-3), 1e6))
            return self._socket.recv(READ_BYTES)
        except (TimeoutError, ssl.SSLWantReadError):
            return None
        except OSError:
            return b""

    def read(self, kind: Any) -> Any:
        """Return the next message."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while (end := self._buffer.find(b"\n")) < 0:
            left, self._buffer = self._buffer, bytearray()
            chunk = self.receive(deadline - time.monotonic())
            self._buffer = left
            if chunk is None:
                raise self.fail(f"it did not answer in {ANSWER_SECONDS:g} s")
            if not chunk:
                raise self.fail("it closed the connection")
            self._buffer += chunk
            if len(self._buffer) > MAX_LINE_BYTES and b"\n" not in self._buffer:
                raise self.fail("it sent a message without end")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            return msgspec.json.decode(line, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self.fail(f"it sent something that is no message of the protocol: {error}") from None

    def ask(self, request: ControlRequest, kind: type[ReplyT]) -> ReplyT:
        """Send a request, and return its reply, which is a `kind`."""
        self.send(msgspec.json.encode(request) + b"\n")
        return self.expect(kind)

    def expect(self, kind: type[ReplyT]) -> ReplyT:
        reply = self.read(ControlReply)
        if isinstance(reply, AgentFailed):
            raise self.fail(reply.why)
        if not isinstance(reply, kind):
            raise self.fail(f"it sent another answer: {repr(reply)[:200]}")
        return reply

    def read_content(self, count: int) -> Iterator[bytes]:
        """Return the bytes that follow a message."""
        while count:
            chunk = self.receive(ANSWER_SECONDS)
            if not chunk:
                raise self.fail("the connection was lost within a file")
            if len(chunk) > count:
                self._buffer[:0] = chunk[count:]
                chunk = chunk[:count]
            count -= len(chunk)
            yield chunk

    def send_file(self, path: Path, count: int) -> None:
        """Send the first `count` bytes of a file."""
        with path.open("rb") as file:
            while count and (chunk := file.read(min(READ_BYTES, count))):
                self.send(chunk)
                count -= len(chunk)
        if count:
            raise self.fail(f"{path} became shorter while it was sent")

    def close(self) -> None:
        self._socket.close()


def _connect(place: Place) -> tuple[socket.socket, str]:
    """Return a connected socket and the fingerprint of its certificate, which must be the known one."""
    host, port = split_address(place.address)
    try:
        connected = socket.create_connection((host, port), CONNECT_SECONDS)
    except OSError as error:
        why = f"{place.address} does not answer: {error.strerror or error}"
        raise DeviceUnreachable(f"the agent '{place.name}' cannot be reached", why, HINT) from None
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE.items():
        if hasattr(socket, option):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    if is_loopback(host):
        return connected, ""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # its certificate is its own, and its fingerprint is compared
    context.verify_mode = ssl.CERT_NONE
    try:
        wrapped = context.wrap_socket(connected)
    except OSError as error:
        connected.close()
        why = f"it does not speak TLS: {error}"
        raise DeviceUnreachable(f"the agent '{place.name}' cannot be reached", why, HINT) from None
    found = sha256(wrapped.getpeercert(binary_form=True) or b"").hexdigest()
    if place.fingerprint and not hmac.compare_digest(found, place.fingerprint):
        wrapped.close()
        raise DeviceUnauthorized(
            f"another agent answers at the address of '{place.name}'",
            f"its certificate has the sha256 {found}, not {place.fingerprint}",
            "if the app was installed again, remove the device with --forget and add it again",
        )
    return wrapped, found


def enter(place: Place, action: Action, runtime: str = "") -> tuple[AgentSocket, Welcome]:
    """Return a connection that the agent accepted.

    Raises DeviceUnreachable, DeviceBusy or DeviceUnauthorized.
    """
    agent = AgentSocket(place)
    try:
        return agent, _shake_hands(agent, place, action, runtime)
    except BaseException:
        agent.close()
        raise


def _shake_hands(agent: AgentSocket, place: Place, action: Action, runtime: str) -> Welcome:
    challenge = agent.read(Challenge)
    if challenge.agent != AGENT_PROTOCOL:
        raise agent.fail(f"it uses protocol {challenge.agent}, this Edgewright uses {AGENT_PROTOCOL}")
    nonce = secrets.token_hex(32)
    proof = make_proof(place.secret, challenge.nonce, agent.fingerprint, action)
    agent.send(msgspec.json.encode(Enter(action=action, nonce=nonce, proof=proof, runtime=runtime)) + b"\n")
    reply: EnterReply = agent.read(EnterReply)
    if isinstance(reply, AgentFailed):
        kinds = {"busy": DeviceBusy, "unauthorized": DeviceUnauthorized}
        kind = kinds.get(reply.state, DeviceUnreachable)
        raise kind(f"the agent '{place.name}' refuses", reply.why, _choose_hint(reply.state, action, place.name))
    wanted = make_proof(place.secret, nonce, agent.fingerprint, "welcome")
    if not hmac.compare_digest(wanted.encode(), reply.proof.encode()):
        raise agent.fail("it does not know the secret that it was paired with")
    return reply


def _choose_hint(state: str, action: str, name: str) -> str:
    if state == "busy":
        return "wait until the other command ends"
    if state != "unauthorized":
        return HINT
    again = "add it again with --code and the code that it shows"
    return again if action == "pair" else f"edgewright devices remove {name} --forget, then {again}"
