"""What a server needs to hold browsers: routes for their pages, and the port for commands."""

import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

from starlette.routing import BaseRoute

from edgewright.devices.browser.service import ServiceInfo, read_service
from edgewright.web.browsers.control import ControlPort
from edgewright.web.browsers.hub import BrowserHub
from edgewright.web.browsers.routes import DeviceRoutes
from edgewright.web.server.access import AccessRules

ALL_ADDRESSES = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
ELSEWHERE = ("192.0.2.1", 9)  # an address of documentation; a connected UDP socket sends nothing


class BrowserServer:
    """The part of a server that holds browsers.

    Args:
        home: the user's folder, with the runtimes for browsers, and for the file of the port.
        url: address of the server for browsers.
        find_device: see `BrowserHub`.
        fingerprint: sha256 of the server's certificate; empty without TLS.
    """

    def __init__(
        self,
        home: Path,
        url: str,
        access_rules: AccessRules,
        find_device: Callable[[str], str | None],
        fingerprint: str = "",
    ) -> None:
        hub = BrowserHub(find_device)
        self._home, self._port = home, ControlPort(hub, url, fingerprint)
        self.routes: list[BaseRoute] = DeviceRoutes(hub, home, access_rules).make_routes()

    def listen(self) -> AbstractAsyncContextManager[None]:
        """Accept commands until the block ends."""
        return self._port.listen(self._home)


def find_running(home: Path) -> ServiceInfo | None:
    """Return the server that already holds the browsers; None if there is none."""
    info = read_service(home)
    with suppress(OSError):
        if info is not None:
            socket.create_connection(("127.0.0.1", info.port), 1.0).close()
            return info
    return None


def choose_names(host: str) -> list[str]:
    """Return the names and addresses of a server on `host`; the first is for its address."""
    if host not in ALL_ADDRESSES:
        return [host]
    own = [socket.gethostname(), "localhost", "127.0.0.1"]
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(ELSEWHERE)
        own.insert(0, str(probe.getsockname()[0]))
    return list(dict.fromkeys(own))


def make_url(host: str, port: int, *, tls: bool) -> str:
    """Return the address of a server for browsers."""
    name = choose_names(host)[0]
    return f"{'https' if tls else 'http'}://{f'[{name}]' if ':' in name else name}:{port}"
