"""Bind to an address and serve until a signal."""

import asyncio
import ipaddress
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from edgewright.errors import UsageError
from edgewright.flows.devices.browser import find_browser
from edgewright.store.location import find_home
from edgewright.store.store import Store
from edgewright.system.temporary import TemporaryFolder
from edgewright.web.browsers.server import BrowserServer, find_running, make_url
from edgewright.web.server.access import AccessRules
from edgewright.web.server.app import make_app
from edgewright.web.server.connections import (
    BACKLOG,
    LimitedProtocol,
    count_allowed_connections,
    report_accept_failure_once,
)

MAX_PORTS_TRIED = 20
SHUTDOWN_TIMEOUT_S = 2
MAX_MESSAGE_BYTES = 4 << 20  # of a WebSocket
PING_S = 15.0


def has_websockets() -> bool:
    return find_spec("websockets") is not None


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach the host; a name other than `localhost` can resolve to any address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 chooses a free port. Raises UsageError if the address is not available."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((host, port))
        server.listen(BACKLOG)
    except OSError as error:
        server.close()
        raise _make_bind_error(host, port, family, error) from None
    return server


def _make_bind_error(host: str, port: int, family: socket.AddressFamily, error: OSError) -> UsageError:
    if not _is_taken(family, host, port):
        why = error.strerror or str(error)
        return UsageError(f"cannot listen on {host} port {port}", why, "--host 127.0.0.1 --port 0")
    holder = _find_holder(port) or "another process, whose name is not visible to this user, listens on it"
    free = next(
        (one for one in range(port + 1, min(port + MAX_PORTS_TRIED, 65_536)) if not _is_taken(family, host, one)), 0
    )
    return UsageError(f"port {port} is in use", holder, f"--port {free}")


def _is_taken(family: socket.AddressFamily, host: str, port: int) -> bool:
    """Return whether a server accepts connections at the address."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host if host not in ("0.0.0.0", "::") else "localhost", port)) == 0  # noqa: S104 - compared with, not bound to


def _find_holder(port: int, proc: Path = Path("/proc")) -> str:
    """Return the process that listens on a port, with its command line; empty if it is not known."""
    inodes = {inode for table in ("tcp", "tcp6") for inode in _list_listening_inodes(proc / "net" / table, port)}
    for process in proc.glob("[0-9]*") if inodes else ():
        with suppress(OSError):
            if any(_holds_socket(link, inodes) for link in (process / "fd").iterdir()):
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
                return f"process {process.name} listens on it: {words[:200]}"
    return ""


def _holds_socket(link: Path, inodes: set[str]) -> bool:
    with suppress(OSError):
        return link.readlink().name.removeprefix("socket:[").removesuffix("]") in inodes
    return False


def _list_listening_inodes(table: Path, port: int) -> list[str]:
    """Return the inodes of the sockets that listen on a port (state 0A), from /proc/net/tcp."""
    with suppress(OSError):
        rows = [line.split() for line in table.read_text(encoding="ascii").splitlines()[1:]]
        return [row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port]
    return []


def make_config(app: ASGIApp, tls: tuple[Path, Path] | None = None, **changes: Any) -> uvicorn.Config:
    """Return the configuration of the server; `tls` is a certificate and its key, `changes` are settings of uvicorn.

    WebSockets are only for the pages of devices, and need the package websockets.
    """
    count_allowed_connections()  # raises the limit before the first connection
    settings: dict[str, Any] = {
        "http": LimitedProtocol,
        "loop": "asyncio",
        "backlog": BACKLOG,
        "log_level": "error",  # a warning for each malformed request could flood the log
        "access_log": False,
        "lifespan": "on",
        "timeout_graceful_shutdown": SHUTDOWN_TIMEOUT_S,
        "server_header": False,
        "date_header": False,
        "ws": "websockets-sansio" if has_websockets() else "none",
        "ws_max_size": MAX_MESSAGE_BYTES,
        "ws_ping_interval": PING_S,
        "ws_ping_timeout": PING_S,
        "ws_per_message_deflate": False,
        "ssl_certfile": tls[0] if tls else None,
        "ssl_keyfile": tls[1] if tls else None,
        "proxy_headers": False,
    }
    return uvicorn.Config(app, **(settings | changes))


def serve(
    store: Store,
    server: socket.socket,
    access_rules: AccessRules,
    ready: Callable[[], None],
    work_folders: tuple[Path, ...] = (),
) -> None:
    """Serve until SIGINT or SIGTERM; running jobs are then cancelled, and their measurements are stored."""
    with TemporaryFolder("ui") as folder:
        browsers = _make_browser_server(store, server, access_rules)
        app, app_state = make_app(store, access_rules, folder, work_folders, browsers=browsers)
        running = NotifyingServer(make_config(app), ready, app_state.live.close)
        running.run(sockets=[server])


def _make_browser_server(store: Store, server: socket.socket, access_rules: AccessRules) -> BrowserServer | None:
    """Return the part that holds browsers; None without its package, or while another server holds them."""
    home = find_home()
    if not has_websockets() or find_running(home):
        return None
    url = make_url(*server.getsockname()[:2], tls=False)
    return BrowserServer(home, url, access_rules, lambda digest: find_browser(store, digest))


class NotifyingServer(uvicorn.Server):
    """Server that calls `ready` after startup and `ending` before shutdown."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready, self._ending = ready, ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        report_accept_failure_once(asyncio.get_running_loop())
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending()  # before shutdown, which waits for open streams
        await super().shutdown(sockets)
