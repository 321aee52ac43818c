"""A server of devices in a thread, and a stand-in for its page that runs the commands of workers with `pretend`."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import Request, urlopen

import msgspec
import pytest
import uvicorn

pytest.importorskip("websockets", reason="browsers as devices need the extra `devices`")

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from edgewright.devices.browser.messages import Offer, OfferCode, Paired
from edgewright.devices.browser.service import ServiceCall
from edgewright.runtimes import wire
from edgewright.runtimes.table import find_runtime, import_runtime
from edgewright.runtimes.worker import RequestHandler, greet
from edgewright.web.browsers.serving import make_device_app
from edgewright.web.server.serving import bind, make_config

FACTS: dict[str, Any] = {
    "agent": "Mozilla/5.0 (Linux; Android 14; K) AppleWebKit/537.36 Chrome/140.0.0.0 Mobile Safari/537.36",
    "platform": "Android",
    "model": "Pixel 8",
    "platform_version": "14.0.0",
    "architecture": "",
    "cores": 8,
    "memory_gib": 8.0,
    "screen": "412x915",
    "pixel_ratio": 2.6,
    "isolated": True,
    "secure": True,
    "gpu": "",
    "webnn": False,
}


@contextmanager
def serve_in_thread(home: Path, find_device: Callable[[str], str | None] = lambda digest: None) -> Iterator[str]:
    """Serve the pages of devices, and yield their address."""
    server = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.getsockname()[1]}"
    running = uvicorn.Server(make_config(make_device_app(home, url, find_device)))
    thread = threading.Thread(target=lambda: asyncio.run(running.serve(sockets=[server])), daemon=True)
    thread.start()
    while not running.started:
        thread.join(0.01)
    try:
        yield url
    finally:
        running.should_exit = True
        thread.join(20)


class PageStandIn:
    """A page, as the server sees it; `spoil` changes an answer before it is sent."""

    def __init__(self, url: str, first: dict[str, Any], origin: str = "") -> None:
        self._url = url
        address = f"{url.replace('http', 'ws')}/device/socket"
        self._stack = ExitStack()
        self.socket: ClientConnection = self._stack.enter_context(connect(address, origin=Origin(origin or url)))
        try:
            self.send(first)
            self.session = json.loads(self.socket.recv(10))
        except BaseException:
            self._stack.close()
            raise
        self.spoil: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda message: message
        self._workers: dict[str, RequestHandler] = {}
        self._folder = Path(self._stack.enter_context(TemporaryDirectory()))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def send(self, message: dict[str, Any]) -> None:
        self.socket.send(json.dumps(message))

    def run(self) -> "PageStandIn":
        """Answer commands in a thread until the connection ends."""
        self._thread.start()
        return self

    def close(self) -> None:
        self._stack.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(10)

    def _serve(self) -> None:
        with suppress(ConnectionClosed):
            for text in self.socket:
                self._take(json.loads(text))

    def _take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "start":
                module = import_runtime(find_runtime("pretend"))
                self._workers[message["worker"]] = RequestHandler(module)
                greeting = msgspec.to_builtins(greet("pretend", module))
                self.send({"type": "greeting", "worker": message["worker"], "greeting": greeting})
            case "ask":
                self._answer(message)

    def _answer(self, message: dict[str, Any]) -> None:
        request = message["request"]
        local = self._folder
        for role, offer in message["files"].items():
            if role != "beside":
                (local / offer["name"]).write_bytes(self.load(offer["url"]))
        command = request["command"]
        if "session" in command:
            command["session"]["model"] = str(local / message["files"]["model"]["name"])
        for role in {"feeds", "outputs"} & command.keys():
            command[role] = str(local / f"{role}.npys")
        if "feeds" in command:
            (local / message["files"]["feeds"]["name"]).rename(local / "feeds.npys")
        result = self._workers[message["worker"]].answer(msgspec.convert(command, wire.Command))
        contents = (
            [(local / "outputs.npys").read_bytes()]
            if isinstance(result, wire.CommandDone) and "outputs" in command
            else []
        )
        built = msgspec.to_builtins(result)
        if built["type"] == "times":
            built["cpu_ns"] = []
        answer = self.spoil(
            {
                "type": "answer",
                "worker": message["worker"],
                "answer": {"id": request["id"], "result": built},
                "files": [{"name": "", "bytes": len(content)} for content in contents],
            }
        )
        if answer is not None:
            self.send(answer)
            for content in contents:
                self.socket.send(content)

    def load(self, address: str) -> bytes:
        request = Request(f"{self._url}{address}", headers={"authorization": f"Bearer {self.session['token']}"})
        with urlopen(request) as response:
            return bytes(response.read())


def pair(url: str, home: Path, name: str = "web") -> tuple[PageStandIn, Paired]:
    """Return a page that was paired under this name."""
    with ServiceCall(home, OfferCode(name=name)) as call:
        page = PageStandIn(url, {"type": "pair", "code": call.require(Offer).code, "facts": FACTS})
        return page, call.require(Paired)
