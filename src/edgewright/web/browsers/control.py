"""The port for commands: JSON lines over loopback, see `devices/browser/messages.py`."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from edgewright.devices.browser.messages import (
    Browsers,
    Forget,
    Lease,
    Leased,
    ListBrowsers,
    Offer,
    OfferCode,
    Paired,
    Push,
    Pushed,
    ServiceRequest,
    Started,
    StartWorker,
)
from edgewright.devices.browser.service import ServiceInfo, publish_service
from edgewright.runtimes import wire
from edgewright.web.browsers.hub import ActionError, BrowserHub

MAX_LINE_BYTES = 1 << 20
FIRST_LINE_SECONDS = 10.0


class ControlPort:
    """Answers the commands of this user.

    Args:
        url: address of the pages.
        fingerprint: sha256 of the server's certificate; empty without TLS.
    """

    def __init__(self, hub: BrowserHub, url: str, fingerprint: str = "") -> None:
        self._hub, self._url, self._fingerprint = hub, url, fingerprint
        self._token = secrets.token_urlsafe(32)
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listen(self, home: Path) -> AsyncIterator[None]:
        """Listen, and publish the port in the home folder until the block ends."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=MAX_LINE_BYTES)
        port = server.sockets[0].getsockname()[1]
        info = ServiceInfo(port=port, token=self._token, url=self._url, pid=os.getpid())
        try:
            with publish_service(home, info):
                yield
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            line = await asyncio.wait_for(reader.readline(), FIRST_LINE_SECONDS)
            call = msgspec.json.decode(line, type=ServiceRequest)
            if secrets.compare_digest(call.token.encode(), self._token.encode()):
                await self._act(call, reader, writer)
        except ActionError as error:
            await _reply(writer, error.failure)
        except (OSError, ValueError, TimeoutError, msgspec.MsgspecError):
            pass  # the other end is gone, or is not a command of ours
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _act(self, call: ServiceRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match call.action:
            case OfferCode(name=name):
                await self._pair(name, reader, writer)
            case ListBrowsers():
                await _reply(writer, Browsers(browsers=self._hub.list_browsers()))
            case Forget(name=name):
                await self._hub.forget(name)
                await _reply(writer, Browsers(browsers=self._hub.list_browsers()))
            case Lease(name=name, folder=folder):
                await self._lease(name, Path(folder), reader, writer)
            case StartWorker() as start:
                await self._work(start, reader, writer)

    async def _pair(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        code, found = self._hub.offer_code(name)
        gone: asyncio.Future[bytes] = asyncio.ensure_future(reader.read())
        try:
            url = f"{self._url}/device/#code={code}"
            await _reply(writer, Offer(url=url, code=code, fingerprint=self._fingerprint))
            either: set[asyncio.Future[Any]] = {found, gone}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if found.done():
                facts, token_sha256 = found.result()
                await _reply(writer, Paired(facts=facts, token_sha256=token_sha256))
        finally:
            self._hub.revoke_code(code)
            gone.cancel()

    async def _lease(self, name: str, folder: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        key, lease = self._hub.lease(name, folder)
        try:
            await _reply(writer, Leased(lease=key, facts=lease.page.facts))
            while line := await reader.readline():
                push = msgspec.json.decode(line, type=Push)
                await _reply(writer, Pushed(remote=lease.files.push(push)))
        finally:
            await self._hub.release(key)

    async def _work(self, start: StartWorker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay the messages of one worker until either end closes."""
        page, worker = await self._hub.start_worker(start.lease, start.runtime, Path(start.log))
        await _reply(writer, Started())

        async def relay() -> None:
            while (line := await worker.lines.get()) is not None:
                writer.write(line)
                await writer.drain()
            writer.close()

        relaying = asyncio.create_task(relay())
        try:
            while line := await reader.readline():
                await self._hub.ask(page, worker, msgspec.json.decode(line, type=wire.Request))
        finally:
            await self._hub.end_worker(page, worker)
            relaying.cancel()


async def _reply(writer: asyncio.StreamWriter, reply: msgspec.Struct) -> None:
    writer.write(msgspec.json.encode(reply) + b"\n")
    await writer.drain()
