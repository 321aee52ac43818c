"""A generated web project, served as any static folder is, and its page in Chromium."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

PATIENCE_MS = 240_000


class _Quiet(SimpleHTTPRequestHandler):
    def guess_type(self, path: Any) -> str:
        return "text/javascript" if str(path).endswith(".mjs") else super().guess_type(path)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder on a free port, and yield its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def open_page(context: Any, url: str) -> Any:
    """Open the page. Its errors are in `errors`, the addresses of other servers that it asks in `strangers`."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.errors, page.strangers = [], []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda message: message.type == "error" and page.errors.append(message.text))
    own = urlsplit(url).netloc
    page.on("request", lambda request: _note(page.strangers, request.url, own))
    page.goto(url)
    return page


def _note(strangers: list[str], url: str, own: str) -> None:
    if urlsplit(url).netloc not in (own, ""):
        strangers.append(url)


def read_self_test(page: Any, folder: Path) -> dict[str, Any]:
    """Wait for the end of the self-test, and return the result that the page saves."""
    page.wait_for_selector("[data-save]:not([disabled])", timeout=PATIENCE_MS)
    with page.expect_download() as download:
        page.click("[data-save]")
    path = folder / "selftest.json"
    download.value.save_as(path)
    found: dict[str, Any] = json.loads(path.read_text())
    return found
