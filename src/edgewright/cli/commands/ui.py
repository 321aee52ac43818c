"""`edgewright ui`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import FilePath
from edgewright.cli.rendering.output import print_message

if TYPE_CHECKING:
    from edgewright.store.store import Store
    from edgewright.web.server.access import AccessRules

PORT = 8420
ALL_ADDRESSES = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to


@click.command(cls=HelpedCommand)
@click.option("--port", type=click.IntRange(0, 65_535), default=PORT, help="Port; 0 chooses a free one.")
@click.option("--host", default="127.0.0.1", help="Address to listen on; all but loopback require a key.")
@click.option("--open/--no-open", "open_it", default=None, help="Open the browser; default: only in a terminal.")
@click.option(
    "--work-folder",
    "folders",
    type=FilePath(exists=True, file_okay=False),
    multiple=True,
    metavar="DIR",
    help="Folder with tasks, datasets and recipes for jobs; may be repeated.",
)
@click.option("--allow-code", is_flag=True, help="Allow jobs to run code that is named by tasks in work folders.")
@click.option("--new-key", is_flag=True, help="Create a new key for other machines; the old key becomes invalid.")
def ui(port: int, host: str, open_it: bool | None, folders: tuple[str, ...], allow_code: bool, new_key: bool) -> None:
    """Show runs, layers, devices and comparisons in the browser, and start jobs."""
    import os
    from contextlib import closing
    from pathlib import Path

    from edgewright.api.user_store import open_user_store
    from edgewright.web.server.serving import bind, serve

    if allow_code:  # jobs are child processes that inherit the environment
        os.environ |= {f"EDGEWRIGHT_{name}_ALLOW_CODE": "1" for name in ("EVALUATE", "QUANTIZE")}
    with closing(open_user_store()) as store:
        access_rules = make_access_rules(store, host, renew=new_key)
        server = bind(host, port)
        address = make_address(host, server.getsockname()[1])

        def ready() -> None:
            click.echo(address)
            print_message("Press Ctrl-C to stop.")
            if open_it or (open_it is None and _has_terminal()):
                _open_browser(address)

        serve(store, server, access_rules, ready, tuple(Path(folder).absolute() for folder in folders))


def _has_terminal() -> bool:
    import sys

    return sys.stdout.isatty()


def _open_browser(address: str) -> None:
    """Open the user's browser from a thread, because some browsers block until they exit."""
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()


def make_address(host: str, port: int) -> str:
    """Return the URL of the server; with this machine's name if it listens on all addresses."""
    import socket

    if host in ALL_ADDRESSES:
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def make_access_rules(store: Store, host: str, *, renew: bool) -> AccessRules:
    """Return the access rules: no key for loopback, else a key that is shown once and stored as a hash."""
    import socket

    from edgewright.web.server.access import AccessRules
    from edgewright.web.server.login import load_key
    from edgewright.web.server.serving import is_loopback

    if is_loopback(host):
        return AccessRules()
    digest, key = load_key(store.home, renew=renew)
    print_message(
        f"Warning: {host} is reachable from other machines without encryption. Anyone with the key can start jobs."
    )
    print_message(
        f"Key (shown once): {key}" if key else "The key was shown when it was created; --new-key creates another."
    )
    return AccessRules(loopback=False, names=(socket.gethostname().lower(),), key_hash=digest)
