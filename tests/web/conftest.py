"""Fixtures: a real server on loopback with its own store, which stops after the test."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import uvicorn
from msgspec import Struct

from edgewright.store.store import Store, open_store
from edgewright.web.server.access import AccessRules
from edgewright.web.server.app import make_app
from edgewright.web.server.serving import bind, make_config
from edgewright.web.server.state import AppState
from tests.web.records import Record, fill

PATIENCE_S = 60.0


class Answer(Struct, frozen=True, kw_only=True):
    """Response of a server."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


class Pages(Struct, frozen=True, kw_only=True):
    """Running server with helper functions for tests."""

    port: int
    store: Store
    app_state: AppState

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def csrf(self) -> str:
        return self.app_state.access_rules.csrf

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send a request; names of headers have `_` for `-`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, named)
            result = connection.getresponse()
            found = {name.lower(): value for name, value in result.getheaders()}
            return Answer(status=result.status, headers=found, body=result.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, None, **headers)

    def post(self, path: str, fields: list[tuple[str, str]] | None = None, **headers: str) -> Answer:
        """Send a form like the server's own page."""
        body = urlencode([("csrf", self.csrf), *(fields or [])]).encode()
        kind = headers.pop("content_type", "application/x-www-form-urlencoded")
        return self.ask("POST", path, body, content_type=kind, **headers)


Serve = Callable[..., Pages]


@contextmanager
def served(
    store: Store, folder: Path, access_rules: AccessRules, wait_s: float = 60.0, work_folders: tuple[Path, ...] = ()
) -> Iterator[Pages]:
    """Serve the pages of a store from a thread."""
    socket = bind("127.0.0.1", 0)
    folder.mkdir(exist_ok=True)
    app, app_state = make_app(store, access_rules, folder, work_folders, wait_s=wait_s)
    config = make_config(app)
    server = uvicorn.Server(config)
    ready = threading.Event()
    startup = server.startup

    async def report_ready(sockets: Any = None) -> None:
        await startup(sockets)
        ready.set()

    server.startup = report_ready  # type: ignore[method-assign] # to know when it listens
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    try:
        assert ready.wait(PATIENCE_S)
        yield Pages(port=socket.getsockname()[1], store=store, app_state=app_state)
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        socket.close()
        assert not thread.is_alive()


@pytest.fixture
def store(own_home: Path) -> Iterator[Store]:
    with open_store(own_home) as opened:
        yield opened


@pytest.fixture
def record(store: Store) -> Record:
    return fill(store)


@pytest.fixture
def pages(store: Store, tmp_path: Path) -> Iterator[Pages]:
    """Return pages on loopback without a key."""
    with served(store, tmp_path / "uploads", AccessRules()) as running:
        yield running
