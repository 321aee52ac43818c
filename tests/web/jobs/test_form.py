"""The form of a new job: sizes, errors by field, preview, estimated time; the progress of a running job."""

from pathlib import Path

import pytest

from edgewright.store.store import Store
from edgewright.web.jobs.estimate import UNKNOWN, estimate_benchmark, estimate_like_before
from edgewright.web.jobs.progress import ProcessProgress
from tests.web.conftest import Pages
from tests.web.records import MODEL_ID, Record, make_free_batch, measured


@pytest.fixture
def uploaded(pages: Pages) -> str:
    answer = pages.ask(
        "POST", "/models/upload?name=mine.onnx", make_free_batch().SerializeToString(),
        content_type="application/octet-stream", x_csrf_token=pages.csrf,
    ).json()  # fmt: skip
    assert answer["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["n", 4]}]
    return str(answer["upload"])


def test_a_free_batch_is_a_field_with_one(pages: Pages, uploaded: str) -> None:
    text = pages.get(f"/work?part=form&model={uploaded}").text
    assert "x: n × 4" in text
    assert 'name="size.x.0" value="1"' in text
    found = pages.get(f"/work/preview?kind=benchmark&model={uploaded}&filled=1&layers=on&size.x.0=3").json()
    assert (found["command"], found["errors"]) == ("edgewright benchmark mine.onnx --shape x=3,4", {})


@pytest.mark.parametrize(("size", "why"), [("0", "from 1 to"), ("many", "not a whole number"), ("9" * 9, "from 1 to")])
def test_a_size_that_is_none(pages: Pages, uploaded: str, size: str, why: str) -> None:
    errors = pages.get(f"/work/preview?model={uploaded}&size.x.0={size}").json()["errors"]
    assert list(errors) == ["size.x.0"]
    assert why in errors["size.x.0"]


def test_every_error_stands_at_its_field_and_values_are_kept(pages: Pages, record: Record) -> None:
    fields = [("kind", "benchmark"), ("filled", "1"), ("model", MODEL_ID), ("threads", "x"), ("seconds", "-1")]
    answer = pages.post("/work/start", fields)
    assert answer.status == 400
    assert 'data-error="threads">Threads: &#39;x&#39; is not valid' in answer.text
    assert 'data-error="seconds">Seconds: &#39;-1&#39; is not valid' in answer.text
    assert 'name="seconds" value="-1"' in answer.text
    assert f'value="{MODEL_ID}" checked' in answer.text
    assert pages.get("/work.json").json()["jobs"] == []


def test_a_new_form_has_the_defaults(pages: Pages) -> None:
    assert pages.get("/work/preview?kind=benchmark").json()["command"] == "edgewright benchmark MODEL"
    assert "--no-layers" in pages.get("/work/preview?kind=benchmark&filled=1").json()["command"]


def test_the_preview_names_the_command_and_the_time(pages: Pages, store: Store, tmp_path: Path) -> None:
    run = store.load(measured(store, tmp_path))
    assert run.model is not None
    query = f"kind=benchmark&model={run.model.sha256}&filled=1&layers=on&processes=15&seconds=1"
    found = pages.get(f"/work/preview?{query}").json()
    assert found["command"] == "edgewright benchmark m.pretend --seconds 1"
    assert found["estimate"].startswith("about ")
    assert found["estimate"].endswith("1 candidate × 15 processes")


def test_time_without_and_with_a_stored_session(store: Store, record: Record) -> None:
    assert estimate_like_before(store, "quantize", 1) == UNKNOWN
    assert estimate_like_before(store, "evaluate", 2) == "about 2 min 0 s, as before"
    assert estimate_benchmark(store, 2, 10, 0.5) == "about 30 s: 2 candidates × 10 processes"


def test_dots_of_a_job_come_from_its_log() -> None:
    progress = ProcessProgress()
    lines = (
        "a in r: process 1 of 3",
        "b in r: process 1 of 3",
        "a in r: process 1 of 3: median 12.5 µs",
        "a in r: layers",
    )
    assert [progress.read(line) for line in lines] == [False, False, True, False]
    assert (progress.finished, progress.total, progress.left_s) == (1, 6, None)
    assert progress.read("b in r: process 1 of 3: median 1.2e+06 µs")
    assert progress.medians == {"a in r": [12.5], "b in r": [1.2e6]}
    assert progress.left_s is not None
