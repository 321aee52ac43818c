"""Pairing a browser with the name of a device, with a stand-in for its page."""

from pathlib import Path

import pytest

from edgewright.devices.browser.messages import Offer
from edgewright.errors import DeviceUnreachable, UsageError
from edgewright.flows.devices import browser
from edgewright.flows.devices.browser import add_browser, disconnect_browser, find_browser
from edgewright.flows.devices.flow import check_device, remove_device, show_device
from edgewright.schema.devices import RegisteredDevice
from edgewright.store.store import Store, open_store
from tests.web.browsers.stand_in import FACTS, PageStandIn, serve_in_thread


def add(name: str, store: Store, home: Path, url: str, wait_s: float = 20) -> tuple[PageStandIn, RegisteredDevice]:
    """Add a browser whose page is opened as soon as the code exists."""
    pages: list[PageStandIn] = []

    def show(offer: Offer) -> None:
        pages.append(PageStandIn(url, {"type": "pair", "code": offer.code, "facts": FACTS}))

    row = add_browser(name, store, home, wait_s, show)
    return pages[0], row


def test_a_browser_is_registered_with_its_facts(own_home: Path) -> None:
    with open_store(own_home) as store, serve_in_thread(own_home) as url:
        page, row = add("phone", store, own_home, url)
        assert store.list_registered_devices() == [row]
        assert (row.kind, row.facts["model"]) == ("browser", "Pixel 8")
        assert page.session["token"] not in str(row)  # only its hash is stored
        assert find_browser(store, row.settings["token_sha256"]) == "phone"
        assert show_device("phone", store).state == "ready"
        page.send({"type": "state", "visible": False, "awake": True, "battery": 0.1, "charging": None})
        while (report := check_device("phone", store)[0]).checks[1].state == "unknown":
            pass
        states = {check.code: check.state for check in report.checks}
        assert states == {
            "connection": "ok",
            "battery": "warning",
            "charging": "unknown",
            "visible": "warning",
            "awake": "ok",
            "isolated": "ok",
        }
        page.close()
        while show_device("phone", store).state != "offline":
            pass
        again, paired = add("phone", store, own_home, url)
        assert [one.settings for one in store.list_registered_devices()] == [paired.settings]
        assert paired.settings != row.settings
        assert remove_device("phone", store, forget=False)
        assert store.list_registered_devices() == []
        again.close()


def test_what_cannot_be_added(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "SERVER_SECONDS", 0.3)
    with open_store(own_home) as store:
        with pytest.raises(DeviceUnreachable, match="no server holds the browsers"):
            add_browser("phone", store, own_home, 5, lambda offer: None)
        with serve_in_thread(own_home), pytest.raises(DeviceUnreachable, match=r"not opened in 0\.2 s") as late:
            add_browser("phone", store, own_home, 0.2, lambda offer: None)
        assert late.value.exit_code == 4
        with pytest.raises(UsageError, match="cannot be named"):
            add_browser("a=b", store, own_home, 5, lambda offer: None)
        row = RegisteredDevice(name="pi", kind="ssh", address="ssh://pi", added_at="2026-11-30T00:00:00+00:00")
        store.add_device(row)
        with pytest.raises(UsageError, match="exists already"):
            add_browser("pi", store, own_home, 5, lambda offer: None)
        assert store.list_registered_devices() == [row]
    disconnect_browser(own_home, "phone")  # without a server there is nothing to do
