"""`edgewright ui`: address, key and messages."""

import os
import socket
from pathlib import Path

import pytest

from edgewright.cli.commands.ui import make_access_rules, make_address
from edgewright.store.store import open_store
from tests.cli.calling import Call


def test_addresses() -> None:
    assert make_address("127.0.0.1", 8420) == "http://127.0.0.1:8420"
    assert make_address("::1", 1) == "http://[::1]:1"
    assert make_address("0.0.0.0", 1) == f"http://{socket.gethostname()}:1"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.9"])
def test_loopback_needs_no_key(own_home: Path, host: str, capfd: pytest.CaptureFixture[str]) -> None:
    with open_store(own_home) as store:
        assert make_access_rules(store, host, renew=False).key_hash == ""
    assert capfd.readouterr().err == ""


def test_the_key_is_shown_once(own_home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with open_store(own_home) as store:
        access_rules = make_access_rules(store, "0.0.0.0", renew=False)
        key = capfd.readouterr().err.partition("Key (shown once): ")[2].strip()
        assert access_rules.accepts_key(key)
        assert not access_rules.accepts_key("")
        again = make_access_rules(store, "0.0.0.0", renew=False)
        result = capfd.readouterr().err
        assert key not in result
        assert "is reachable from other machines" in result
        assert again.accepts_key(key)
        assert not make_access_rules(store, "0.0.0.0", renew=True).accepts_key(key)


def test_port_out_of_range(call: Call) -> None:
    assert call("ui", "--port", "70000").code == 2


def test_a_work_folder_that_is_none(call: Call, folder: Path) -> None:
    (folder / "file").write_text("words")
    for name in ("absent", "file"):
        result = call("ui", "--work-folder", name)
        assert result.code == 2
        assert "--work-folder" in result.err


def test_progress_prints_every_line_on_request(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("benchmark", "m.pretend", "--processes", "3", "--runs", "3", "--warmup-seconds", "0.01", "--no-layers")
    assert "process 3 of 3" not in call(*words).err
    monkeypatch.setenv("EDGEWRIGHT_PROGRESS", "all")
    assert "process 3 of 3" in call(*words).err


@pytest.mark.parametrize("allowed", [False, True])
def test_jobs_run_the_code_of_tasks_only_where_allowed(
    call: Call, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    monkeypatch.setenv("EDGEWRIGHT_EVALUATE_ALLOW_CODE", "0")
    monkeypatch.setenv("EDGEWRIGHT_QUANTIZE_ALLOW_CODE", "0")
    inherited: list[str] = []

    def serve(_store: object, server: socket.socket, *_: object) -> None:
        server.close()
        inherited.extend(os.environ[f"EDGEWRIGHT_{name}_ALLOW_CODE"] for name in ("EVALUATE", "QUANTIZE"))

    monkeypatch.setattr("edgewright.web.server.serving.serve", serve)
    assert call("ui", "--port", "0", "--no-open", *["--allow-code"] * allowed).code == 0
    assert inherited == ["1" if allowed else "0"] * 2
