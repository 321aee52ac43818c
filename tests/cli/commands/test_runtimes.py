"""`edgewright runtimes`: output, messages and errors."""

from pathlib import Path

import msgspec
import pytest

from edgewright.errors import Cancelled
from edgewright.flows.environments import flow as flow
from edgewright.runtimes.environments import (
    ENVIRONMENTS,
    RECORD,
    EnvironmentRecord,
    EnvironmentStatus,
    environment_path,
    examine_environment,
    get_python_path,
    lock_hash,
)
from tests.cli.calling import Call


def plant(home: Path, name: str = "mnn", conflicts: tuple[str, ...] = ()) -> EnvironmentStatus:
    """Create a folder that looks like a complete environment."""
    folder = home / "environments"
    path = environment_path(folder, name)
    get_python_path(path).parent.mkdir(parents=True)
    get_python_path(path).touch()
    record = EnvironmentRecord(
        name=name,
        lock=lock_hash(name),
        python="3.11.7",
        made_at="2026-11-21T10:00:00+00:00",
        bytes=188_000_000,
        packages={"MNN": "3.6.1"},
        conflicts=conflicts,
    )
    (path / RECORD).write_bytes(msgspec.json.encode(record))
    return examine_environment(folder, name)


def test_the_list_shows_purpose_and_state(call: Call, own_home: Path) -> None:
    standing = plant(own_home)
    result = call("runtimes", "list")
    rows = {row["name"]: row for row in result.rows()}
    assert (result.code, list(rows)) == (0, [*ENVIRONMENTS, "web"])
    assert rows["mnn"]["state"] == "ready" and rows["mnn"]["path"] == str(standing.path)
    assert rows["mnn"]["size"] == "188 MB"
    assert rows["onnx2tf"]["state"] == "absent" and rows["onnx2tf"]["size"].startswith("about ")
    assert rows["onnx2tf"]["runtime"] == "litert"


def test_the_list_as_json(call: Call, own_home: Path) -> None:
    plant(own_home)
    result = call("runtimes", "list", "--json").json()
    assert result["schema"] == "edgewright.environments/1"
    by_name = {one["name"]: one for one in result["environments"]}
    assert list(by_name) == [*ENVIRONMENTS, "web"]
    assert by_name["mnn"]["lock"] == lock_hash("mnn")
    assert (by_name["mnn"]["bytes"], by_name["mnn"]["python"]) == (188_000_000, "3.11.7")
    assert (by_name["ncnn"]["state"], by_name["ncnn"]["bytes"]) == ("absent", None)


def test_nothing_is_made_by_looking(call: Call, own_home: Path) -> None:
    call("runtimes", "list")
    assert not (own_home / "environments").exists()


@pytest.mark.parametrize("words", [("setup", "nonsense"), ("remove", "nonsense")])
def test_an_unknown_name_lists_the_known_ones(call: Call, own_home: Path, words: tuple[str, str]) -> None:
    result = call("runtimes", *words)
    what, why, _ = result.error()
    assert result.code == 2
    assert "nonsense" in what and "litert-torch" in why
    assert not (own_home / "environments").exists()


def test_setup_prints_packages_and_size_without_a_question(
    call: Call, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def set_up(folder: Path, name: str, progress: flow.Progress) -> EnvironmentStatus:
        progress(f"{name}: creating the environment")
        return plant(own_home, name, conflicts=("a 1 requires b",))

    monkeypatch.setattr(flow, "set_up_environment", set_up)
    result = call("runtimes", "setup", "mnn")
    first, second, *rest = result.err.splitlines()
    assert result.code == 0
    assert first.startswith("mnn (MNN and its converter): ") and "about 250 MB" in first
    assert str(environment_path(own_home / "environments", "mnn")) in first
    assert second == "mnn: creating the environment"
    assert rest == ["Warning: pip check: a 1 requires b", "Ready: mnn, 188 MB."]
    assert result.out == f"{environment_path(own_home / 'environments', 'mnn')}\n"


def test_setup_as_json_prints_the_record(call: Call, own_home: Path) -> None:
    standing = plant(own_home)
    result = call("runtimes", "setup", "mnn", "--json")
    assert result.code == 0
    assert result.json()["schema"] == "edgewright.environment/1"
    assert msgspec.convert(result.json(), EnvironmentRecord) == standing.record


def test_an_interrupted_setup_is_reported(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def set_up(folder: Path, name: str, progress: flow.Progress) -> EnvironmentStatus:
        raise Cancelled("mnn was not set up", "stopped by Ctrl-C; nothing of it is left", "again")

    monkeypatch.setattr(flow, "set_up_environment", set_up)
    result = call("runtimes", "setup", "mnn")
    assert (result.code, result.error()[0], result.out) == (130, "mnn was not set up", "")


def test_remove(call: Call, own_home: Path) -> None:
    path = plant(own_home).path
    result = call("runtimes", "remove", "mnn")
    assert (result.code, result.out) == (0, f"{path}\n")
    assert not path.exists()
    again = call("runtimes", "remove", "mnn")
    assert (again.code, again.out, again.err) == (0, "", "mnn is not set up.\n")


def test_the_doctor_shows_it_and_takes_its_runtime_from_it(call: Call, own_home: Path) -> None:
    path = plant(own_home).path
    plant(own_home, "litert-torch").path.rename(own_home / "environments" / "litert-torch-0123456789ab")
    result = call("doctor", "--json").json()
    runtime = next(one for one in result["runtimes"] if one["name"] == "mnn")
    assert (runtime["usable"], runtime["version"], runtime["environment"]) == (True, "3.6.1", "mnn")
    assert (runtime["file"], runtime["missing"], runtime["remedy"]) == (str(path), [], "")
    mnn, torch = sorted(result["environments"], key=lambda one: str(one["name"]), reverse=True)
    assert (mnn["state"], mnn["bytes"], mnn["path"], mnn["remedy"]) == ("ready", 188_000_000, str(path), "")
    assert (torch["name"], torch["state"]) == ("litert-torch", "outdated")
    assert torch["remedy"] == "edgewright runtimes setup litert-torch"
    litert = next(one for one in result["runtimes"] if one["name"] == "litert")
    assert litert["environment"] == ""  # the environment of a converter does not belong to the runtime


def test_the_doctors_rows(call: Call, own_home: Path) -> None:
    path = plant(own_home).path
    lines = [line.split("\t") for line in call("doctor").out.splitlines()]
    assert ["mnn", "works 3.6.1 (isolated)", str(path), ""] in lines
    assert ["mnn", "ready 188 MB", str(path), ""] in lines
