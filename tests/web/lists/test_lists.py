"""Sessions, search over everything, words of a filter, columns and saved views."""

import pytest
from msgspec.structs import replace

from edgewright.report.numbers import format_duration
from edgewright.schema.run import Metric
from edgewright.store.store import Store
from tests.web.conftest import Pages
from tests.web.records import MODEL_ID, Record, make_run


def test_a_session_is_one_row_with_its_runs_and_its_outcome(pages: Pages, store: Store, record: Record) -> None:
    step = replace(make_run(samples=0, layers=0), kind="compile", tags={"part-of": record.evaluation.id})
    store.record([step])
    result = pages.get("/activity.json").json()
    found = {one["id"]: one for one in result["sessions"]}
    assert result["total"] == len(found) == 4
    session = found[record.first.id]
    assert [run["id"] for run in session["runs"]] == [record.first.id, record.second.id]
    assert session["outcome"] == "fastest: LiteRT w8a8 500 µs"
    assert {run["id"] for run in found[record.evaluation.id]["runs"]} == {record.evaluation.id, step.id}
    assert (found[record.evaluation.id]["kind"], found[record.evaluation.id]["outcome"]) == (
        "evaluate",
        "accuracy 98.0%",
    )


def test_a_session_is_found_by_any_of_its_runs_and_shown_whole(pages: Pages, record: Record) -> None:
    result = pages.get("/activity.json?runtime=litert&kind=benchmark").json()
    assert [one["id"] for one in result["sessions"]] == [record.first.id]
    assert len(result["sessions"][0]["runs"]) == 2


def test_intervals_that_meet_are_not_told_apart(pages: Pages, store: Store) -> None:
    first = make_run(middle_us=100.0)
    p50 = Metric(name="latency.p50", unit="us", value=100.9, low=100.5, high=101.5, n=200)
    store.record([first, replace(make_run(parent=first.id, runtime="litert"), metrics=(p50,))])
    (session,) = pages.get("/activity.json").json()["sessions"]
    assert session["outcome"] == "fastest: Pretend (a runtime for tests) fp32 100 µs; no difference shown to 1 more"


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("net litert", {"model", "run"}),
        ("NET-litert.tflite", {"model", "run"}),
        (MODEL_ID[8:20], {"model"}),
        ("quantize", {"new"}),
        ("nothing-has-this", set()),
    ],
)
def test_search_finds_pages_models_and_runs(pages: Pages, record: Record, text: str, kinds: set[str]) -> None:
    found = pages.get(f"/find.json?text={text.replace(' ', '+')}").json()["found"]
    assert {one["kind"] for one in found} == kinds
    assert all(pages.get(one["address"]).status == 200 for one in found)


def test_search_finds_a_run_by_any_piece_of_its_id(pages: Pages, record: Record) -> None:
    (found,) = pages.get(f"/find.json?text={record.third.id[-7:].lower()}").json()["found"]
    assert found["address"] == f"/runs/{record.third.id}"


@pytest.mark.parametrize(
    ("text", "count"),
    [("net litert", 3), ("litert benchmark", 1), ("branch=main litert", 3), ("branch=other", 0), ("w8a8 evaluate", 1)],
)
def test_all_words_must_match(pages: Pages, record: Record, text: str, count: int) -> None:
    assert pages.get(f"/runs.json?text={text.replace(' ', '+').replace('=', '%3D')}").json()["total"] == count


def test_filters_are_chips_that_can_be_removed(pages: Pages, record: Record) -> None:
    text = pages.get("/runs?runtime=litert&kind=benchmark").text
    assert 'href="/runs?kind=benchmark" aria-label="Remove the filter Runtime"' in text


def test_columns_are_chosen_in_the_address(pages: Pages, record: Record) -> None:
    chosen = pages.get("/runs?columns=runtime&columns=memory&columns=odd").text
    assert 'class="c-memory"' in chosen
    assert 'class="c-cold"' not in chosen
    assert "columns=runtime+memory" in chosen  # the order of a column keeps them
    assert 'class="c-cold"' in pages.get("/runs").text


@pytest.mark.parametrize(
    ("sort", "unit"), [("cold", "cold_start"), ("memory", "memory.peak"), ("accuracy", "accuracy")]
)
def test_other_figures_sort_too(pages: Pages, store: Store, sort: str, unit: str) -> None:
    def having(value: float) -> str:
        run = replace(make_run(samples=0, layers=0), metrics=(Metric(name=unit, unit="1", value=value, n=1),))
        store.record([run])
        return run.id

    high, low = having(0.9), having(0.2)
    rows = pages.get(f"/runs.json?sort={sort}&order=up").json()["runs"]
    assert [row["id"] for row in rows] == [low, high]


def test_a_view_is_saved_and_removed(pages: Pages, record: Record) -> None:
    saved = pages.post("/runs/views", [("name", "fast <b>"), ("at.runtime", "litert"), ("at.columns", "runtime p50")])
    assert (saved.status, saved.headers["location"]) == (303, "/runs?runtime=litert&columns=runtime+p50")
    assert 'href="/runs?runtime=litert&amp;columns=runtime+p50">fast &lt;b&gt;</a>' in pages.get("/runs").text
    assert pages.post("/runs/views", [("name", " ")]).status == 400
    pages.post("/runs/views", [("remove", "fast <b>")])
    assert "fast &lt;b&gt;" not in pages.get("/runs").text


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.04, "2.0 s"), (59.4, "59 s"), (371, "6 min 11 s"), (7260, "2 h 1 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
