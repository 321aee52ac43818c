"""What every store must do, whichever database is beneath.

Inherit `StoreContract` and give it a fixture `open_again` that opens the same, at first empty, record each time.
"""

import hashlib
import math
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edgewright.errors import RunNotFound, StoreError, UsageError
from edgewright.schema.devices import RegisteredDevice
from edgewright.schema.run import Metric, RunOutput, Series
from edgewright.store.exports.paths import strip_folders
from edgewright.store.runs.ids import new_run_id
from edgewright.store.runs.queries import RunFilter
from edgewright.store.store import KILLED, Store
from tests.contracts.sample_runs import (
    begun_run,
    finished_run,
    read_blob,
    sample_device,
    sample_layer,
    sample_model,
    saved_run,
)

OpenAgain = Callable[[], Store]


class StoreContract:
    """The suite. Every test gets its own empty record."""

    @pytest.fixture
    def store(self, open_again: OpenAgain) -> Store:
        return open_again()

    # Registered devices

    def test_registered_devices(self, store: Store, open_again: OpenAgain) -> None:
        pi = RegisteredDevice(name="pi", kind="ssh", address="ssh://pi", credential="/k", added_at="2026-01-01")
        web = RegisteredDevice(name="web", kind="browser", added_at="2026-01-02")
        store.add_device(web)
        store.add_device(pi)
        assert open_again().list_registered_devices() == [pi, web]
        with pytest.raises(UsageError, match="exists already"):
            store.add_device(replace(web, name="pi"))
        seen = replace(pi, facts={"memory": 8, "clusters": [{"cpus": [0, 1]}]}, seen_at="2026-01-03")
        store.update_device(seen)
        assert store.list_registered_devices() == [seen, web]
        assert store.forget_device("web")
        assert not store.forget_device("web")
        assert store.list_registered_devices() == [seen]

    # Runs

    def test_run_comes_back_whole(self, store: Store, open_again: OpenAgain) -> None:
        finished = saved_run(store)
        assert store.load(finished.id) == finished
        assert open_again().load(finished.id) == finished

    def test_run_that_was_never_begun_is_saved(self, store: Store) -> None:
        finished = finished_run(begun_run())
        store.finish(finished)
        assert store.load(finished.id) == finished

    def test_begun_run_is_running(self, store: Store) -> None:
        begun = begun_run()
        store.begin(replace(begun, state="queued"))
        assert store.load(begun.id) == begun

    def test_model_and_device_stay_as_the_run_saw_them(self, store: Store) -> None:
        first = saved_run(store)
        later_device = replace(sample_device(), facts={"cores": 4})
        later = replace(begun_run(5), model=replace(sample_model(), path="/else/m.onnx"), device=later_device)
        store.begin(later)
        assert store.load(first.id) == first
        assert store.load(later.id) == later

    def test_id_is_taken_once(self, store: Store) -> None:
        begun = begun_run()
        store.begin(begun)
        with pytest.raises(StoreError):
            store.begin(begun)

    def test_finished_run_never_changes(self, store: Store) -> None:
        finished = saved_run(store)
        with pytest.raises(ValueError, match="finished already"):
            store.finish(replace(finished, state="failed"))
        assert store.load(finished.id) == finished

    def test_only_finished_runs_are_finished(self, store: Store) -> None:
        with pytest.raises(ValueError, match="not finished"):
            store.finish(begun_run())
        with pytest.raises(ValueError, match="new_run_id"):
            store.begin(begun_run(run_id="../../etc"))

    def test_failing_transaction_leaves_nothing_half(self, store: Store) -> None:
        begun = begun_run()
        store.begin(begun)
        unstorable = RunOutput(role="last rows written", sha256="d" * 64, bytes=1 << 80)
        with pytest.raises(StoreError) as raised:
            store.finish(replace(finished_run(begun), outputs=(unstorable,)))
        assert store.load(begun.id) == begun
        assert "unsaved" in raised.value.try_this

    def test_record_takes_all_or_none(self, store: Store) -> None:
        runs = [finished_run(begun_run(minute)) for minute in range(3)]
        store.record(runs)
        assert len(store.list_runs()) == 3
        with pytest.raises(StoreError):
            store.record([finished_run(begun_run()), runs[0]])
        assert len(store.list_runs()) == 3

    def test_characters_no_database_holds_do_not_lose_a_run(self, store: Store) -> None:
        odd = replace(finished_run(begun_run()), error="nul \0 half \udc80", tags={"a\0": "b"})
        store.finish(odd)
        assert store.load(odd.id) == replace(odd, error="nul ␀ half ?", tags={"a␀": "b"})

    def test_numbers_that_are_not_finite(self, store: Store) -> None:
        data = (math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308)
        metric = Metric(name="speed", unit="x", value=math.nan, low=-math.inf, high=math.inf)
        layer = replace(sample_layer(0), median_us=math.nan)
        run = replace(
            finished_run(begun_run()),
            series=(Series(name="s", unit="us", data=data), Series(name="n", unit="us", data=(math.nan,))),
            metrics=(metric,),
            layers=(layer,),
        )
        store.finish(run)
        loaded = store.load(run.id)
        assert loaded.series[0].data == data
        assert math.copysign(1, loaded.series[0].data[2]) == -1
        assert math.isnan(loaded.series[1].data[0])
        assert loaded.metrics == (replace(metric, value=None),)
        assert math.isnan(loaded.layers[0].median_us)

    def test_names_may_be_long_and_repeat(self, store: Store) -> None:
        chance = random.Random(1)
        name = "".join(chr(chance.randrange(0x3400, 0x9FFF)) for _ in range(10_000))
        series = Series(name=name, unit=name, data=(1.0,))
        run = replace(
            finished_run(begun_run()),
            series=(series, replace(series, data=(2.0,))),
            metrics=(Metric(name=name, unit="us", value=1.0),) * 2,
            tags={name: name},
            note=name,
        )
        store.finish(run)
        assert store.load(run.id) == run
        assert store.load_series(run.id, name).data == (1.0,)

    def test_one_series(self, store: Store) -> None:
        finished = saved_run(store)
        assert store.load_series(finished.id, "latency") == finished.series[0]
        with pytest.raises(StoreError, match="no series energy: it has: latency, empty"):
            store.load_series(finished.id, "energy")

    # Ids

    def test_unique_beginning_is_enough(self, store: Store) -> None:
        first = finished_run(begun_run(run_id="01ARZ3NDEKTSV4RRFFQ69G5FAV"))
        second = finished_run(begun_run(run_id="01ARZ3NDEKTSV4RRFFQ69G5FBV"))
        store.record([first, second])
        assert store.load("01arz3ndektsv4rrffq69g5fb") == second
        with pytest.raises(RunNotFound, match="5FBV, 01ARZ3NDEKTSV4RRFFQ69G5FAV"):
            store.load("01ARZ3")

    @pytest.mark.parametrize("unknown", ["", "%", "_", "0", "01ARZ3NDEKTSV4RRFFQ69G5FAW", "'; DROP TABLE run; --"])
    def test_unknown_id(self, store: Store, unknown: str) -> None:
        store.record([finished_run(begun_run(run_id="7ZZZZZZZZZZZZZZZZZZZZZZZZZ"))])
        with pytest.raises(RunNotFound):
            store.load(unknown)

    def test_unknown_id_names_close_ones(self, store: Store) -> None:
        store.record([finished_run(begun_run(run_id="01ARZ3NDEKTSV4RRFFQ69G5FAV"))])
        with pytest.raises(RunNotFound, match="similar ids: 01ARZ3NDEKTSV4RRFFQ69G5FAV"):
            store.load("01ARZ3NDEKTSV4RRFFQ69G5FXV")

    # Lists

    def test_newest_first_and_limited(self, store: Store) -> None:
        runs = [saved_run(store, minute) for minute in (3, 1, 2)]
        newest_first = [runs[0].id, runs[2].id, runs[1].id]
        assert [row.id for row in store.list_runs()] == newest_first
        assert [row.id for row in store.list_runs(RunFilter(limit=2))] == newest_first[:2]

    def test_row_of_a_list(self, store: Store) -> None:
        finished = saved_run(store)
        (row,) = store.list_runs(RunFilter(metrics=("latency.p50", "absent")))
        assert (row.model_name, row.precision, row.device_name) == ("mobilenet_v2", "fp32", "this host")
        assert row.metrics == {"latency.p50": finished.metrics[0]}
        assert row.tags == finished.tags
        assert set(store.list_runs()[0].metrics) == {"latency.p50", "energy"}

    @pytest.mark.parametrize(
        "wanted",
        [
            RunFilter(model="OTHER"),
            RunFilter(model="other.onnx"),
            RunFilter(model="eeeeee"),
            RunFilter(runtime="TFLite"),
            RunFilter(device="id of phone"),
            RunFilter(device="PHONE"),
            RunFilter(tags={"branch": "main", "team": "b"}),
            RunFilter(state="failed"),
            RunFilter(kind="compile"),
            RunFilter(parent="01ARZ3NDEKTSV4RRFFQ69G5FAV"),
            RunFilter(since="2026-11-20T12:30"),
            RunFilter(since="2026-11-20T13:30:00+01:00", until="2026-11-21"),
            RunFilter(text="100% ODD"),
        ],
    )
    def test_filter(self, store: Store, wanted: RunFilter) -> None:
        first = finished_run(begun_run())
        other = replace(
            finished_run(begun_run(30)),
            model=sample_model("other.onnx", "e"),
            runtime="litert",
            device=sample_device("phone"),
            tags={"branch": "main", "team": "b"},
            state="failed",
            kind="compile",
            parent_id="01ARZ3NDEKTSV4RRFFQ69G5FAV",
            note="a 100% odd one",
        )
        store.record([first, other])
        if wanted.model == "OTHER":
            store.record([replace(first, id=new_run_id(), model=sample_model("another", "f"))])
        assert [row.id for row in store.list_runs(wanted)] == [other.id]

    def test_until_is_not_included(self, store: Store) -> None:
        first = saved_run(store, minute=0)
        saved_run(store, minute=30)
        assert [row.id for row in store.list_runs(RunFilter(until="2026-11-20T12:30"))] == [first.id]

    def test_no_date(self, store: Store) -> None:
        with pytest.raises(UsageError, match="yesterday is not a valid date"):
            store.list_runs(RunFilter(since="yesterday"))

    # Tags and notes

    def test_tags_and_note_change_at_any_time(self, store: Store) -> None:
        finished = saved_run(store)
        store.tag(finished.id, "branch", "dev")
        store.tag(finished.id, "new", "")
        store.untag(finished.id, "größe")
        store.untag(finished.id, "absent")
        store.note(finished.id[:26], "second try")
        changed = store.load(finished.id)
        assert changed == replace(finished, tags={"branch": "dev", "new": ""}, note="second try")

    def test_tags_given_while_running_stay(self, store: Store) -> None:
        begun = begun_run()
        store.begin(begun)
        store.tag(begun.id, "by", "another")
        store.tag(begun.id, "branch", "another")
        store.note(begun.id, "from another")
        store.finish(replace(finished_run(begun), note=""))
        loaded = store.load(begun.id)
        assert loaded.tags == {"by": "another", "branch": "main", "größe": "groß"}
        assert loaded.note == "from another"

    def test_tag_needs_a_name_and_a_run(self, store: Store) -> None:
        finished = saved_run(store)
        with pytest.raises(UsageError):
            store.tag(finished.id, " ", "x")
        with pytest.raises(RunNotFound):
            store.tag(new_run_id(), "x", "y")

    # Blobs and deletion

    def test_file_comes_back(self, store: Store, tmp_path: Path) -> None:
        source, target = tmp_path / "m.onnx", tmp_path / "back.onnx"
        source.write_bytes(random.Random(0).randbytes(20_000_000))
        output = store.put_file(new_run_id(), source, role="model", model_id="a" * 64)
        assert (output.role, output.bytes, output.model_id) == ("model", 20_000_000, "a" * 64)
        target.write_bytes(b"what was there")
        store.get_file(output.sha256, target)
        assert target.read_bytes() == source.read_bytes()
        with store.open_blob(output.sha256) as file:
            assert file.read(1000) == source.read_bytes()[:1000]
        assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []

    def test_empty_file(self, store: Store, tmp_path: Path) -> None:
        output = store.put_bytes(new_run_id(), b"", role="log")
        store.get_file(output.sha256, tmp_path / "log")
        assert (tmp_path / "log").read_bytes() == b""

    def test_absent_blob(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="missing"):
            store.get_file("0" * 64, tmp_path / "x")
        with pytest.raises(StoreError, match="hash is not valid"):
            store.open_blob("../" * 20 + "etc/passwd")
        with pytest.raises(StoreError, match="absent"):
            store.put_file(new_run_id(), tmp_path / "absent", role="model")
        assert list(tmp_path.glob("*x*")) == []

    def test_deleting_removes_what_no_run_uses(self, store: Store) -> None:
        first, second = begun_run(), begun_run()
        own = store.put_bytes(first.id, b"own", role="log")
        shared = store.put_bytes(first.id, b"shared", role="model")
        assert store.put_bytes(second.id, b"shared", role="model") == shared
        store.finish(replace(finished_run(first), outputs=(own, shared)))
        store.finish(replace(finished_run(second), outputs=(shared,)))
        store.delete([first.id])
        with pytest.raises(RunNotFound):
            store.load(first.id)
        assert store.blobs.size_bytes(own.sha256) is None
        assert read_blob(store, shared) == b"shared"
        store.delete([second.id])
        assert store.blobs.size_bytes(shared.sha256) is None
        assert store.list_runs() == []

    def test_deleting_spares_what_a_running_run_has_put(self, store: Store) -> None:
        old, running = begun_run(), begun_run()
        output = store.put_bytes(old.id, b"bytes", role="log")
        store.finish(replace(finished_run(old), outputs=(output,)))
        store.begin(running)
        store.put_bytes(running.id, b"bytes", role="log")
        store.delete([old.id])
        store.finish(replace(finished_run(running), outputs=(output,)))
        assert read_blob(store, output) == b"bytes"

    def test_deleting_is_all_or_nothing(self, store: Store) -> None:
        finished = saved_run(store)
        running = begun_run()
        store.begin(running)
        with pytest.raises(RunNotFound):
            store.delete([finished.id, new_run_id()])
        with pytest.raises(StoreError, match="is running"):
            store.delete([finished.id, running.id])
        assert store.load(finished.id) == finished
        store.delete([finished.id, running.id], even_running=True)
        assert store.list_runs() == []

    def test_deleting_beside_writers_loses_no_blob(self, store: Store) -> None:
        """Both store the same bytes again and again, and delete their own runs: none ever misses its blob."""

        def write_and_delete(seed: int) -> None:
            for round_ in range(15):
                begun = begun_run(round_)
                output = store.put_bytes(begun.id, b"the same bytes", role="model")
                store.finish(replace(finished_run(begun, seed), outputs=(output,)))
                assert read_blob(store, output) == b"the same bytes"
                store.delete([begun.id])

        with ThreadPoolExecutor(3) as pool:
            for done in [pool.submit(write_and_delete, seed) for seed in range(3)]:
                done.result()

    def test_threads_share_a_store(self, store: Store) -> None:
        with ThreadPoolExecutor(8) as pool:
            runs = list(pool.map(lambda minute: saved_run(store, minute), range(40)))
        assert len(store.list_runs()) == 40
        assert all(store.load(run.id) == run for run in runs)

    # Killed runs

    def test_run_of_a_store_that_is_gone_is_marked(self, store: Store, open_again: OpenAgain) -> None:
        begun = begun_run()
        store.begin(begun)
        assert open_again().load(begun.id).state == "running"
        store.close()
        marked = open_again().load(begun.id)
        assert (marked.state, marked.error) == ("failed", KILLED)
        assert marked.finished_at is not None

    def test_blob_of_a_store_that_is_gone_is_removed(self, store: Store, open_again: OpenAgain) -> None:
        orphan = store.put_bytes(new_run_id(), b"orphan", role="log")
        finished = saved_run(store)
        store.close()
        later = open_again()
        later.delete([finished.id])
        assert later.blobs.size_bytes(orphan.sha256) is None

    # Other machines

    def test_export_and_import(self, store: Store, tmp_path: Path) -> None:
        data = b"\x08model bytes"
        facts = replace(sample_model(), sha256=hashlib.sha256(data).hexdigest())
        begun = begun_run()
        candidate = {**begun.plan["candidates"][0], "model_sha256": facts.sha256}
        begun = replace(begun, model=facts, plan={**begun.plan, "candidates": [candidate]})
        model = store.put_bytes(begun.id, data, role="model")
        lost = RunOutput(role="inputs", sha256="9" * 64, bytes=7)
        finished = replace(finished_run(begun), outputs=(model, lost))
        store.finish(finished)
        assert store.export_run(begun.id[:26], tmp_path / "run") == [lost]
        assert (tmp_path / "run/artefacts/01-mobilenet_v2.onnx").read_bytes() == data
        assert store.import_run(tmp_path / "run") == begun.id
        store.delete([begun.id])
        assert store.import_run(tmp_path / "run") == begun.id
        back = store.load(begun.id)
        assert back.imported
        assert replace(back, imported=False, imported_at=None) == strip_folders(finished)
        assert read_blob(store, model) == data

    def test_import_of_another_run_with_the_same_id(self, store: Store, tmp_path: Path) -> None:
        finished = saved_run(store)
        store.export_run(finished.id, tmp_path / "run")
        store.note(finished.id, "a note is no difference")
        assert store.import_run(tmp_path / "run") == finished.id
        store.delete([finished.id])
        store.finish(replace(finished, runtime="litert"))
        with pytest.raises(StoreError, match="content differs"):
            store.import_run(tmp_path / "run")
        assert store.load(finished.id).runtime == "litert"

    def test_export_needs_a_finished_run_and_an_empty_folder(self, store: Store, tmp_path: Path) -> None:
        running = begun_run()
        store.begin(running)
        with pytest.raises(StoreError, match="it is running"):
            store.export_run(running.id, tmp_path / "new")
        finished = saved_run(store)
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "file").touch()
        with pytest.raises(StoreError, match="not empty"):
            store.export_run(finished.id, tmp_path / "full")
        (tmp_path / "empty").mkdir()
        store.export_run(finished.id, tmp_path / "empty")
        assert sorted(path.name for path in tmp_path.iterdir() if path.name != "home") == ["empty", "full"]

    # What the pages ask

    def test_sorting_paging_and_counting(self, store: Store) -> None:
        runs = [saved_run(store, minute) for minute in range(4)]
        slow = replace(runs[0], id=new_run_id(), metrics=(Metric(name="latency.p50", unit="us", value=9e3, n=1),))
        none = replace(runs[0], id=new_run_id(), metrics=(), runtime="a", tags={"board": "Desk 7"})
        store.record([slow, none])

        def ids(**wanted: Any) -> list[str]:
            return [row.id for row in store.list_runs(RunFilter(metrics=(), **wanted))]

        assert ids(sort="p50")[0] == slow.id
        assert ids(sort="p50")[-1] == none.id
        assert ids(sort="p50", ascending=True)[-2:] == [slow.id, none.id]
        assert ids(sort="runtime", ascending=True)[0] == none.id
        assert ids(sort="started", ascending=True)[:2] == [runs[0].id, slow.id]
        everything = ids()
        assert [*ids(limit=2), *ids(limit=2, offset=2), *ids(limit=9, offset=4)] == everything
        assert ids(without=tuple(everything[1:])) == everything[:1]
        assert ids(ids=(slow.id, none.id, "absent")) == sorted([slow.id, none.id], reverse=True)
        assert ids(text="desk 7") == ids(text=none.id.lower()) == [none.id]
        assert ids(precision="fp32", model_id="a" * 64) == everything
        assert ids(precision="w8a8") == ids(model_id="b" * 64) == []
        assert store.count_runs(RunFilter(limit=1)) == 6
        assert store.count_runs(RunFilter(runtime="a")) == 1

    def test_choices_models_links_and_devices(self, store: Store) -> None:
        first = saved_run(store)
        made = sample_model("made", "b")
        output = RunOutput(role="artifact:made", sha256="d" * 64, bytes=1, model_id=made.sha256)
        compiled = replace(first, id=new_run_id(), kind="compile", outputs=(output,))
        of_made = replace(first, id=new_run_id(), model=made, device=sample_device("phone"), outputs=())
        store.record([compiled, of_made])
        choices = store.list_choices()
        assert choices.model == (("mobilenet_v2", 2), ("made", 1))
        assert choices.kind == (("benchmark", 2), ("compile", 1))
        assert ("branch=main", 3) in choices.tag
        (link,) = store.list_links()
        assert (link.parent, link.child, link.run_id, link.kind) == ("a" * 64, "b" * 64, compiled.id, "compile")
        assert link.output == "artifact:made"
        models = {model.name: model for model in store.list_models()}
        assert (models["mobilenet_v2"].runs, models["made"].runs, models["made"].precision) == (2, 1, "fp32")
        assert not models["made"].has_file
        assert store.get_model_names(["b" * 64, "absent"]) == {"b" * 64: "made"}
        assert {device.name: device.runs for device in store.list_devices()} == {"this host": 2, "phone": 1}
        assert store.find_existing_ids([first.id, "absent"]) == {first.id}

    def test_what_runs_now(self, store: Store) -> None:
        begun = begun_run()
        store.begin(begun)
        assert store.list_running() == [(begun.id, "running")]
        assert store.list_devices()[0].running == 1
        store.finish(finished_run(begun))
        assert store.list_running() == []
