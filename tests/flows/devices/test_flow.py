"""Adding, listing, checking, setting up and removing a board."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgewright.cli.app import run
from tests.devices.conftest import bundle_home, offline_pip, server, shared_server, wheels
from tests.devices.ssh_server import SshServer, wait_until

__all__ = ["bundle_home", "offline_pip", "server", "shared_server", "wheels"]


@pytest.fixture
def url(server: SshServer, bundle_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("EDGEWRIGHT_HOME", str(bundle_home))
    monkeypatch.setenv("HOME", str(bundle_home))
    yield f"ssh://root@127.0.0.1:{server.port}"


def test_from_add_to_remove(url: str, server: SshServer, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*words: str, code: int = 0) -> dict[str, Any]:
        assert run(["devices", *words]) == code
        out = capsys.readouterr().out
        found: dict[str, Any] = json.loads(out) if out.startswith("{") else {}
        return found

    key = str(server.folder / "user")
    added = call("add", "pi", url, "--key", key, "--json")
    assert (added["name"], added["kind"], added["state"]) == ("pi", "ssh", "ready")
    assert key not in json.dumps(added)
    assert call("add", "pi", url, "--key", key, code=2) == {}
    listed = call("list", "--json")
    assert listed["schema"] == "edgewright.devices/1"
    assert [(one["name"], one["kind"], one["state"]) for one in listed["devices"]] == [
        ("local", "local", "ready"),
        ("pi", "ssh", "ready"),
    ]
    assert {"soc", "memory", "kernel"} <= listed["devices"][1]["facts"].keys()
    checked = call("check", "pi", "--json")
    assert {"connection", "load", "storage", "clock"} <= {one["code"] for one in checked["checks"]}
    assert set(checked["checks"][0]) == {"code", "state", "text", "try"}
    assert call("setup", "pi", "--runtime", "pretend", "--json")["runtimes"].keys() == {"pretend"}
    assert run(["benchmark", "model.pretend", "--on", "pi"]) == 2  # the file does not exist
    server.stop()
    server.cut()
    failed = call("check", "pi", "--json", code=4)
    assert (failed["state"], failed["checks"][0]["state"]) == ("offline", "failed")
    assert call("show", "pi", "--json")["state"] == "offline"
    call("remove", "pi", code=4)
    server.start()
    call("remove", "pi")
    assert list(server.board.iterdir()) == []
    assert wait_until(lambda: not server.list_processes())
    call("show", "pi", code=4)


def test_what_cannot_be_added(url: str, server: SshServer, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a b", "a=b", "local", "$(id)"):
        assert run(["devices", "add", name, url]) == 2
    assert run(["devices", "add", "x", "http://board"]) == 2
    assert run(["devices", "add", "x", url, "--key", "/no/such/key"]) == 2
    assert run(["devices", "add", "x", url, "--key", str(server.folder / "other")]) == 4
    assert "does not accept the key" in capsys.readouterr().err
    assert run(["devices", "show", "x"]) == 4
