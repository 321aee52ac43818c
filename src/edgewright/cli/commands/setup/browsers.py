"""`edgewright devices serve`, and the pairing of `edgewright devices add NAME --browser`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.rendering.output import print_json, print_message

if TYPE_CHECKING:
    from edgewright.devices.browser.messages import Offer

PORT = 8431
WAIT_S = 300.0


def add_browser_device(name: str, wait_s: float, *, as_json: bool) -> None:
    """Print the address and the code of a browser, and wait until it is paired."""
    from contextlib import closing

    from edgewright.api.user_store import open_user_store
    from edgewright.flows.devices.browser import add_browser
    from edgewright.store.location import find_home

    with closing(open_user_store()) as store:
        row = add_browser(name, store, find_home(), wait_s, lambda offer: _show_offer(offer, as_json=as_json))
    if as_json:
        facts = {"name": row.name, "kind": row.kind, "state": "ready", "facts": row.facts}
        print_json({"schema": "edgewright.device/1", **facts})
    else:
        print_message(f"Paired: {row.name}, {row.facts.get('model')}. Keep its page open.")


def _show_offer(offer: Offer, *, as_json: bool) -> None:
    """Print the address and the code at once."""
    import sys

    if as_json:
        print_json({"url": offer.url, "code": offer.code, "fingerprint": offer.fingerprint or None})
        sys.stdout.flush()
        return
    click.echo(offer.url)
    print_message(f"Code: {offer.code} (for one browser)")
    if offer.fingerprint:
        print_message(f"The browser warns of the certificate. Compare its SHA-256: {offer.fingerprint}")
    if text := _draw_code(offer.url):
        print_message(text)


def _draw_code(url: str) -> str:
    """Return a QR code of block characters; empty without the package segno."""
    from importlib.util import find_spec
    from io import StringIO

    if find_spec("segno") is None:
        return ""
    import segno

    out = StringIO()
    segno.make(url, micro=False).terminal(out, compact=True, border=2)
    return out.getvalue().rstrip("\n")


@click.command(cls=HelpedCommand)
@click.option("--port", type=click.IntRange(0, 65_535), default=PORT, help="Port; 0 chooses a free one.")
@click.option("--host", default="127.0.0.1", help="Address to listen on; all but loopback use TLS.")
def serve(port: int, host: str) -> None:
    """Serve the page that makes a browser a device, until Ctrl-C.

    Only the machine itself, and phones with `adb reverse`, can open a page on loopback. For phones and tablets in the
    same network: --host 0.0.0.0, with a certificate of this machine whose fingerprint is printed.
    """
    from contextlib import closing

    from edgewright.api.user_store import open_user_store
    from edgewright.errors import UsageError
    from edgewright.flows.devices.browser import find_browser
    from edgewright.store.location import find_home
    from edgewright.web.browsers.server import choose_names, find_running, make_url
    from edgewright.web.browsers.serving import require_websockets, serve_devices
    from edgewright.web.server.serving import bind, is_loopback

    require_websockets()
    home = find_home()
    if running := find_running(home):
        raise UsageError("another server holds the browsers", f"process {running.pid} at {running.url}", "use that one")
    server = bind(host, port)
    certificate = None
    if not is_loopback(host):
        from edgewright.system.certificates import load_certificate

        certificate = load_certificate(home, choose_names(host))
    url = make_url(host, server.getsockname()[1], tls=certificate is not None)

    def ready() -> None:
        click.echo(f"{url}/device/")
        if certificate:
            print_message(f"SHA-256 of the certificate: {certificate.fingerprint}")
        print_message("Add a browser with: edgewright devices add NAME --browser. Press Ctrl-C to stop.")

    with closing(open_user_store()) as store:
        serve_devices(home, server, url, lambda digest: find_browser(store, digest), ready, certificate)
