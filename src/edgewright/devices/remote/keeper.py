"""The process on the device that cleans up after a connection, however it ends."""

import contextlib
import threading
from collections.abc import Sequence
from pathlib import Path

from edgewright.devices.channel import Channel
from edgewright.devices.remote.link import Link
from edgewright.errors import DeviceUnreachable

BEAT_SECONDS = 15.0  # `board.SILENCE_SECONDS` is four of them


class Keeper:
    """A running `board.py guard`: while it hears from us the workspace stays; after that it ends all workers.

    Args:
        command: starts `board.py` on the device.
        folder: the workspace, which it removes at the end.
    """

    def __init__(self, link: Link, command: Sequence[str], folder: str, log: Path) -> None:
        self._channel: Channel = link.start([*command, "guard", folder], log, ())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="edgewright-keeper", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with contextlib.suppress(DeviceUnreachable, BrokenPipeError):  # whoever uses the device notices
                self._channel.send(b"\n")

    def close(self) -> None:
        """Let it end the workers and remove the workspace; it does the same if the connection is lost."""
        self._ended.set()
        with contextlib.suppress(DeviceUnreachable, BrokenPipeError):
            self._channel.send(b"")
        self._channel.end()
