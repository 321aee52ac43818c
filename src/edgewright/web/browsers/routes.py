"""The page /device/, its WebSocket, and the files that it loads."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from edgewright import __version__
from edgewright.runtimes.web import find_folder
from edgewright.web.browsers.files import ADDRESS
from edgewright.web.browsers.hub import BrowserHub, Page, PageFault
from edgewright.web.browsers.page_messages import FirstMessage, PageMessage, ServerMessage, SessionBegins
from edgewright.web.server.access import AccessRules, is_same_origin
from edgewright.web.server.assets import read_static_files
from edgewright.web.server.responses import load_templates

FIRST_MESSAGE_SECONDS = 10.0
MAX_TEXT_BYTES = 4 << 20
PROTOCOL_FAULT = 1008
MAX_REASON_BYTES = 120  # of a WebSocket's close
RUNTIMES = "/device/runtimes"
MEDIA_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self' {socket}; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)


def _make_headers(request: Request) -> dict[str, str]:
    """Return the headers for cross-origin isolation, which threads and precise clocks require, and the policy."""
    scheme = "wss" if request.url.scheme == "https" else "ws"
    return {
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-embedder-policy": "require-corp",
        "content-security-policy": POLICY.format(socket=f"{scheme}://{request.url.netloc}"),
        "permissions-policy": "screen-wake-lock=(self), camera=(), microphone=(), geolocation=(), usb=(), payment=()",
    }


class DeviceRoutes:
    """Handlers of one server.

    Args:
        home: the user's folder, which has the runtimes for browsers.
    """

    def __init__(self, hub: BrowserHub, home: Path, access_rules: AccessRules) -> None:
        self._hub, self._home, self._access_rules = hub, home, access_rules

    def make_routes(self) -> list[BaseRoute]:
        return [
            Route("/device/", self._show_page),
            WebSocketRoute("/device/socket", self._hold_session),
            Route(f"{ADDRESS}/{{key}}/{{name}}", self._send_file),
            Route(f"{RUNTIMES}/{{name:path}}", self._send_runtime),
            Route("/static/device-worker.js", self._send_script),
        ]

    def _show_page(self, request: Request) -> Response:
        text = load_templates().get_template("device.html").render(version=__version__)
        return HTMLResponse(text, headers=_make_headers(request))

    def _send_script(self, request: Request) -> Response:
        return Response(
            read_static_files()["device-worker.js"], media_type="text/javascript", headers=_make_headers(request)
        )

    def _send_file(self, request: Request) -> Response:
        """Send a file of a lease to its page, which has the token."""
        page = self._hub.find_page(request.headers.get("authorization", "").removeprefix("Bearer "))
        path = page.find_file(str(request.path_params["key"])) if page else None
        if path is None or not path.is_file():
            return PlainTextResponse("File not found.", 404)
        return FileResponse(
            path, media_type="application/octet-stream", headers={"cache-control": "private, max-age=86400"}
        )

    def _send_runtime(self, request: Request) -> Response:
        folder = find_folder(self._home)
        path = folder / str(request.path_params["name"])
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            return PlainTextResponse("File not found.", 404)
        headers = {**_make_headers(request), "cache-control": "public, max-age=31536000, immutable"}
        return FileResponse(path, media_type=MEDIA_TYPES.get(path.suffix, "application/octet-stream"), headers=headers)

    async def _hold_session(self, socket: WebSocket) -> None:
        """Hold the session of a page until it ends or breaks the protocol."""
        if not self._access_rules.is_known_host(socket.headers.get("host", "")) or not is_same_origin(socket.headers):
            await socket.close(PROTOCOL_FAULT)
            return
        await socket.accept()
        page, why = None, "its page was closed, or its connection was lost"
        try:
            page, token = await self._admit(socket)
            await _send(socket, SessionBegins(name=page.name, token=token, files=RUNTIMES))
            while True:
                message = _read_message(await _receive_text(socket))
                await self._hub.take(page, message, lambda path, count: _receive_file(socket, path, count))
        except PageFault as fault:
            why = f"it broke the protocol: {fault}"
            await _close(socket, str(fault))
        except WebSocketDisconnect:
            pass  # the page was closed
        finally:
            if page is not None and self._hub.is_connected(page):
                await self._hub.leave(page, why)

    async def _admit(self, socket: WebSocket) -> tuple[Page, str]:
        try:
            text = await asyncio.wait_for(_receive_text(socket), FIRST_MESSAGE_SECONDS)
        except TimeoutError:
            raise PageFault("No message came.") from None
        first = _read_first(text)
        return await self._hub.admit(first, lambda message: _send(socket, message), lambda why: _close(socket, why))


async def _send(socket: WebSocket, message: ServerMessage) -> None:
    try:
        await socket.send_text(msgspec.json.encode(message).decode())
    except (RuntimeError, WebSocketDisconnect):
        return  # the page was closed, which its session reports


async def _close(socket: WebSocket, why: str) -> None:
    reason = why.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
    try:
        await socket.close(PROTOCOL_FAULT, reason)
    except RuntimeError:
        return  # it is closed


async def _receive_text(socket: WebSocket) -> str:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1000))
    text = message.get("text")
    if text is None or len(text) > MAX_TEXT_BYTES:
        raise PageFault("a message of another form or size came")
    return str(text)


async def _receive_file(socket: WebSocket, path: Path | None, count: int) -> None:
    """Write the following binary messages to the file, up to this number of bytes, or drop them."""
    file: IO[bytes] | None = None
    with suppress(OSError):  # the command ended, and with it the folder
        file = path.open("wb") if path else None
    try:
        while count > 0:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1000))
            data = message.get("bytes")
            if not data or len(data) > count:
                raise PageFault("a file had another size than was stated")
            count -= len(data)
            if file:
                file.write(data)
    finally:
        if file:
            file.close()


def _read_first(text: str) -> FirstMessage:
    try:
        return msgspec.json.decode(text, type=FirstMessage)
    except msgspec.MsgspecError as error:
        raise PageFault(f"a message cannot be read: {error}") from None


def _read_message(text: str) -> PageMessage:
    try:
        return msgspec.json.decode(text, type=PageMessage)
    except msgspec.MsgspecError as error:
        raise PageFault(f"a message cannot be read: {error}") from None
