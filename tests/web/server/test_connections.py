"""Silent connections must not block other requests."""

import os
import resource
import socket
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest

from edgewright.store.store import open_store
from edgewright.web.server import connections
from tests.web.conftest import Pages

DESCRIPTORS = 128
SILENT = 150  # more than there are descriptors


def limit_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of descriptors is set as Linux has it")
def test_silent_connections_do_not_stop_the_pages(own_home: Path) -> None:
    with open_store(own_home):
        pass
    command = [sys.executable, "-m", "edgewright", "ui", "--no-open", "--port", "0"]
    environ = {**os.environ, "EDGEWRIGHT_HOME": str(own_home)}
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=limit_descriptors, text=True
    ) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline().rpartition(":")[2])
        silent = []
        try:
            for number in range(SILENT):
                silent.append(socket.create_connection(("127.0.0.1", port), timeout=30))
                silent[-1].sendall((b"", b"GET / HTTP/1.1\r\nX-", b"POST /runs/tag HTTP/1.1\r\n")[number % 3])
            for path in ("/runs", "/static/ui.css"):
                asked = HTTPConnection("127.0.0.1", port, timeout=30)
                asked.request("GET", path)
                assert asked.getresponse().status == 200
                asked.close()
        finally:
            for one in silent:
                one.close()
            server.terminate()
            said = server.communicate(timeout=50)[1]
    assert "Traceback" not in said
    assert len(said) < 1_000


def test_a_head_that_does_not_end_is_cut_off(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 0.05)
    for begun in (b"", b"GET / HTTP/1.1\r\nX-"):
        with socket.create_connection(("127.0.0.1", pages.port), timeout=30) as silent:
            silent.sendall(begun)
            assert silent.recv(100) == b""


def test_a_body_that_stops_is_cut_off(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BODY_TIMEOUT_S", 0.05)
    head = "POST /runs/tag HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    with socket.create_connection(("127.0.0.1", pages.port), timeout=30) as silent:
        silent.sendall(f"{head}Content-Length: 100\r\n\r\ncsrf=".encode())
        assert silent.recv(100) == b""


def test_too_many_requests_at_once_are_answered_so(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "count_allowed_connections", lambda: 2)
    streams = [HTTPConnection("127.0.0.1", pages.port, timeout=30) for _ in range(2)]
    try:
        for stream in streams:
            stream.request("GET", "/events")
            stream.getresponse()
        with socket.create_connection(("127.0.0.1", pages.port), timeout=30) as third:
            assert third.recv(100).startswith(b"HTTP/1.1 503 ")
    finally:
        for stream in streams:
            stream.close()
