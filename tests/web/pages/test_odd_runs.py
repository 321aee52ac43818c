"""Runs with invalid values, which older versions imported, do not affect other runs."""

import hashlib
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edgewright.errors import StoreError
from edgewright.flows.benchmark.comparison import get_options
from edgewright.flows.benchmark.report import make_row
from edgewright.schema.run import Run, RunOutput, Series
from edgewright.store.store import Store
from edgewright.web.models.index import ModelTreeNode, load_model_index
from edgewright.web.models.pages import make_models_context
from edgewright.web.pages.comparison import make_compare_facts
from edgewright.web.pages.reports import render_comparison, render_one_file, render_run, write_site
from edgewright.web.server import responses
from tests.web.conftest import Pages
from tests.web.records import SCRIPT, make_model, make_run


def deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def with_series(run: Run, name: str, value: float) -> Run:
    found = tuple(replace(one, data=(value,) * len(one.data)) if one.name == name else one for one in run.series)
    return replace(run, series=found)


def odd_runs() -> dict[str, Run]:
    run = make_run(samples=40, layers=3)
    candidates = {"candidates": [{"options": [1]}]}
    return {
        "infinite counts": with_series(run, "wall.samples", math.inf),
        "negative counts": with_series(run, "chunk.samples", -1.0),
        "times of zero": with_series(run, "wall", 0.0),
        "tiny times": with_series(run, "wall", 5e-324),
        "huge times": with_series(run, "wall", 1e308),
        "infinite times": with_series(run, "wall", -math.inf),
        "threads": replace(run, plan={**run.plan, "threads": [1, 2]}),
        "many threads": replace(run, plan={**run.plan, "threads": 1e400}),
        "candidates": replace(run, plan=candidates),
        "no candidates": replace(run, plan={"candidates": {"a": 1}}),
        "shapes": replace(run, plan={**run.plan, "shapes": "x"}),
        "partitions": replace(
            run, metrics=(*run.metrics, replace(run.metrics[0], name="layers.partitions", value=math.inf))
        ),
        "features": replace(
            run, device=replace(run.device, facts={"features": 7, "model": [1]}) if run.device else None
        ),
        "deep": replace(run, plan=deep(900)),
        "other series": replace(run, series=(Series(name="wall.samples", unit="x", data=(math.nan,)),)),
    }


@pytest.mark.parametrize("kind", list(odd_runs()))
def test_a_page_shows_it_or_an_error(store: Store, kind: str) -> None:
    odd, good = odd_runs()[kind], make_run(seed=1, samples=40, layers=3)
    for runs in ([odd], [good, odd], [odd, good]):
        try:
            assert "<h1" in render_one_file(runs, store)
        except StoreError as error:
            assert "cannot be shown" in error.what
    make_row(replace(odd, layers=()))
    get_options(odd)


def test_names_that_hide_or_turn_what_follows(store: Store) -> None:
    run = make_run(samples=40, layers=3)
    assert run.model is not None
    name = "evil\u202e\u2066\u200bxnno.exe\u2028\x9b31m"
    layers = tuple(replace(layer, name=f"{name}{layer.name}", source_nodes=(name,)) for layer in run.layers)
    odd = replace(run, model=replace(run.model, name=name), layers=layers, tags={"note": name})
    page = render_one_file([odd], store)
    assert "evil\ufffd\ufffd\ufffdxnno.exe\ufffd\ufffd31m" in page
    assert not set(page) & set("\u202e\u2066\u200b\u2028\x9b")


def test_no_template_shows_text_that_hides_or_turns_what_follows() -> None:
    page = responses.load_templates().from_string("{{ name }} {{ name|breakable }} {{ name|unchanged }}")
    assert page.render(name="<a\u202e>") == "&lt;a\ufffd&gt; &lt;a\ufffd&gt; &lt;a\u202e&gt;"


def test_a_site_goes_on_with_the_other_runs(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd, good = make_run(samples=40, layers=3), make_run(seed=1, samples=40, layers=3)
    store.record([odd, good])
    plain = responses.render

    def render(template: str, links: Any, context: Any) -> str:
        if template == "run_report.html" and context["run"].id == odd.id:
            raise OverflowError("cannot convert float infinity to integer")
        return plain(template, links, context)

    monkeypatch.setattr("edgewright.web.pages.reports.render", render)
    write_site(tmp_path / "site", (), store)
    assert "cannot be shown" in (tmp_path / f"site/run-{odd.id}.html").read_text()
    assert "Median latency" in (tmp_path / f"site/run-{good.id}.html").read_text()


def test_a_fault_behind_a_page_is_logged(
    store: Store, pages: Pages, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Invalid values and bugs cause the same exception, so the server logs the traceback."""
    run = make_run(samples=40, layers=0)
    store.record([run])

    def fail(*_: Any) -> Any:
        raise AttributeError("no such figure")

    monkeypatch.setattr("edgewright.web.pages.run_detail.make_run_context", fail)
    answer = pages.ask("GET", f"/runs/{run.id}")
    assert "cannot be shown" in answer.text
    assert "no such figure" in caplog.text


def test_pages_say_where_a_run_comes_from(store: Store, tmp_path: Path) -> None:
    imported = replace(make_run(samples=40, layers=0), imported=True, imported_at="2026-11-30T10:00:00+00:00")
    old, own = replace(make_run(layers=0), imported=None), make_run(layers=0)
    store.record([imported, old, own])
    assert "imported" in render_run(store.load(imported.id), store)
    assert "origin unknown" in render_run(store.load(old.id), store)
    assert "imported" not in render_run(store.load(own.id), store)
    compared = render_comparison([store.load(run.id) for run in (own, imported, old)])
    assert [word in compared for word in (">origin<", ">this machine<", ">imported<", ">origin unknown<")] == [True] * 4
    assert ">origin<" not in render_comparison([store.load(own.id)] * 2)
    facts = make_compare_facts([store.load(run.id) for run in (own, imported, old)])
    assert facts["imported"] == {own.id: False, imported.id: True, old.id: None}
    write_site(tmp_path / "site", (), store)
    assert (tmp_path / "site/index.html").read_text().count(">imported<") == 1


def test_no_folder_and_no_script_in_reports(store: Store, tmp_path: Path) -> None:
    run = make_run(samples=40, layers=3, text=SCRIPT)
    variables = {"variables": {"OMP_TOOL_LIBRARIES": "/home/alice/tool.so"}}
    run = replace(run, environment=variables, error="/home/alice/m.onnx is broken", imported=True)
    store.record([run])
    write_site(tmp_path / "site", (), store)
    texts = [path.read_text() for path in (tmp_path / "site").iterdir()]
    assert not any("alice" in text for text in texts)
    pages = [path.read_text() for path in (tmp_path / "site").glob("*.html")]
    assert not any("<script>" in page or "<img src=x" in page for page in pages)


def test_an_imported_run_of_the_future_replaces_no_local_run(store: Store) -> None:
    own = make_run(samples=40, layers=0, middle_us=1_000.0)
    assert own.device is not None
    theirs = replace(
        make_run(samples=40, layers=0, middle_us=1.0),
        started_at="2099-01-01T00:00:00+00:00",
        finished_at="2099-01-01T00:00:01+00:00",
        device=replace(own.device, facts={"model": "another"}),
        imported=True,
        imported_at="2026-11-20T00:00:00+00:00",
    )
    store.record([theirs])
    store.record([own])
    (device,) = store.list_devices()
    assert device.facts == own.device.facts
    (row,) = load_model_index(store).benchmarks.values()
    assert row.id == own.id


def test_many_ways_to_a_model_do_not_multiply_the_tree(store: Store) -> None:
    """Two models in each generation, each made from both of the one before: 2 ** 12 ways to the last."""
    generations = [[hashlib.sha256(f"{place}{side}".encode()).hexdigest() for side in "ab"] for place in range(13)]
    for parents, children in itertools.pairwise(generations):
        for name in parents:
            outputs = tuple(RunOutput(role=f"artifact:{one}", sha256=one, bytes=1, model_id=one) for one in children)
            store.record(
                [replace(make_run(samples=1, layers=0, model=replace(make_model(), sha256=name)), outputs=outputs)]
            )
    for name in generations[-1]:
        store.record([make_run(samples=1, layers=0, model=replace(make_model(), sha256=name))])

    def count(nodes: Sequence[ModelTreeNode]) -> int:
        return sum(1 + count(node.children) for node in nodes)

    trees = [one for one in make_models_context(store, {})["tree"] if one.model.id in generations[0]]
    assert len(trees) == 2
    assert count(trees) <= 2 * (1 + 4 * len(generations))
