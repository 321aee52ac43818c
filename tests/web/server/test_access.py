"""Access rules, and escaping of stored text."""

import re
import socket
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from starlette.routing import Route

from edgewright.store.store import Store
from edgewright.web.server.access import MAX_FORM_BYTES, AccessRules, parse_host_name
from edgewright.web.server.app import ROUTES
from edgewright.web.server.login import load_key
from edgewright.web.server.serving import is_loopback
from tests.web.conftest import Pages, served
from tests.web.jobs.test_queue import wait_for
from tests.web.records import SCRIPT, Record, fill, make_run

KEY = "the key of this test"
POSTS = sorted(route.path for route in ROUTES if isinstance(route, Route) and "POST" in (route.methods or ()))
GETS = sorted({route.path for route in ROUTES if isinstance(route, Route) and "GET" in (route.methods or ())})


@pytest.fixture
def locked(store: Store, tmp_path: Path) -> Iterator[Pages]:
    """Return pages that are bound to other addresses and require the key."""
    access_rules = AccessRules(loopback=False, names=("desk",), key_hash=sha256(KEY.encode()).hexdigest())
    with served(store, tmp_path / "uploads", access_rules) as running:
        yield running


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8420", "127.0.0.1.evil.example", "", "192.168.1.5", "[::2]"]
)
def test_an_unknown_host_is_rejected(pages: Pages, host: str) -> None:
    """DNS rebinding: the name of another site that resolves to this server."""
    answer = pages.get("/runs", host=host)
    assert answer.status in (400, 421)
    assert "Runs" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "localhost:8420", "127.0.0.1", "127.0.0.9:1", "[::1]:8420", "LOCALHOST"])
def test_own_host_is_answered(pages: Pages, host: str) -> None:
    assert pages.get("/runs", host=host).status == 200


def test_only_loopback_needs_no_key() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1")))
    assert not any(map(is_loopback, ("127.evil.example", "0.0.0.0", "::", "desk", "192.168.1.5", "")))


def test_odd_hosts_have_no_name() -> None:
    assert [parse_host_name(host) for host in ("[", "a b:x", "[::1]:80", "X:1")][2:] == ["::1", "x"]
    assert not AccessRules().is_known_host("[")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
def test_a_form_of_another_site_is_rejected(pages: Pages, record: Record, headers: dict[str, str]) -> None:
    answer = pages.post("/runs/delete", [("run", record.first.id)], **headers)
    assert answer.status == 403
    assert pages.app_state.deletions.hidden() == ()


def test_our_own_form_is_taken(pages: Pages, record: Record) -> None:
    answer = pages.post("/runs/delete", [("run", record.first.id)], origin=pages.address, sec_fetch_site="same-origin")
    assert answer.status == 303
    assert pages.app_state.deletions.hidden() == (record.first.id,)


@pytest.mark.parametrize("path", POSTS)
def test_every_change_needs_the_pages_secret(pages: Pages, record: Record, path: str) -> None:
    where = path.format(run_id=record.first.id, job_id="x", model_id="x", sha256="x")
    for body in (b"", b"csrf=", b"csrf=wrong&run=x"):
        assert pages.ask("POST", where, body, content_type="application/x-www-form-urlencoded").status == 403
    assert (
        pages.ask("POST", where, b"\x08", content_type="application/octet-stream", x_csrf_token="wrong").status == 403
    )


@pytest.mark.parametrize("path", POSTS)
def test_no_change_by_get_or_by_another_kind_of_body(pages: Pages, record: Record, path: str) -> None:
    where = path.format(run_id=record.first.id, job_id="x", model_id="x", sha256="x")
    if path not in GETS:
        assert pages.get(where).status in (404, 405)
    assert pages.post(where, content_type="text/plain").status == 415
    assert pages.post(where, content_type="multipart/form-data; boundary=x").status == 415
    assert pages.ask("DELETE", where).status == 405


def test_form_that_is_too_large(pages: Pages) -> None:
    body = b"csrf=x&new_tag=" + b"a" * (MAX_FORM_BYTES + 1)
    assert pages.ask("POST", "/runs/tag", body, content_type="application/x-www-form-urlencoded").status == 413


def test_form_that_is_no_text(pages: Pages) -> None:
    assert (
        pages.ask("POST", "/runs/tag", b"csrf=\xff\xfe", content_type="application/x-www-form-urlencoded").status == 400
    )
    many = b"&".join(b"a=1" for _ in range(30_000))
    assert pages.ask("POST", "/runs/tag", many, content_type="application/x-www-form-urlencoded").status == 400


@pytest.mark.parametrize("path", ["/runs", "/runs.json", "/nothing", "/static/ui.css", "/login", "/runs/x"])
def test_headers_of_every_answer(pages: Pages, path: str) -> None:
    headers = pages.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers or "edgewright" not in headers["server"]


@pytest.mark.parametrize(
    "path",
    [
        "/static/../ui.css",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/vendored.json",
        "/runs/..%2f..%2fetc",
        "/runs/x/files/..%2f..%2f..%2fetc%2fpasswd",
        "/models/..%2fetc",
        "/work/..%2fx",
        "//etc/passwd",
        "/static/",
    ],
)
def test_no_path_of_a_request_reaches_the_file_system(pages: Pages, path: str) -> None:
    assert pages.get(path).status == 404


def test_every_stored_text_is_escaped(pages: Pages, store: Store) -> None:
    one, other = make_run(text=SCRIPT), make_run(text=SCRIPT, seed=1)
    store.record([one, other])
    model_id = one.model.sha256 if one.model else ""
    for path in (
        "/runs",
        f"/runs/{one.id}",
        f"/runs/{one.id}?group=module",
        f"/compare?run={one.id}&run={other.id}",
        "/models",
        f"/models/{model_id}",
        "/devices",
        "/work",
        f"/work?model={SCRIPT[:8]}",
        "/runs?text=%3Cscript%3E",
        f"/runs/{one.id}/report.html",
        f"/compare/report.html?run={one.id}&run={other.id}",
        "/nothing%3Cscript%3E",
        "/runs/%3Cscript%3Ealert(1)",
        "/runs?since=%3Cscript%3E",
    ):
        text = pages.get(path).text
        assert "<script>alert" not in text, path
        assert "<img" not in text, path
        assert not re.search(r"<[^>]*\son\w+=", re.sub(r'"[^"]*"', '""', text)), path


def test_no_inline_script_or_style_and_no_foreign_address(pages: Pages, record: Record) -> None:
    for path in (
        "/runs",
        f"/runs/{record.first.id}",
        "/models",
        "/devices",
        "/work",
        "/login",
        f"/compare?run={record.first.id}&run={record.second.id}",
    ):
        text = pages.get(path).text
        assert not re.search(r"<script(?![^>]*\ssrc=\"/static/)", text), path
        assert not re.search(r"<style|\sstyle=|javascript:|\son[a-z]+=\"", text), path
        assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", text), path


def test_a_spreadsheet_runs_nothing(pages: Pages, store: Store) -> None:
    store.record([make_run(text="", model=None, runtime="=HYPERLINK(1)")])
    assert ",'=HYPERLINK(1)," in pages.get("/runs.csv").text


def test_key_is_needed_beyond_loopback(locked: Pages) -> None:
    fill(locked.store)
    assert locked.get("/runs.json").status == 401
    assert locked.get("/events").status == 401
    assert locked.get("/runs", accept="text/html").headers["location"] == "/login"
    assert locked.get("/runs.json", cookie="edgewright-key=wrong").status == 401
    assert locked.get("/login").status == 200
    assert locked.get("/static/ui.css").status == 200
    assert locked.get("/runs.json", cookie=f"edgewright-key={KEY}").status == 200


def test_login_sets_a_cookie_that_script_cannot_read(locked: Pages) -> None:
    assert locked.post("/login", [("key", "wrong")]).headers["location"] == "/login?wrong"
    answer = locked.post("/login", [("key", KEY)])
    cookie = answer.headers["set-cookie"]
    assert answer.headers["location"] == "/runs"
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert "The key is not correct" in locked.get("/login?wrong").text


def test_hosts_beyond_loopback(locked: Pages) -> None:
    for host, status in (("192.168.1.5:80", 401), ("desk", 401), ("evil.example", 421)):
        assert locked.get("/runs.json", host=host).status == status


def test_the_key_is_shown_once_and_stored_as_a_hash(tmp_path: Path) -> None:
    digest, key = load_key(tmp_path)
    assert sha256(key.encode()).hexdigest() == digest
    kept = (tmp_path / "ui-key.sha256").read_text()
    assert key not in kept
    assert (tmp_path / "ui-key.sha256").stat().st_mode & 0o077 == 0
    assert load_key(tmp_path) == (digest, "")
    renewed, again = load_key(tmp_path, renew=True)
    assert again != key
    assert renewed != digest


def test_half_a_request_does_not_stop_the_others(pages: Pages, record: Record) -> None:
    with socket.create_connection(("127.0.0.1", pages.port), timeout=5) as idle:
        idle.sendall(
            b"POST /runs/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\ncsrf="
        )
        assert pages.get("/runs").status == 200


@pytest.mark.parametrize("coded", [False, True], ids=["length", "chunked"])
def test_a_form_that_is_cut_off_is_not_carried_out(pages: Pages, record: Record, coded: bool) -> None:
    body = f"csrf={pages.csrf}&run={record.first.id}&new_tag=cut%3Dhalf-of-the-val".encode()
    length = b"Transfer-Encoding: chunked" if coded else b"Content-Length: 4000"
    head = b"POST /runs/tag HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    with socket.create_connection(("127.0.0.1", pages.port), timeout=30) as cut:
        cut.sendall(head + length + b"\r\n\r\n" + (b"%x\r\n%s\r\n" % (len(body), body) if coded else body))
        cut.shutdown(socket.SHUT_WR)
        while cut.recv(1000):  # until the server closes the connection
            pass
    assert pages.get("/runs").status == 200
    assert pages.store.load(record.first.id).tags == record.first.tags


def test_an_upload_that_is_cut_off_leaves_nothing(pages: Pages, capfd: pytest.CaptureFixture[str]) -> None:
    head = f"POST /models/upload?name=a.onnx HTTP/1.1\r\nHost: localhost\r\nX-CSRF-Token: {pages.csrf}\r\n"
    kind = "Content-Type: application/octet-stream\r\nContent-Length: 4000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", pages.port), timeout=30) as cut:
        cut.sendall((head + kind).encode() + b"half a model")
        cut.shutdown(socket.SHUT_WR)
        while cut.recv(1000):
            pass
    wait_for(lambda: not any(pages.app_state.upload_folder.iterdir()))
    assert pages.get("/runs").status == 200
    assert pages.app_state.uploads == {}
    assert "Traceback" not in capfd.readouterr().err
