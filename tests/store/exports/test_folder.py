"""Exported runs: every run survives the way out and back, and no hostile folder gets in."""

import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from edgewright.errors import ImportRejected, LimitReached, StoreError, StoreNewer
from edgewright.schema.run import Layer, Metric, Run, RunOutput, RunWarning, Series
from edgewright.store.blobs import hash_stream
from edgewright.store.exports.folder import read_folder, write_folder
from edgewright.store.exports.paths import strip_folders
from edgewright.store.exports.portable import from_json, to_json
from edgewright.store.runs.rows import normalize_run
from edgewright.store.store import Store
from tests.contracts.sample_runs import begun_run, finished_run, sample_layer
from tests.store.exports.forging import put_json, rewrite

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
LONG = st.builds(lambda piece: (piece * 10_000)[:10_000], TEXTS.filter(bool))
NAMES = st.one_of(TEXTS, LONG)
NUMBERS = st.floats(allow_nan=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
METRICS = st.builds(
    Metric,
    name=NAMES,
    unit=TEXTS,
    value=st.none() | NUMBERS,
    low=st.none() | NUMBERS,
    high=st.none() | NUMBERS,
    n=st.integers(0, 2**62),
)
SERIES = st.builds(Series, name=NAMES, unit=TEXTS, data=st.lists(st.floats(width=64), max_size=20).map(tuple))
LAYERS: st.SearchStrategy[Layer] = st.builds(
    lambda name, nodes, start, median: replace(
        sample_layer(3), name=name, source_nodes=tuple(nodes), start_us=start, median_us=median
    ),
    NAMES,
    st.lists(TEXTS, max_size=3),
    st.none() | NUMBERS,
    NUMBERS,
)
RUNS: st.SearchStrategy[Run] = st.builds(
    lambda **fields: replace(finished_run(begun_run()), outputs=(), **fields),
    kind=TEXTS,
    runtime=TEXTS,
    error=st.none() | NAMES,
    note=NAMES,
    plan=st.dictionaries(TEXTS, JSON, max_size=3),
    environment=st.dictionaries(TEXTS, JSON, max_size=3),
    metrics=st.lists(METRICS, max_size=3).map(tuple),
    series=st.lists(SERIES, max_size=3).map(tuple),
    layers=st.lists(LAYERS, max_size=3).map(tuple),
    warnings=st.lists(st.builds(RunWarning, code=TEXTS, text=NAMES), max_size=3).map(tuple),
    tags=st.dictionaries(NAMES, NAMES, max_size=3),
)
QUIET = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@QUIET
@given(run=RUNS)
def test_any_run_survives_the_database_and_the_folder(store: Store, tmp_path: Path, run: Run) -> None:
    folder = tmp_path / run.id
    run = normalize_run(strip_folders(run))
    store.finish(run)
    # Compared as JSON, since NaN is not equal to itself.
    assert to_json(store.load(run.id)) == to_json(run)
    store.export_run(run.id, folder)
    store.delete([run.id])
    assert store.import_run(folder) == run.id
    back = store.load(run.id)
    assert back.imported
    assert to_json(replace(back, imported=False, imported_at=None)) == to_json(run)
    assert store.import_run(folder) == run.id


@QUIET
@given(run=RUNS)
def test_json_is_lossless(run: Run) -> None:
    assert to_json(from_json(to_json(run))) == to_json(run)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An exported run with one artefact."""
    begun = begun_run()
    sha256 = hashlib.sha256(b"content").hexdigest()
    outputs = (replace(finished_run(begun).outputs[0], sha256=sha256, bytes=7),)

    def fetch(_: object, to: Path) -> bool:
        to.write_bytes(b"content")
        return True

    write_folder(replace(finished_run(begun), outputs=outputs), tmp_path / "run", fetch)
    return tmp_path / "run"


def test_folder_is_as_documented(folder: Path) -> None:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    assert names == ["SHA256SUMS", "artefacts", "artefacts/01-log", "run.json"]
    content = msgspec.json.decode((folder / "run.json").read_bytes())
    assert list(content) == ["schema", "run", "artefacts"]
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        sha256, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256


@pytest.mark.parametrize(
    "file",
    [
        "../secret",
        "/etc/passwd",
        "artefacts/../../secret",
        "artefacts/..",
        "artefacts/sub/file",
        "artefacts\\..\\secret",
        "artefacts/link",
        "artefacts/absent",
        "artefacts/\0",
        "",
    ],
)
def test_path_that_leaves_the_folder(folder: Path, file: str, store: Store) -> None:
    (folder.parent / "secret").write_bytes(b"content")
    (folder / "artefacts/link").symlink_to(folder.parent / "secret")
    (folder / "artefacts/sub").mkdir()
    (folder / "artefacts/sub/file").write_bytes(b"content")
    rewrite(folder, lambda content: content["artefacts"][0].update(file=file))
    with pytest.raises(StoreError, match="cannot be imported"):
        store.import_run(folder)
    assert store.list_runs() == []


def test_artifacts_that_are_a_link(folder: Path) -> None:
    shutil.move(folder / "artefacts", folder.parent / "outside")
    (folder / "artefacts").symlink_to(folder.parent / "outside")
    with pytest.raises(StoreError, match="not a file"):
        read_folder(folder)


@pytest.mark.parametrize(("place", "at"), [("run.json", 0), ("artefacts/01-log", 0), ("SHA256SUMS", -70)])
def test_changed_byte(folder: Path, place: str, at: int) -> None:
    data = bytearray((folder / place).read_bytes())
    data[at] ^= 1
    (folder / place).write_bytes(data)
    with pytest.raises(StoreError, match="cannot be imported"):
        read_folder(folder)


@pytest.mark.parametrize("place", ["run.json", "artefacts/01-log", "SHA256SUMS"])
@pytest.mark.parametrize("kind", ["absent", "directory", "fifo"])
def test_missing_file(folder: Path, place: str, kind: str) -> None:
    (folder / place).unlink()
    if kind == "directory":
        (folder / place).mkdir()
    if kind == "fifo":
        os.mkfifo(folder / place)
    with pytest.raises(StoreError, match="cannot be imported"):
        read_folder(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["run"].update(id="../../../etc/cron.d/x"),
        lambda content: content["run"].update(state="running"),
        lambda content: content["run"].update(state="won"),
        lambda content: content["run"].update(started_at="yesterday"),
        lambda content: content["run"].update(series=[{"name": "s", "unit": "us", "data": ["NaN"]}]),
        lambda content: content["run"].update(series=[[]], metrics={"a": 1}, layers=7),
        lambda content: content["run"].update(extra=1),
        lambda content: content.update(run=[]),
        lambda content: content["run"].update(plan={}),
        lambda content: content["run"].update(plan={"threads": 1}),
        lambda content: content["run"]["plan"].update(threads="x"),
        lambda content: content["run"]["plan"].update(unknown=1),
        lambda content: content["run"]["plan"].update(schema=1),
        lambda content: content["run"]["plan"].update(schema="edgewright.run/1"),
        lambda content: content["run"]["plan"].update(candidates=[]),
        lambda content: content["run"]["plan"].update(candidates=content["run"]["plan"]["candidates"] * 2),
        lambda content: content["run"]["environment"].update(packages=["numpy"]),
        lambda content: content["run"]["environment"].update(packages={"numpy": 2}),
        lambda content: content["run"]["environment"].update(packages=None),
        lambda content: content["run"].update(tags={"branch": 1}),
        lambda content: content["run"].update(tags=["branch"]),
        lambda content: content.update(extra=1),
        lambda content: content.update(artefacts=[]),
        lambda content: content["artefacts"][0].update(sha256="0" * 64),
        lambda content: content["artefacts"][0].update(bytes=8),
        lambda content: [part.update(sha256="../../x") for part in (content["artefacts"] + content["run"]["outputs"])],
        lambda content: content.update(schema="edgewright.plan/1"),
        lambda content: content.update(schema="edgewright.run/0"),
        lambda content: content.pop("schema"),
    ],
)
def test_run_that_is_none(folder: Path, change: Callable[[dict[str, Any]], object], store: Store) -> None:
    rewrite(folder, change)
    with pytest.raises(StoreError):
        store.import_run(folder)
    assert store.list_runs() == []


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[" * 100_000, b"null", b"\xff\xfe", b'{"schema": "edgewright.run/1", "run": {"id": "\\ud800"}}'],
)
def test_json_that_is_none(folder: Path, data: bytes) -> None:
    put_json(folder, data)
    with pytest.raises(StoreError, match="cannot be imported"):
        read_folder(folder)


def test_newer_schema(folder: Path) -> None:
    rewrite(folder, lambda content: content.update(schema="edgewright.run/2", what_we_do_not_know=1))
    with pytest.raises(StoreNewer, match=r"edgewright\.run/2"):
        read_folder(folder)


def test_newer_plan(folder: Path) -> None:
    rewrite(folder, lambda content: content["run"]["plan"].update(schema="edgewright.plan/2", what_we_do_not_know=1))
    with pytest.raises(StoreNewer, match=r"edgewright\.plan/2"):
        read_folder(folder)


def test_plan_of_another_kind_is_its_own_affair(folder: Path) -> None:
    rewrite(folder, lambda content: content["run"].update(kind="evaluate", plan={"threads": "x"}))
    assert read_folder(folder)[0].plan == {"threads": "x"}


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "change",
    [
        lambda run: run.update(plan={"a": nested(300)}, kind="evaluate"),
        lambda run: run.update(environment={"a": nested(40)}),
        lambda run: run["device"].update(facts={"cores": 10**30}),
        lambda run: run.update(series=[{"name": "wall.samples", "unit": "1", "data": ["inf", "inf"]}]),
        lambda run: run.update(series=[{"name": "chunk.samples", "unit": "1", "data": ["nan"]}]),
        lambda run: run.update(series=[{"name": "wall.samples", "unit": "1", "data": [-1.0]}]),
        lambda run: run.update(series=[{"name": "wall.samples", "unit": "1", "data": [0.5]}]),
        lambda run: run["layers"][0].update(position=2**40),
        lambda run: run["layers"][0].update(memory_bytes=-5),
        lambda run: run["metrics"][0].update(n=-1),
        lambda run: run["model"].update(bytes=2**70),
        lambda run: run["model"].update(name="../m.onnx"),
        lambda run: run["model"].update(data_files=["../weights"]),
        lambda run: run.update(finished_at="yesterday"),
        lambda run: run.update(started_at="0001-01-01T00:00:00+23:59"),
        lambda run: run.update(parent_id="../x"),
        lambda run: run["plan"]["candidates"][0].update(model_sha256="f" * 64),
    ],
)
def test_values_that_no_page_can_show(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    rewrite(folder, lambda content: change(content["run"]))
    with pytest.raises(ImportRejected) as caught:
        read_folder(folder)
    assert caught.value.exit_code == 2


def test_the_same_run_from_several_at_once(folder: Path, open_again: Callable[[], Store]) -> None:
    """Threads of several stores on one home: all get the id, and the run is there once."""
    stores = [open_again() for _ in range(4)]
    ready = threading.Barrier(len(stores))

    def take_in(store: Store) -> str:
        ready.wait(30)
        return store.import_run(folder)

    with ThreadPoolExecutor(len(stores)) as pool:
        ids = list(pool.map(take_in, stores))
    assert len(set(ids)) == 1
    (row,) = stores[0].list_runs()
    assert row.id == ids[0]


def test_another_import_and_a_deletion_meanwhile_lose_no_file(
    folder: Path, open_again: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that is there at the end has its files."""
    store, other, put = open_again(), open_again(), Store.put_file

    def put_and_wait(self: Store, run_id: str, path: Path, *, role: str) -> RunOutput:
        done = put(self, run_id, path, role=role)
        monkeypatch.setattr(Store, "put_file", put)
        other.delete([other.import_run(folder)])
        return done

    monkeypatch.setattr(Store, "put_file", put_and_wait)
    found = store.load(store.import_run(folder))
    assert found.outputs
    assert all(store.blobs.size_bytes(output.sha256) == output.bytes for output in found.outputs)


def test_a_figure_that_is_no_number_is_the_same_again(folder: Path, store: Store) -> None:
    rewrite(folder, lambda content: content["run"]["metrics"][0].update(value="nan", low="nan"))
    rewrite(folder, lambda content: content["run"]["layers"][0].update(median_us="nan", start_us="nan"))
    assert store.import_run(folder) == store.import_run(folder)


def test_a_zero_with_a_sign_is_the_same_again(folder: Path, store: Store) -> None:
    rewrite(folder, lambda content: content["run"]["metrics"][0].update(value=-0.0, low=-0.0))
    rewrite(folder, lambda content: content["run"]["layers"][0].update(median_us=-0.0, start_us=-0.0))
    assert store.import_run(folder) == store.import_run(folder)


def test_an_export_is_the_same_where_it_was_made(tmp_path: Path, store: Store) -> None:
    """Without its folders, and with a log that was changed for it."""
    begun = begun_run()
    store.begin(begun)
    log = store.put_bytes(begun.id, b'File "/home/alice/venv/lib/x.py", line 1', role="log")
    store.finish(replace(finished_run(begun), outputs=(log,), error="/home/alice/m.onnx is broken"))
    store.export_run(begun.id, tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file() and b"alice" in path.read_bytes()]
    assert store.import_run(tmp_path / "out") == begun.id
    assert not store.load(begun.id).imported


def test_a_large_run_names_the_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory is estimated from the file before it is read."""
    monkeypatch.setenv("EDGEWRIGHT_MEMORY_LIMIT", "16MB")
    rewrite(folder, lambda content: content["run"].update(series=[{"name": "w", "unit": "us", "data": [0] * 400_000}]))
    with pytest.raises(LimitReached) as reached:
        read_folder(folder)
    assert "EDGEWRIGHT_MEMORY_LIMIT" in reached.value.why + reached.value.try_this


def test_a_file_of_many_outputs_is_read_and_written_once(
    folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A megabyte of run.json would have a large file be read thousands of times, and exported as often."""

    def change(content: dict[str, Any]) -> None:
        for rows in (content["run"]["outputs"], content["artefacts"]):
            rows += [rows[0] | {"role": f"more{number}"} for number in range(50)]

    rewrite(folder, change)
    read: list[str] = []

    def hash_and_note(file: BinaryIO) -> tuple[str, int]:
        read.append(str(getattr(file, "name", "")))
        return hash_stream(file)

    for module in ("exports.folder", "store"):
        monkeypatch.setattr(f"edgewright.store.{module}.hash_stream", hash_and_note)
    run_id = store.import_run(folder)
    assert len(store.load(run_id).outputs) == 51
    assert sum(name.endswith("01-log") for name in read) == 2
    store.export_run(run_id, tmp_path / "again")
    assert len(list((tmp_path / "again/artefacts").iterdir())) == 2  # a log is text of ours, and may be changed
    assert len(read_folder(tmp_path / "again")[0].outputs) == 51


def test_numbers_too_large_for_the_tables(folder: Path, store: Store) -> None:
    rewrite(folder, lambda content: content["run"]["metrics"][0].update(n=2**63))
    with pytest.raises(StoreError):
        store.import_run(folder)
    assert store.list_runs() == []


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="folder does not exist"):
        read_folder(tmp_path / "absent")
