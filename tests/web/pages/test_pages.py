"""Every page and its JSON, on ordinary runs."""

import csv
import io
from importlib.util import find_spec
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgewright.schema.run import Metric, Series
from edgewright.store.runs.ids import new_run_id
from edgewright.store.store import Store
from edgewright.web.pages.comparison import make_figure_rows
from tests.web.conftest import Pages
from tests.web.records import MODEL_ID, Record, make_evaluation, make_run


@pytest.mark.parametrize("path", ["/activity", "/runs", "/models", "/devices", "/work"])
def test_page_and_json(pages: Pages, record: Record, path: str) -> None:
    page, json_page = pages.get(path), pages.get(f"{path}.json")
    assert (page.status, json_page.status) == (200, 200)
    assert page.headers["content-type"].startswith("text/html")
    assert f'href="{path}.json"' in page.text
    assert json_page.json()["schema"] == "edgewright.page/1"
    assert json_page.json()["page"] == path.strip("/")


@pytest.mark.parametrize("path", ["/activity", "/runs", "/models", "/devices", "/work"])
def test_empty_page_says_what_to_run(pages: Pages, path: str) -> None:
    assert "edgewright " in pages.get(path).text
    assert pages.get(f"{path}.json").status == 200


def test_the_root_redirects_to_the_models(pages: Pages) -> None:
    answer = pages.get("/")
    assert (answer.status, answer.headers["location"]) == (303, "/models")


def test_list_filters_sorts_and_counts(pages: Pages, record: Record) -> None:
    def ids(query: str) -> list[str]:
        return [row["id"] for row in pages.get(f"/runs.json?{query}").json()["runs"]]

    assert ids("runtime=litert&kind=benchmark") == [record.second.id]
    assert ids("device=phone") == [record.third.id]
    assert ids("precision=w8a8&kind=evaluate") == [record.evaluation.id]
    assert ids("kind=benchmark&sort=p50&order=up") == [record.second.id, record.first.id, record.third.id]
    assert ids("kind=benchmark&sort=p50") == [record.third.id, record.first.id, record.second.id]
    assert ids("text=phone") == [record.third.id]
    assert len(ids("tag=branch%3Dmain")) == 5
    assert ids("tag=branch%3Dother") == []
    assert pages.get("/runs.json?kind=benchmark").json()["total"] == 3
    assert "3 runs" in pages.get("/runs?kind=benchmark").text


def test_list_offers_what_there_is(pages: Pages, record: Record) -> None:
    choices = pages.get("/runs.json").json()["choices"]
    assert ["litert", 3] in choices["runtime"]
    assert ["branch=main", 5] in choices["tag"]
    assert '<option value="litert" selected>' in pages.get("/runs?runtime=litert").text


def test_a_date_that_is_none(pages: Pages, record: Record) -> None:
    answer = pages.get("/runs?since=tomorrow")
    assert answer.status == 400
    assert "is not a valid date" in answer.text


def test_part_for_htmx_is_the_list_alone(pages: Pages, record: Record) -> None:
    answer = pages.get("/runs?runtime=litert&text=", hx_request="true")
    assert answer.text.startswith('<section id="list"')
    assert 'data-address="/runs?runtime=litert"' in answer.text
    assert "<html" not in answer.text


def test_run_page(pages: Pages, record: Record) -> None:
    text = pages.get(f"/runs/{record.first.id}").text
    for words in (
        "Median latency",
        "1.00 ms",
        "0.99–1.01 ms",
        "Distribution",
        "Samples over time",
        "Temperature",
        "Cold start",
        "Memory",
        "Units",
        "Timeline",
        "Layers",
        "Warnings",
        "Lineage",
        "Files",
        "Repeat this run",
        f"edgewright runs rerun {record.first.id}",
        "Environment",
    ):
        assert words in text, words
    assert "unknown" in text  # energy without a sensor


def test_run_by_a_prefix_of_its_id(pages: Pages, record: Record) -> None:
    assert pages.get(f"/runs/{record.first.id.lower()}").status == 200


def test_run_json(pages: Pages, record: Record) -> None:
    result = pages.get(f"/runs/{record.second.id}.json").json()
    assert result["run"]["latency_us"]["p50"] == 500.0
    assert [row["id"] for row in result["lineage"]["session"]] == [record.first.id]
    assert result["lineage"]["from"][0]["model_id"] == MODEL_ID


def test_layers_are_filtered_grouped_and_sorted(pages: Pages, record: Record) -> None:
    part = pages.get(f"/runs/{record.first.id}?layer=conv1&group=op&sort=time", hx_request="true").text
    assert part.startswith('<section id="layers"')
    assert "layer 1<" in part
    assert "layer 4<" not in part
    assert pages.get(f"/runs/{record.first.id}?layer=nothing-has-this").text.count("No layer contains") == 1


def test_files_of_a_run_as_data(pages: Pages, record: Record) -> None:
    base = f"/runs/{record.first.id}"
    samples = pages.get(f"{base}/samples.json").json()
    assert samples["total"] == 200
    assert len(samples["data"]) == 200
    assert len(pages.get(f"{base}/timeline.json").json()["spans"]) == 12
    assert pages.get(f"{base}/record.json").json()["schema"] == "edgewright.run/1"
    assert pages.get(f"{base}/plan.json").json() == record.first.plan
    rows = list(csv.DictReader(io.StringIO(pages.get(f"{base}/layers.csv").text)))
    assert [row["name"] for row in rows] == [layer.name for layer in record.first.layers]
    series = list(csv.DictReader(io.StringIO(pages.get(f"{base}/samples.csv").text)))
    assert len(series) == 200 + 10 + 10 + 40


def test_comparison(pages: Pages, record: Record) -> None:
    query = f"run={record.first.id}&run={record.second.id}&run={record.third.id}"
    text = pages.get(f"/compare?{query}").text

    assert "2.01× faster" in text
    assert 'class="right faster"' in text
    result = pages.get(f"/compare.json?{query}").json()
    assert [one["verdict"] for one in result["comparisons"]] == ["faster", "no difference"]
    assert result["differences"] == []
    assert pages.get(f"/compare.csv?{query}").text.splitlines()[0].startswith("what,unit,")


def test_a_comparison_answers_first_and_says_how_the_ratio_was_measured(pages: Pages, record: Record) -> None:
    """The verdict of one session is paired by round: its ratio is not that of the two medians beside it."""
    query = f"run={record.first.id}&run={record.second.id}&run={record.third.id}"
    page, found = pages.get(f"/compare?{query}").text, pages.get(f"/compare.json?{query}").json()
    assert found["answer"] == (
        "Against Pretend (a runtime for tests) fp32: LiteRT w8a8 is 2.01× faster (2.00–2.01); "
        "no difference is shown to ONNX Runtime fp32."
    )
    assert page.index(found["answer"]) < page.index("<table")
    assert "paired over 10 rounds" in page
    assert "99% · other session" in page
    assert f'href="/compare?run={record.second.id}&amp;run={record.first.id}&amp;run={record.third.id}"' in page


def test_layers_of_two_runs_have_their_change_and_the_sum(pages: Pages, record: Record) -> None:
    page = pages.get(f"/compare?run={record.first.id}&run={record.second.id}&by=time").text
    assert "−5.00 µs" in page
    assert "sum of all layers" in page
    assert f'href="/compare?run={record.second.id}&amp;run={record.first.id}">Swap the reference' in page


@pytest.mark.parametrize("count", [0, 1, 9])
def test_comparison_of_too_few_or_too_many(pages: Pages, record: Record, count: int) -> None:
    query = "&".join(f"run={record.first.id[:10]}{place}" for place in range(count))
    assert pages.get(f"/compare?{query}").status == 400


def test_comparison_of_runs_without_samples(pages: Pages, record: Record) -> None:
    answer = pages.get(f"/compare?run={record.evaluation.id}&run={record.compiled.id}")
    assert answer.status == 200
    assert "no samples" in answer.text


def test_models_and_their_front(pages: Pages, record: Record) -> None:
    result = pages.get("/models.json").json()
    assert {model["name"] for model in result["models"]} == {"net.onnx", "net-litert.tflite"}
    (root,) = result["tree"]
    assert root["children"][0]["model"]["name"] == "net-litert.tflite"
    (point,) = result["points"]
    assert (point["quality"], point["latency_us"], point["best"]) == (0.98, 500.0, True)
    assert pages.get("/models.json?device=phone").json()["points"] == []
    page = pages.get("/models").text
    assert page.count('<svg class="whisker"') == 1  # a row for each family, not for each file
    assert "Ship LiteRT w8a8: 500 µs" in page


def test_figures_of_another_session_have_no_place_in_the_trade_off(pages: Pages, record: Record) -> None:
    """The file that was measured again alone, at another time, is gray and has neither a rank nor a point."""
    assert record.first.model is not None
    again = make_run(model=record.first.model, middle_us=1.0, runtime="mnn")
    quality = make_evaluation(record.first.model, "mnn", 0.99)
    pages.store.record([again, quality])
    found = pages.get(f"/models/{MODEL_ID}.json").json()
    ranks = {(cell["runtime"], cell["stale"]): cell["rank"] for cell in found["matrix"]}
    assert ranks == {("litert", False): 1, ("pretend", False): 2, ("mnn", True): None}
    assert [point["runtime"] for point in found["points"]] == ["litert"]
    page = pages.get(f"/models/{MODEL_ID}").text
    assert "other session" in page


def test_model_page(pages: Pages, record: Record) -> None:
    answer = pages.get(f"/models/{'b' * 64}")
    assert answer.status == 200
    assert "1 × 3 × 8 × width" in answer.text
    assert pages.get(f"/models/{'b' * 64}.json").json()["family"] == sorted([MODEL_ID, "b" * 64])
    assert pages.get("/models/none").status == 404


def test_devices(pages: Pages, record: Record) -> None:
    result = pages.get("/devices.json").json()
    assert {device["name"] for device in result["devices"]} == {"desk", "phone"}
    assert any(sum(run is not None for run in row["runs"]) for row in result["matrix"])


def test_figures_of_other_sessions_of_a_device_are_gray(pages: Pages, record: Record) -> None:
    assert record.first.model is not None
    alone = make_run(model=record.first.model, runtime="mnn", middle_us=1.0)  # by itself, on the device of two others
    pages.store.record([alone])
    matrix = pages.get("/devices.json").json()["matrix"]
    stale = {row["runtime"]: any(row["stale"]) for row in matrix}
    assert stale == {"pretend": False, "litert": False, "onnxruntime": False, "mnn": True}
    assert pages.get("/devices").text.count('title="measured in another session"') == 1


def test_the_page_of_an_evaluation_shows_task_data_and_errors(pages: Pages, record: Record) -> None:
    assert record.first.model is not None
    columns = {"sample.index": (0, 1), "sample.value": (1, 0), "sample.label": (3, 5), "sample.predicted": (3, 9)}
    series = tuple(Series(name=name, unit="1", data=tuple(map(float, data))) for name, data in columns.items())
    plan = {"task": {"name": "digits", "metric": "accuracy"}, "data": "/data/heldout.npz"}
    first = replace(make_evaluation(record.first.model, "onnxruntime", 0.5), series=series, plan=plan)
    right = (*series[:1], replace(series[1], data=(1.0, 1.0)), series[2], replace(series[3], data=(3.0, 5.0)))
    other = replace(make_evaluation(record.first.model, "litert", 1.0), series=right, plan=plan, parent_id=first.id)
    pages.store.record([first, other])
    page = pages.get(f"/runs/{first.id}").text
    for words in ("digits · heldout.npz · 2 samples · accuracy", "<td>9 (1×)</td>", "Confusion matrix"):
        assert words in page, words
    found = pages.get(f"/runs/{other.id}.json").json()["evaluation"]
    assert found["disagreement"] == {"lost": 0, "gained": 1, "common": 2}
    assert "<strong>1</strong> wrong there and right here" in pages.get(f"/runs/{other.id}").text


def test_tables_as_csv(pages: Pages, record: Record) -> None:
    def rows(path: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(pages.get(path).text)))

    (made,) = [row for row in rows("/models.csv") if row["name"] == "net-litert.tflite"]
    assert (made["runtime"], made["p50_us"], made["accuracy"]) == ("litert", "500.0", "0.98")
    (shared,) = [row for row in rows("/devices.csv") if row["runtime"] == "onnxruntime"]
    assert (shared["phone"], shared["desk"]) == ("1001.0", "")


def test_the_metric_of_a_task_is_shown_as_quality(pages: Pages, store: Store, record: Record) -> None:
    """`top1` is the default metric of a task; higher is better."""
    source, made = record.first.model, record.second.model
    assert source is not None
    assert made is not None
    good, bad = make_evaluation(source, "litert", 0.9, "top1"), make_evaluation(made, "litert", 0.5, "top1")
    store.record([good, bad])
    both = pages.get("/runs?kind=evaluate").text
    assert ">accuracy or top1</a>" in both
    assert "<small>top1</small>" in both
    alone = pages.get("/runs?kind=evaluate&text=net.onnx").text
    assert ">top1</a>" in alone
    assert "<small>top1</small>" not in alone
    (row,) = [row for row in csv.DictReader(io.StringIO(pages.get("/runs.csv").text)) if row["id"] == bad.id]
    assert (row["accuracy"], row["accuracy_metric"]) == ("0.5", "top1")
    assert "Top-1 accuracy" in pages.get(f"/runs/{bad.id}").text
    rows = {one.name: one for one in make_figure_rows([good, bad])}
    assert [cell.mark for cell in rows["top1"].cells] == ["", "slower"]
    assert rows["top1"].unit == "share"
    (point,) = pages.get(f"/models/{made.sha256}.json?quality=top1").json()["points"]
    assert point["quality"] == 0.5


def test_agreement_names_the_run_that_it_is_measured_against(record: Record) -> None:
    """Two models of one evaluation agree with its first one, not with the first of the comparison."""
    source, made = record.first.model, record.second.model
    assert source is not None
    assert made is not None
    plan = {"candidates": [{"model": "/models/made.tflite"}, {"model": "/models/source.onnx"}]}
    first = replace(make_evaluation(made, "litert", 0.9), plan=plan)
    agreement = Metric(name="agreement", unit="1", value=0.978, low=0.97, high=0.98, n=500)
    other = make_evaluation(source, "onnxruntime", 0.9)
    other = replace(other, plan=plan, parent_id=first.id, metrics=(*other.metrics, agreement))
    rows = {one.name: one for one in make_figure_rows([other, first])}
    assert rows["agreement"].title == "Agreement with made.tflite"
    assert [(cell.note, cell.mark) for cell in rows["agreement"].cells] == [("", ""), ("reference", "")]


def test_a_report_names_files_and_not_their_folders(pages: Pages, store: Store, record: Record) -> None:
    plan = {
        "source": "/home/ann/secret/net.onnx",
        "data": "/home/ann/secret/faces.zip",
        "eval_data": "secret/others.zip",
        "task": {"output": {"labels": "/home/ann/secret/labels.txt"}, "inputs": [{"name": "/secret-free/in"}]},
        "candidates": [{"model": "/home/ann/secret/a.tflite"}],
        "inputs": None,
    }
    one = replace(record.first, id=new_run_id(), plan=plan)
    store.record([one])
    for address in (f"/runs/{one.id}/report.html", f"/compare/report.html?run={one.id}&run={record.second.id}"):
        text = pages.get(address).text
        assert "secret/" not in text, address
        assert "faces.zip" in text
    assert "/secret-free/in" in pages.get(f"/runs/{one.id}/report.html").text
    assert "/home/ann/secret/faces.zip" in pages.get(f"/runs/{one.id}").text


def test_tag_note_and_untag(pages: Pages, record: Record) -> None:
    run_id = record.first.id
    assert pages.post(f"/runs/{run_id}/tag", [("new_tag", "board=desk=1")]).status == 303
    assert pages.post(f"/runs/{run_id}/tag", [("note", "before pruning")]).status == 303
    found = pages.store.load(run_id)
    assert (found.tags["board"], found.note) == ("desk=1", "before pruning")
    pages.post(f"/runs/{run_id}/tag", [("remove", "board")])
    assert "board" not in pages.store.load(run_id).tags
    assert pages.post(f"/runs/{run_id}/tag", [("new_tag", "=x")]).status == 400


def test_bulk_tag_goes_back_to_the_same_list(pages: Pages, record: Record) -> None:
    fields = [("run", record.first.id), ("run", record.third.id), ("new_tag", "keep=yes"), ("at.kind", "benchmark")]
    answer = pages.post("/runs/tag", fields)
    assert answer.headers["location"] == "/runs?kind=benchmark&done=2"
    assert [pages.store.load(run.id).tags.get("keep") for run in (record.first, record.second)] == ["yes", None]


def test_delete_and_undo(pages: Pages, record: Record) -> None:
    pages.post("/runs/delete", [("run", record.first.id)])
    listed = pages.get("/runs").text
    assert "1 run deleted" in listed
    assert f'data-run="{record.first.id}"' not in listed
    assert pages.get(f"/runs/{record.first.id}").status == 404
    answer = pages.post("/runs/undo", [("run", record.first.id), ("run", "01M00000000000000000000000")])
    assert "1 of 2 runs restored; the others were already deleted" in pages.get(answer.headers["location"]).text
    assert pages.get(f"/runs/{record.first.id}").status == 200


def test_compare_from_tick_marks(pages: Pages, record: Record) -> None:
    answer = pages.post("/runs/compare", [("run", record.first.id), ("run", record.second.id)])
    assert answer.headers["location"] == f"/compare?run={record.first.id}&run={record.second.id}"
    assert pages.post("/runs/compare").status == 400


def test_stored_file_of_a_run_and_of_no_other(pages: Pages, record: Record) -> None:
    (output,) = record.first.outputs
    answer = pages.get(f"/runs/{record.first.id}/files/{output.sha256}")
    assert (answer.status, answer.body) == (200, b"bytes of a model")
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''net.onnx"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert pages.get(f"/runs/{record.third.id}/files/{output.sha256}").status == 404


@pytest.fixture
def netron(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a fake package."""
    folder = tmp_path / "packages" / "netron"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "index.html").write_text('<meta name="version" content="9.9.9"><script src="index.js"></script>')
    (folder / "index.js").write_text("netron()")
    (folder / "server.py").write_text("secret")
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder


def test_graph_in_netron_reaches_nothing_but_us(pages: Pages, record: Record, netron: Path) -> None:
    base = f"/netron/{MODEL_ID}"
    assert f'href="{base}/"' in pages.get(f"/models/{MODEL_ID}").text
    page = pages.get(f"{base}/")
    assert 'content="0.0.0"' in page.text
    assert page.headers["set-cookie"].startswith("consent=1; Path=/netron/")
    assert 'name="file" content="data/net.onnx"' in page.text
    policy = page.headers["content-security-policy"]
    assert "connect-src 'self';" in policy
    assert "http" not in policy
    assert pages.get(f"{base}/index.js").text == "netron()"
    assert pages.get(f"{base}/data/net.onnx").body == b"bytes of a model"
    for name in ("server.py", "..%2fnetron%2findex.js", "data/other.onnx", "data/..%2f..%2fetc%2fpasswd"):
        assert pages.get(f"{base}/{name}").status == 404, name


def test_graph_without_netron(pages: Pages, record: Record) -> None:
    if find_spec("netron") is not None:
        pytest.skip("Netron is installed here")
    assert "/netron/" not in pages.get(f"/models/{MODEL_ID}").text
    answer = pages.get(f"/netron/{MODEL_ID}/")
    assert answer.status == 409
    assert "pip install netron" in answer.text


def test_unknown_page(pages: Pages) -> None:
    answer = pages.get("/nothing/here")
    assert answer.status == 404
    assert "page not found" in answer.text


def test_the_page_of_a_model_is_a_matrix_with_an_answer(pages: Pages, record: Record) -> None:
    model = record.first.model
    assert model is not None
    facts = pages.get(f"/models/{model.sha256}.json").json()
    assert facts["answer"].startswith("Ship ")
    first = facts["matrix"][0]
    assert {"runtime", "precision", "p50_us", "trust", "session", "rank", "stale"} <= first.keys()
    assert all(cell["rank"] is None for cell in facts["matrix"] if cell["stale"])
    page = pages.get(f"/models/{model.sha256}").text
    assert facts["answer"].split(":")[0] in page
    assert 'aria-label="trust: ' in page
