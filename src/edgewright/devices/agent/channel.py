"""The messages of one worker of an agent; what breaks the protocol is the device's fault."""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from edgewright.devices.agent.link import AgentSocket
from edgewright.devices.agent.messages import WorkerEnded
from edgewright.devices.connection import MAX_LINE_BYTES, are_times_possible
from edgewright.runtimes import wire

MOST_ENDED_BYTES = 1 << 17


class MessageType(Struct):
    """The type of a message; empty for an answer of the worker protocol."""

    type: str = ""


class AgentChannel:
    """See `channel.Channel`: a line is passed on only if it is an answer to what was asked."""

    limits_memory = False

    def __init__(self, agent: AgentSocket, log: Path) -> None:
        self._agent, self._log = agent, log
        self._buffer = bytearray()
        self._asked: wire.Request | None = None
        self._greeted = False
        self._ended: WorkerEnded | None = None

    def send(self, data: bytes) -> None:
        if self._ended is not None:
            raise BrokenPipeError
        self._asked = msgspec.json.decode(data, type=wire.Request)
        self._agent.send(data)

    def receive(self, seconds: float) -> bytes | None:
        """Return a whole line; b"" once the worker's process ended. DeviceUnreachable if the agent is lost."""
        while b"\n" not in self._buffer:
            if self._ended is not None:
                return b""
            chunk = self._agent.receive(seconds)
            if chunk is None:
                return None
            if not chunk:
                raise self._agent.fail("it closed the connection of a worker")
            self._buffer += chunk
            if len(self._buffer) > MAX_LINE_BYTES:
                raise self._agent.fail("it sent a message without end")
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        if len(line) < MOST_ENDED_BYTES and self._is_end(line):
            ended: WorkerEnded = self._decode(line, WorkerEnded)
            self._log.write_text(ended.tail, encoding="utf-8", errors="replace")
            self._ended = ended
            return b""
        self._check(line)
        return line + b"\n"

    def _is_end(self, line: bytes) -> bool:
        head: MessageType = self._decode(line, MessageType)
        return head.type == "ended"

    def _decode(self, line: bytes, kind: Any) -> Any:
        try:
            return msgspec.json.decode(line, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._agent.fail(f"it sent something that is no message of the protocol: {error}") from None

    def _check(self, line: bytes) -> None:
        """Raise DeviceUnreachable for a line that the protocol does not allow now."""
        if not self._greeted:
            self._decode(line, wire.Greeting)
            self._greeted = True
            return
        answer: wire.Answer = self._decode(line, wire.Answer)
        asked, self._asked = self._asked, None
        if asked is None or asked.id != answer.id:
            raise self._agent.fail("it sent an answer without a request")
        if not are_times_possible(asked.command, answer.result):
            raise self._agent.fail("it reported impossible times")

    def wait(self, seconds: float) -> int | None:
        """Return the exit code of a worker that ended by itself."""
        return None if self._ended is None else self._ended.code

    def limit_memory(self, allowed: float) -> None:
        """Do nothing: the device's system sets the limit."""

    def end(self) -> None:
        self._agent.close()
