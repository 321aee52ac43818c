"""Workers behind a channel that is no child process of ours."""

from pathlib import Path

import pytest

from edgewright.devices import connection
from edgewright.devices.connection import greet_worker
from edgewright.errors import DeviceUnreachable, WorkerError
from edgewright.runtimes.wire import PROTOCOL, Close, CommandDone

HELLO = (
    f'{{"type":"hello","protocol":{PROTOCOL},"runtime":"pretend","version":"1","pid":1,"python":"3","import_us":1.0,'
    '"memory":{"rss":1,"peak":1}}\n'
).encode()
DONE = b'{"id":1,"result":{"type":"done","memory":{"rss":1,"peak":1}}}\n'


class ScriptedChannel:
    """Answers with the given pieces; an exception among them is raised."""

    limits_memory = False

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = list(pieces)
        self.sent = b""
        self.ended = 0

    def send(self, data: bytes) -> None:
        self.sent += data

    def receive(self, seconds: float) -> bytes | None:
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, Exception):
            raise piece
        return piece

    def wait(self, seconds: float) -> int | None:
        return 0

    def limit_memory(self, allowed: float) -> None: ...

    def end(self) -> None:
        self.ended += 1


def test_messages_may_come_in_pieces(tmp_path: Path) -> None:
    channel = ScriptedChannel(HELLO[:5], HELLO[5:] + DONE[:9], DONE[9:])
    with greet_worker(channel, "pretend", 9, tmp_path / "log", 0) as worker:
        assert worker.ask(Close(), CommandDone).memory.rss == 1
    assert channel.sent.endswith(b"\n")
    assert channel.ended == 1


def test_a_lost_device_ends_the_worker(tmp_path: Path) -> None:
    channel = ScriptedChannel(HELLO[:5], DeviceUnreachable("the device 'pi' was lost"))
    with pytest.raises(DeviceUnreachable, match="'pi' was lost"):
        greet_worker(channel, "pretend", 9, tmp_path / "log", 0)
    assert channel.ended == 1


def test_output_without_end_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_LINE_BYTES", 1 << 20)
    channel = ScriptedChannel(HELLO, *[b"x" * (1 << 18)] * 9)
    with (
        pytest.raises(WorkerError, match="sent too much while shutting down"),
        greet_worker(channel, "pretend", 9, tmp_path / "log", 0) as worker,
    ):
        worker.leave()
    assert channel.pieces  # the rest was not read
