"""Pairing of a browser with the name of a device."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from edgewright.devices.browser.device import ADDRESS
from edgewright.devices.browser.messages import Browsers, Forget, Offer, OfferCode, Paired
from edgewright.devices.browser.service import HINT, ServiceCall
from edgewright.errors import DeviceUnreachable, UsageError
from edgewright.schema.devices import RegisteredDevice, check_device_name
from edgewright.store.recording import utc_now
from edgewright.store.store import Store

TOKEN_SETTING = "token_sha256"  # noqa: S105 - the name of a hash
SERVER_SECONDS = 15.0  # for a server that is just being started
RETRY_SECONDS = 0.2


def add_browser(name: str, store: Store, home: Path, wait_s: float, show: Callable[[Offer], None]) -> RegisteredDevice:
    """Wait until a browser is paired, and register it; a registered browser of this name is paired anew.

    Args:
        home: folder of the server's file.
        wait_s: seconds in which the page must be opened.
        show: receives the address and the code as soon as they exist.

    Raises:
        UsageError: another kind of device has the name, or it cannot be one.
        DeviceUnreachable: no server runs, or the page was not opened in time.
    """
    check_device_name(name)
    known = {row.name: row for row in store.list_registered_devices()}.get(name)
    if known is not None and known.kind != "browser":
        raise UsageError(f"the device '{name}' exists already", f"it is {known.address}", "choose another name")
    with _call_server(home, name, min(wait_s, SERVER_SECONDS)) as call:
        show(call.require(Offer))
        paired = call.read(Paired, wait_s)
    if paired is None:
        raise DeviceUnreachable(
            f"no browser was paired as '{name}'",
            f"the page was not opened in {wait_s:g} s",
            "run the command again, with --wait SECONDS, and open the address on the device",
        )
    now = utc_now()
    row = RegisteredDevice(
        name=name,
        kind="browser",
        address=ADDRESS,
        facts=paired.facts,
        settings={TOKEN_SETTING: paired.token_sha256},
        added_at=now,
        seen_at=now,
    )
    if known is None:
        store.add_device(row)
    else:
        row = msgspec.structs.replace(row, added_at=known.added_at)
        store.update_device(row)
    return row


def _call_server(home: Path, name: str, seconds: float) -> ServiceCall:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ServiceCall(home, OfferCode(name=name))
        except DeviceUnreachable:
            if time.monotonic() > deadline:
                raise DeviceUnreachable(
                    "no server holds the browsers", f"none answered in {seconds:g} s", HINT
                ) from None
        time.sleep(RETRY_SECONDS)


def disconnect_browser(home: Path, name: str) -> None:
    """Close the page of a browser that was removed, if a server holds it."""
    with suppress(DeviceUnreachable), ServiceCall(home, Forget(name=name)) as call:
        call.require(Browsers)


def find_browser(store: Store, token_sha256: str) -> str | None:
    """Return the name of the registered browser with this hash of a token; None if there is none."""
    rows = (row for row in store.list_registered_devices() if row.kind == "browser")
    return next((row.name for row in rows if row.settings.get(TOKEN_SETTING) == token_sha256), None)
