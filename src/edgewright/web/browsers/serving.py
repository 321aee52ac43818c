"""The server of `edgewright devices serve`: only the pages of devices."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import RedirectResponse
from starlette.routing import Route

from edgewright.errors import RuntimeMissing
from edgewright.system.certificates import Certificate
from edgewright.web.browsers.server import BrowserServer
from edgewright.web.server.access import AccessMiddleware, AccessRules
from edgewright.web.server.assets import serve_static_file
from edgewright.web.server.serving import NotifyingServer, has_websockets, make_config


def require_websockets() -> None:
    """Raise RuntimeMissing without the package that browsers' connections require."""
    if not has_websockets():
        raise RuntimeMissing(
            "browsers cannot be devices here", "websockets is not installed", "pip install 'edgewright[devices]'"
        )


def serve_devices(
    home: Path,
    server: socket.socket,
    url: str,
    find_device: Callable[[str], str | None],
    ready: Callable[[], None],
    certificate: Certificate | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        certificate: for TLS; without one, only browsers on this machine have a secure context.
    """
    app = make_device_app(home, url, find_device, certificate)
    tls = (certificate.path, certificate.key) if certificate else None
    NotifyingServer(make_config(app, tls), ready, lambda: None).run(sockets=[server])


def make_device_app(
    home: Path, url: str, find_device: Callable[[str], str | None], certificate: Certificate | None = None
) -> AccessMiddleware:
    """Return the application; see `BrowserServer`."""
    access_rules = AccessRules(loopback=certificate is None, names=(socket.gethostname().lower(),))
    browsers = BrowserServer(home, url, access_rules, find_device, certificate.fingerprint if certificate else "")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with browsers.listen():
            yield

    routes = [
        Route("/", lambda request: RedirectResponse("/device/", 303)),
        *browsers.routes,
        Route("/static/{name}", serve_static_file),
    ]
    return AccessMiddleware(Starlette(routes=routes, lifespan=lifespan), access_rules)
