"""Pages with a damaged store, a full disk or invalid user input."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgewright.errors import StoreError
from edgewright.store.store import Store, open_store
from edgewright.web.server.access import AccessRules
from tests.web.conftest import Pages, served
from tests.web.records import make_run, not_numbers

LONG = "n" * 10_000


def test_run_that_is_deleted_while_it_is_shown(pages: Pages) -> None:
    run = make_run()
    pages.store.record([run])
    assert pages.get(f"/runs/{run.id}").status == 200
    pages.store.delete([run.id])
    for path in (
        f"/runs/{run.id}",
        f"/runs/{run.id}.json",
        f"/runs/{run.id}/samples.json",
        f"/runs/{run.id}/report.html",
    ):
        assert pages.get(path).status == 404
    for action, fields in (("tag", [("new_tag", "a=b")]), ("rerun", [])):
        answer = pages.post(f"/runs/{run.id}/{action}", fields)
        assert answer.status == 404
        assert "no run has the id" in answer.text
    assert pages.post("/runs/delete", [("run", run.id)]).status == 400
    assert pages.get(f"/runs/{run.id}.json").json()["error"]["what"].startswith("no run has the id")


def test_run_with_no_layers_and_nothing_else(pages: Pages) -> None:
    bare = replace(
        make_run(layers=0), model=None, device=None, metrics=(), series=(), warnings=(), plan={}, environment={}
    )
    pages.store.record([bare])
    text = pages.get(f"/runs/{bare.id}").text
    assert "No layer times" in text
    assert pages.get("/runs").status == pages.get("/models").status == pages.get("/devices").status == 200
    for name in ("trace", "explorer", "samples", "timeline"):
        assert pages.get(f"/runs/{bare.id}/{name}.json").status == 200


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_failed_run_has_a_reason(pages: Pages, state: str) -> None:
    run = replace(make_run(layers=0), state=state, error="the worker was ended by SIGSEGV", series=(), metrics=())
    pages.store.record([run])
    assert "the worker was ended by SIGSEGV" in pages.get(f"/runs/{run.id}").text


def test_a_running_run_is_marked(pages: Pages) -> None:
    begun = replace(make_run(), series=(), metrics=(), layers=(), finished_at=None, state="running")
    pages.store.begin(begun)
    text = pages.get(f"/runs/{begun.id}").text
    assert "This run is running" in text
    answer = pages.post("/runs/delete", [("run", begun.id)])
    assert answer.status == 400
    assert "it is running" in answer.text
    pages.store.finish(replace(begun, state="cancelled", finished_at=begun.started_at))


def test_samples_that_are_not_numbers(pages: Pages) -> None:
    run, other = not_numbers(make_run()), make_run(seed=1)
    pages.store.record([run, other])
    text = pages.get(f"/runs/{run.id}").text
    assert "nan" not in text.lower().replace("nanosecond", "")
    assert "4 values that are not finite are omitted" in text
    assert pages.get(f"/runs/{run.id}/samples.json").json()["data"][0] is None
    for path in (
        "/runs",
        "/models",
        "/devices",
        f"/runs/{run.id}.json",
        f"/runs/{run.id}/trace.json",
        f"/compare?run={run.id}&run={other.id}",
        f"/compare.json?run={other.id}&run={run.id}",
    ):
        assert pages.get(path).status == 200, path


def test_names_of_ten_thousand_letters(pages: Pages) -> None:
    runs = [make_run(text=LONG, seed=seed) for seed in (1, 2)]
    pages.store.record(runs)
    for path in (
        "/runs",
        f"/runs/{runs[0].id}",
        f"/compare?run={runs[0].id}&run={runs[1].id}",
        "/models",
        "/devices",
        "/work",
    ):
        answer = pages.get(path)
        assert answer.status == 200
        assert len(answer.body) < 300_000  # values of choices and notes are not shortened, because a form sends them
    assert pages.get(f"/runs/{runs[0].id}.json").json()["tags"][f"branch{LONG}"] == f"main{LONG}"


def test_a_thousand_tags(pages: Pages) -> None:
    run = replace(make_run(), tags={f"tag{place}": str(place) for place in range(1_000)})
    pages.store.record([run])
    assert "988 more tags" in pages.get(f"/runs/{run.id}").text
    listed = pages.get("/runs").text
    assert "+997" in listed
    assert listed.count('class="tag"') < 10


def test_page_numbers_and_words_that_are_none(pages: Pages) -> None:
    for query in (
        "page=-1",
        "page=9999999",
        "page=x",
        "page=%C2%B2",
        "sort=nothing",
        "order=sideways",
        "state=lost",
        "tag=justname",
        "kind=%00",
        "model=%ff",
        f"text={LONG}",
        "unknown=1",
        "tag=%3D",
    ):
        assert pages.get(f"/runs?{query}").status == 200, query


def test_damaged_plan_and_environment(pages: Pages) -> None:
    run = replace(
        make_run(), plan={"candidates": "none", "threads": 1, "shapes": None}, environment={"a": [[1, {"b": None}], []]}
    )
    pages.store.record([run])
    assert pages.get(f"/runs/{run.id}").status == 200
    assert pages.post(f"/runs/{run.id}/rerun").status in (400, 500)


def test_database_of_a_newer_version(own_home: Path) -> None:
    with open_store(own_home) as store, store.database.writing("test") as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    done = run_ui(own_home, "--port", "0")
    assert done.returncode == 1
    assert "from a newer Edgewright" in done.stderr
    assert "Traceback" not in done.stderr


def run_ui(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgewright", "ui", "--no-open", *words]
    environ = {**os.environ, "EDGEWRIGHT_HOME": str(home)}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """Mount a separate disk that can be made read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a file system cannot be mounted here")
    return folder


def test_store_on_a_read_only_disk(small_disk: Path, tmp_path: Path) -> None:
    run = make_run()
    with open_store(small_disk / "home") as store:
        store.record([run])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    try:
        with open_store(small_disk / "home") as store, served(store, tmp_path / "uploads", AccessRules()) as pages:
            for path in ("/runs", f"/runs/{run.id}", "/models", "/devices"):
                assert pages.get(path).status == 200
            answer = pages.post(f"/runs/{run.id}/tag", [("new_tag", "a=b")])
            assert answer.status == 500
            assert "read-only" in answer.text
            pages.post("/runs/delete", [("run", run.id)])
    finally:
        subprocess.run(["umount", "-l", str(small_disk)], check=True)


def test_two_servers_on_one_port(own_home: Path, pages: Pages) -> None:
    done = run_ui(own_home, "--port", str(pages.port))
    assert done.returncode == 2
    assert f"port {pages.port} is in use" in done.stderr
    assert f"process {os.getpid()}" in done.stderr or sys.platform != "linux"
    assert "Try: --port " in done.stderr


def test_address_that_is_not_ours(own_home: Path) -> None:
    done = run_ui(own_home, "--host", "192.0.2.1", "--port", "0")
    assert done.returncode == 2
    assert "cannot listen on" in done.stderr


def test_the_server_prints_its_address_and_stops_by_a_signal(own_home: Path) -> None:
    command = [sys.executable, "-m", "edgewright", "ui", "--no-open", "--port", "0"]
    environ = {**os.environ, "EDGEWRIGHT_HOME": str(own_home)}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        _, result = process.communicate(timeout=60)
    assert "Traceback" not in result
    assert process.returncode in (0, 130)


def test_store_that_breaks_under_the_server(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Store, wanted: object = None) -> int:
        raise StoreError("the runs cannot be counted", "the disk is gone", "bring it back")

    monkeypatch.setattr(Store, "count_runs", broken)
    answer = pages.get("/runs")
    assert answer.status == 500
    assert "the disk is gone" in answer.text
    assert pages.get("/runs.json").json()["error"]["try_this"] == "bring it back"


def test_an_internal_error_page_has_no_internal_details(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Store, wanted: object = None) -> int:
        raise ZeroDivisionError("secret words")

    monkeypatch.setattr(Store, "count_runs", broken)
    answer = pages.get("/runs")
    assert answer.status == 500
    assert "ZeroDivisionError" in answer.text
    assert "secret words" not in answer.text
    assert "content-security-policy" in answer.headers
