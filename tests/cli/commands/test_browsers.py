"""`edgewright devices add --browser` and `devices serve` on the command line; pairing: tests/flows/devices."""

import socket
from pathlib import Path

import pytest

from edgewright.devices.browser.messages import Offer
from edgewright.flows.devices import browser
from edgewright.schema.devices import RegisteredDevice
from tests.cli.calling import Call


@pytest.mark.parametrize(("words", "why"), [((), "only a browser has none"), (("ssh://pi", "--browser"), "no address")])
def test_a_device_has_either_an_address_or_a_browser(call: Call, words: tuple[str, ...], why: str) -> None:
    result = call("devices", "add", "phone", *words)
    assert result.code == 2
    assert why in result.error()[1]


def test_the_address_and_the_code_come_first(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(name: str, *rest: object) -> RegisteredDevice:
        show = rest[-1]
        assert callable(show)
        show(Offer(url="https://192.0.2.2:8431/device/#code=AAAA2222", code="AAAA2222", fingerprint="0F:1E"))
        return RegisteredDevice(name=name, kind="browser", facts={"model": "Pixel 8"}, added_at="2026-11-30T00:00:00")

    monkeypatch.setattr(browser, "add_browser", add)
    lines = call("devices", "add", "phone", "--browser", "--json").out.splitlines()
    assert lines[0] == (
        '{"url":"https://192.0.2.2:8431/device/#code=AAAA2222","code":"AAAA2222","fingerprint":"0F:1E"}'
    )
    assert '"schema":"edgewright.device/1","name":"phone"' in lines[1]
    result = call("devices", "add", "phone", "--browser")
    assert result.out.strip() == "https://192.0.2.2:8431/device/#code=AAAA2222"
    assert "AAAA2222 (for one browser)" in result.err and "0F:1E" in result.err


def test_a_port_that_is_taken_is_named(call: Call, own_home: Path) -> None:
    pytest.importorskip("websockets", reason="browsers as devices need the extra `devices`")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = call("devices", "serve", "--port", str(port))
    assert result.code == 2
    assert f"port {port} is in use" in result.error()[0]
