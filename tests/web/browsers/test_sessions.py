"""Browsers as devices, with a stand-in for the page: pairing, workers, and pages that break the protocol."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest

pytest.importorskip("websockets", reason="browsers as devices need the extra `devices`")

from websockets.exceptions import ConnectionClosed, InvalidStatus

from edgewright.devices.browser import device as browser
from edgewright.devices.browser.device import BrowserDevice
from edgewright.devices.browser.messages import Forget, Offer, OfferCode
from edgewright.devices.browser.service import SERVICE_FILE, ServiceCall, list_browsers, read_service
from edgewright.devices.connection import Connection
from edgewright.devices.protocol import Device
from edgewright.errors import DeviceUnreachable, EdgewrightError, RuntimeMissing, UsageError
from edgewright.runtimes.wire import CommandDone, Invoke, Open, Opened, SessionRequest, TimeRuns, Times
from tests.contracts.device_contract import DeviceContract
from tests.web.browsers.stand_in import FACTS, PageStandIn, pair, serve_in_thread

Spoil = Callable[[dict[str, Any]], dict[str, Any] | None]


@pytest.fixture(autouse=True)
def pretend_runs_in_browsers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "list_web_runtimes", lambda home: {"pretend": "1"})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def url(home: Path) -> Iterator[str]:
    with serve_in_thread(home) as url:
        yield url


@pytest.fixture
def page(url: str, home: Path) -> Iterator[PageStandIn]:
    page = pair(url, home)[0].run()
    yield page
    page.close()


class TestBrowserDevice(DeviceContract):
    @pytest.fixture
    def open_device(self, page: PageStandIn, home: Path) -> Callable[[], Device]:
        return lambda: BrowserDevice("web", home)


def use(home: Path, tmp_path: Path, name: str = "web", start: float = 0.0) -> float:
    """Time a model in a browser, and return the sum of the inputs that it computes."""
    device = BrowserDevice(name, home)
    model, feeds = tmp_path / f"{name}.pretend", tmp_path / f"{name}.npz"
    model.write_bytes(b"pretend")
    np.savez(feeds, x=np.arange(4.0) + start)
    try:
        request = SessionRequest(model=device.push(model, sha256(b"model").hexdigest()), options={"latency-us": "10"})
        remote = device.push(feeds, sha256(feeds.read_bytes()).hexdigest())
        outputs = f"{device.workspace()}/out.npz"
        with device.start_worker("pretend", (), 30, tmp_path / f"{name}.log") as worker:
            worker.ask(Open(session=request, feeds=remote), Opened)
            worker.ask(TimeRuns(runs=3, seconds=10), Times)
            worker.ask(Invoke(feeds=remote, outputs=outputs), CommandDone)
        with np.load(outputs) as arrays:
            return float(arrays["sums"][0])
    finally:
        device.close()


def test_facts_come_from_the_page_and_say_so(url: str, home: Path) -> None:
    page, paired = pair(url, home)
    assert paired.facts["model"] == "Pixel 8"
    assert (paired.facts["android"], paired.facts["memory"]) == ("14", 8 << 30)
    assert paired.facts["reported_by"] == "the browser"
    page.send({"type": "state", "visible": False, "awake": False, "battery": 0.5, "charging": True})
    device = BrowserDevice("web", home)
    for _ in range(100):
        if state := device.system_state():
            break
        time.sleep(0.02)
    assert state == {"visible": 0.0, "awake": 0.0, "battery": 0.5, "charging": 1.0}
    device.close()
    page.close()


def test_a_code_is_for_one_browser(url: str, home: Path) -> None:
    with ServiceCall(home, OfferCode(name="web")) as call:
        offer = call.require(Offer)
        assert offer.url == f"{url}/device/#code={offer.code}"
        first = PageStandIn(url, {"type": "pair", "code": offer.code, "facts": FACTS})
        with pytest.raises(ConnectionClosed, match="was used"):
            PageStandIn(url, {"type": "pair", "code": offer.code, "facts": FACTS})
        first.close()
    with ServiceCall(home, OfferCode(name="later")) as call:
        code = call.require(Offer).code
    time.sleep(0.1)  # the server revokes the code when the command ends
    with pytest.raises(ConnectionClosed, match="expired"):
        PageStandIn(url, {"type": "pair", "code": code, "facts": FACTS})


def test_a_page_connects_again_with_its_token_only(url: str, home: Path) -> None:
    page, _ = pair(url, home)
    other, _ = pair(url, home, "other")
    token = page.session["token"]
    page.close()
    for name, false_token in (("web", "guessed"), ("web", other.session["token"]), ("other", token), ("new", token)):
        with pytest.raises(ConnectionClosed, match="not paired"):
            PageStandIn(url, {"type": "resume", "name": name, "token": false_token, "facts": FACTS})
    again = PageStandIn(url, {"type": "resume", "name": "web", "token": token, "facts": FACTS})
    assert again.session["name"] == "web"
    with ServiceCall(home, Forget(name="web")):
        pass
    with pytest.raises(ConnectionClosed, match="removed"):
        again.socket.recv(10)
    again.close()
    other.close()


def test_a_registered_browser_connects_to_a_new_server(home: Path) -> None:
    with serve_in_thread(home) as url:
        page, paired = pair(url, home)
        page.close()
    with serve_in_thread(home, {paired.token_sha256: "web"}.get) as url:
        token = page.session["token"]
        PageStandIn(url, {"type": "resume", "name": "web", "token": token, "facts": FACTS}).close()


def test_other_sites_and_unknown_hosts_are_rejected(url: str, home: Path) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        PageStandIn(url, {}, origin="http://elsewhere.example")
    with pytest.raises(HTTPError, match="404"):
        urlopen(f"{url}/device/files/guessed/m.onnx")
    with pytest.raises(HTTPError, match="404"):
        urlopen(f"{url}/device/runtimes/..%2f..%2f{SERVICE_FILE}")


@pytest.mark.parametrize(
    "garbage",
    [
        "garbage",
        "[]",
        '{"type": "pair"}',
        json.dumps({"type": "pair", "code": "AAAA", "facts": {**FACTS, "cores": 10**9}}),
        json.dumps({"type": "pair", "code": "AAAA", "facts": {**FACTS, "agent": "x" * 10_000}}),
        b"\x00\xff",
    ],
)
def test_garbage_before_pairing_ends_the_connection(url: str, garbage: str | bytes) -> None:
    from websockets.sync.client import connect

    with connect(f"{url.replace('http', 'ws')}/device/socket") as socket:
        socket.send(garbage)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(10)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008


FAULTS: dict[str, Spoil] = {
    "another id": lambda answer: {**answer, "answer": {**answer["answer"], "id": 99}},
    "unknown fields": lambda answer: {**answer, "more": 1},
    "another's worker": lambda answer: {"type": "greeting", "worker": answer["worker"], "greeting": {}},
    "files that nobody asked for": lambda answer: {**answer, "files": [{"name": "", "bytes": 5}]},
    "a path": lambda answer: {**answer, "files": [{"name": "../../x.json", "bytes": 5}]},
    "a terabyte": lambda answer: {**answer, "files": [{"name": "", "bytes": 1 << 40}]},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_page_that_breaks_the_protocol_is_disconnected(
    fault: str, page: PageStandIn, home: Path, tmp_path: Path
) -> None:
    page.spoil = FAULTS[fault]
    with pytest.raises(DeviceUnreachable, match="broke the protocol") as error:
        use(home, tmp_path)
    assert error.value.exit_code == 4
    with pytest.raises(DeviceUnreachable, match="broke the protocol"):
        BrowserDevice("web", home)


@pytest.mark.parametrize("times", [[], [1] * 4, [-1, 1, 1], [10**16, 1, 1]])
def test_impossible_times_are_not_results(times: list[int], page: PageStandIn, home: Path, tmp_path: Path) -> None:
    def spoil(answer: dict[str, Any]) -> dict[str, Any]:
        if answer["answer"]["result"]["type"] == "times":
            answer["answer"]["result"]["wall_ns"] = times
        return answer

    page.spoil = spoil
    with pytest.raises(DeviceUnreachable, match="impossible times"):
        use(home, tmp_path)


def test_outputs_that_are_no_arrays_are_rejected(page: PageStandIn, home: Path, tmp_path: Path) -> None:
    def spoil(answer: dict[str, Any]) -> dict[str, Any] | None:
        if not answer["files"]:
            return answer
        page.send({**answer, "files": [{"name": "", "bytes": 7}]})
        page.socket.send(b"garbage")
        return None

    page.spoil = spoil
    with pytest.raises(DeviceUnreachable, match="outputs cannot be read"):
        use(home, tmp_path)


@pytest.mark.parametrize("moment", ["opened", "times", "done"])
def test_a_page_that_is_closed_is_named(moment: str, page: PageStandIn, home: Path, tmp_path: Path) -> None:
    def spoil(answer: dict[str, Any]) -> dict[str, Any] | None:
        if answer["answer"]["result"]["type"] != moment:
            return answer
        page.socket.close()
        return None

    page.spoil = spoil
    with pytest.raises(DeviceUnreachable, match="page was closed") as error, suppress(ConnectionClosed):
        use(home, tmp_path)
    assert error.value.exit_code == 4


def test_a_worker_that_fails_ends_alone(page: PageStandIn, home: Path, tmp_path: Path) -> None:
    def spoil(answer: dict[str, Any]) -> dict[str, Any] | None:
        page.send({"type": "failed", "worker": answer["worker"], "why": "memory access out of bounds"})
        return None

    page.spoil = spoil
    with pytest.raises(EdgewrightError, match="memory access out of bounds") as error:
        use(home, tmp_path)
    assert not isinstance(error.value, DeviceUnreachable)
    page.spoil = lambda answer: answer
    assert use(home, tmp_path) == 6.0


def test_a_command_that_ends_while_outputs_come_does_not_harm_the_page(
    page: PageStandIn, home: Path, tmp_path: Path
) -> None:
    sending = threading.Event()

    def spoil(answer: dict[str, Any]) -> dict[str, Any] | None:
        if not answer["files"]:
            return answer
        page.send({**answer, "files": [{"name": "", "bytes": 6}]})
        page.socket.send(b"some ")
        sending.set()
        ended.wait(10)
        page.socket.send(b".")
        return None

    ended = threading.Event()
    page.spoil = spoil
    device = BrowserDevice("web", home)
    feeds = tmp_path / "x.npz"
    np.savez(feeds, x=np.arange(4.0))
    remote = device.push(feeds, "feeds")
    worker = device.start_worker("pretend", (), 30, tmp_path / "log")
    worker.ask(Open(session=SessionRequest(model=remote, options={"latency-us": "10"}), feeds=remote), Opened)
    ask = threading.Thread(
        target=_ask_and_ignore, args=(worker, Invoke(feeds=remote, outputs=f"{device.workspace()}/x.npz"))
    )
    ask.start()
    sending.wait(10)
    device.close()  # its folder is gone
    ended.set()
    ask.join(10)
    page.spoil = lambda answer: answer
    assert use(home, tmp_path) == 6.0


def _ask_and_ignore(worker: Connection, command: Invoke) -> None:
    with suppress(EdgewrightError):
        worker.ask(command, CommandDone)
    worker.end()


def test_twenty_pages_at_once_are_not_mixed_up(url: str, home: Path, tmp_path: Path) -> None:
    pages = [pair(url, home, f"page-{number}")[0].run() for number in range(20)]
    sums: dict[int, float] = {}

    def measure(number: int) -> None:
        sums[number] = use(home, tmp_path, f"page-{number}", float(number))

    threads = [threading.Thread(target=measure, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == {number: 6.0 + 4 * number for number in range(20)}
    for page in pages:
        page.close()


def test_a_command_without_the_token_gets_nothing(url: str, home: Path) -> None:
    info = read_service(home)
    assert info is not None
    assert (home / SERVICE_FILE).stat().st_mode & 0o077 == 0
    (home / SERVICE_FILE).write_text((home / SERVICE_FILE).read_text().replace(info.token, "guessed"))
    with pytest.raises(DeviceUnreachable, match="ended"):
        list_browsers(home)


def test_errors_of_a_command(page: PageStandIn, url: str, home: Path, tmp_path: Path) -> None:
    with ServiceCall(home, OfferCode(name="web")) as call, pytest.raises(DeviceUnreachable, match="connected as 'web'"):
        call.require(Offer)
    device = BrowserDevice("web", home)
    with pytest.raises(RuntimeMissing, match="does not run in a browser"):
        device.start_worker("ncnn", (), 5, tmp_path / "log")
    with pytest.raises(UsageError, match="cannot choose processors"):
        device.start_worker("pretend", (0,), 5, tmp_path / "log")
    device.close()
    with pytest.raises(DeviceUnreachable, match="no server holds the browsers"):
        BrowserDevice("web", tmp_path)


def test_the_page_is_isolated_and_runs_only_its_own_scripts(url: str) -> None:
    with urlopen(f"{url}/device/") as response:
        headers = response.headers
        text = response.read().decode()
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-embedder-policy"] == "require-corp"
    assert "script-src 'self' 'wasm-unsafe-eval';" in headers["content-security-policy"]
    assert "<script>" not in text and "style=" not in text
