"""`edgewright runs` and `edgewright compare`."""

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edgewright.schema.run import RunOutput
from edgewright.store.runs.ids import new_run_id
from edgewright.store.store import open_store
from tests.cli.calling import QUICK, Call
from tests.models.onnx_files import write_conv_net
from tests.store.exports.forging import rewrite
from tests.web.records import make_model, make_run

UNKNOWN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest.fixture
def measure(call: Call) -> Callable[..., str]:
    """Measure `m.pretend`, and return the run's id."""

    def measure_once(*words: str) -> str:
        result = call("benchmark", "m.pretend", *QUICK, *words, "--json")
        assert result.code == 0, result.err
        found = result.json()["runs"][0]["run_id"]
        assert isinstance(found, str)
        return found

    return measure_once


# Lists


def test_an_empty_record(call: Call) -> None:
    result = call("runs", "list")
    assert (result.code, result.rows()) == (0, [])
    assert "No runs are stored." in result.err
    assert call("runs", "list", "--json").json() == {"schema": "edgewright.runs/1", "runs": []}


def test_lists_and_filters(call: Call, measure: Callable[..., str]) -> None:
    first, second = measure("--tag", "who=me"), measure("--on", "pretend")
    assert [row["run"] for row in call("runs", "list").rows()] == [second, first]
    for words, wanted in {
        ("--tag", "who=me"): [first],
        ("--device", "pretend"): [second],
        ("--device", "nowhere"): [],
        ("--model", "m"): [second, first],
        ("--model", "other"): [],
        ("--runtime", "Pretend"): [second, first],
        ("--runtime", "litert"): [],
        ("--state", "done"): [second, first],
        ("--state", "failed"): [],
        ("--since", "2001-01-01"): [second, first],
        ("--until", "2001-01-01"): [],
        ("--limit", "1"): [second],
        ("--text", "pretend"): [second, first],
        ("--text", "100%"): [],
    }.items():
        assert [row["run"] for row in call("runs", "list", *words).rows()] == wanted, words
    assert call("runs", "list", "--since", "yesterday").code == 2


def test_show(call: Call, measure: Callable[..., str]) -> None:
    run = measure("--layers", "--layer-runs", "2", "--tag", "who=me")
    result = call("runs", "show", run[:20])
    assert result.code == 0
    for words in (run, "m.pretend", "latency.p50", "who=me", "energy", "layer0", "pretend-npu"):
        assert words in result.out


def test_show_prints_outputs_and_lineage(call: Call, own_home: Path) -> None:
    source, pruned, small = make_model("net.py", "a"), make_model("net-pruned.onnx", "b"), make_model("q.onnx", "c")
    base = msgspec.structs.replace(make_run(samples=0, layers=0), kind="prune", series=(), metrics=())
    made = RunOutput(role="model", sha256="b" * 64, bytes=757_109, model_id=pruned.sha256)
    report = RunOutput(role="prune", sha256="d" * 64, bytes=9_000)
    first = msgspec.structs.replace(base, id=new_run_id(), model=source, outputs=(made, report))
    artifact = RunOutput(role="artifact:q.onnx", sha256="c" * 64, bytes=193_354, model_id=small.sha256)
    second = msgspec.structs.replace(base, id=new_run_id(), kind="quantize", model=pruned, outputs=(artifact,))
    third = msgspec.structs.replace(base, id=new_run_id(), kind="compile", model=small)
    with open_store(own_home) as store:
        store.record([first, second, third])
    result = call("runs", "show", first.id).out
    assert "model\t–\t757 kB\tbbbbbbbbbbbb" in result
    assert "prune\t–\t9.00 kB\tdddddddddddd" in result
    assert f"made into\tq.onnx\tcccccccccccc\tquantize\tpretend\tartifact:q.onnx\t{second.id}" in result
    assert "made from" not in result
    assert "artifact\tq.onnx\t193 kB\tcccccccccccc" in call("runs", "show", second.id).out
    lines = [line for line in call("runs", "show", third.id).out.splitlines() if line.startswith("made ")]
    assert lines == [
        f"made from\tnet-pruned.onnx\tbbbbbbbbbbbb\tquantize\tpretend\tartifact:q.onnx\t{second.id}",
        f"made from\tnet.py\taaaaaaaaaaaa\tprune\tpretend\tmodel\t{first.id}",
    ]
    lineage = call("runs", "show", third.id, "--json").json()["lineage"]
    assert [(one["model_id"][0], one["run_id"]) for one in lineage["made_from"]] == [("b", second.id), ("a", first.id)]
    assert lineage["made_into"] == []


@pytest.mark.parametrize("words", [("show",), ("export",), ("rerun",), ("tag",), ("delete", "--yes")])
def test_an_unknown_run(call: Call, words: tuple[str, ...]) -> None:
    more = ["folder"] if words[0] == "export" else ["a=b"] if words[0] == "tag" else []
    result = call("runs", words[0], UNKNOWN, *words[1:], *more)
    assert (result.code, result.out) == (2, "")
    assert UNKNOWN in result.error()[0]


# Changes


def test_tags_and_notes(call: Call, measure: Callable[..., str]) -> None:
    run = measure()
    assert call("runs", "tag", run, "who=me", "why=because", "--note", "as it was").code == 0
    assert call("runs", "tag", run, "who=you", "--remove", "why").code == 0
    assert call("runs", "list").rows()[0]["tags"] == "who=you"
    assert "as it was" in call("runs", "show", run).out
    assert call("runs", "tag", run, "nothing").code == 2


def test_nothing_is_deleted_without_a_word(call: Call, measure: Callable[..., str]) -> None:
    first, second = measure(), measure()
    result = call("runs", "delete", first)
    assert result.code == 2
    assert "--yes" in result.error()[2]
    assert call("runs", "delete", first, UNKNOWN, "--yes").code == 2
    assert len(call("runs", "list").rows()) == 2
    assert call("runs", "delete", first, "--yes").code == 0
    assert [row["run"] for row in call("runs", "list").rows()] == [second]


def test_export_and_import(
    call: Call, measure: Callable[..., str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = measure()
    before = call("runs", "show", run, "--json").json()
    result = call("runs", "export", run, folder / "out")
    assert (result.code, result.out.strip()) == (0, str(folder / "out"))
    assert call("runs", "export", run, folder / "out").code == 1  # it is not empty
    monkeypatch.setenv("EDGEWRIGHT_HOME", str(folder / "elsewhere"))
    assert call("runs", "import", folder / "out").out.strip() == run
    assert call("runs", "import", folder / "out").code == 0
    after = call("runs", "show", run, "--json").json()
    assert after["run"].pop("imported") is True
    assert after["run"].pop("imported_at") is not None
    assert before["run"].pop("imported") is False
    assert before["run"].pop("imported_at") is None
    name = Path(before["run"]["model"]["path"]).name
    before["run"]["model"]["path"] = before["run"]["plan"]["candidates"][0]["model"] = name  # exports have no folders
    assert after == before
    assert "benchmark (imported)" in call("runs", "list").out
    assert call("runs", "list", "--json").json()["runs"][0]["imported"] is True
    assert "imported" in call("runs", "show", run).out
    own = measure()
    assert [line for line in call("compare", own, run).err.splitlines() if "is imported" in line] == [
        f"{run} is imported: it was measured on another machine."
    ]


def test_import_of_what_is_no_export(call: Call, measure: Callable[..., str], folder: Path) -> None:
    """A rejected import has a reason and stores nothing."""
    run = measure()
    assert call("runs", "export", run, folder / "out").code == 0
    call("runs", "delete", run, "--yes")
    rewrite(folder / "out", lambda content: content["run"]["model"].update(sha256="a" * 64))
    result = call("runs", "import", folder / "out")
    assert result.code == 2
    assert "belongs to another model" in result.err
    assert call("runs", "list", "--json").json()["runs"] == []
    absent = call("runs", "import", folder / "absent")
    assert absent.code == 2
    assert "the folder does not exist" in absent.err
    (folder / "file").write_text("hello")
    assert "it is not a folder" in call("runs", "import", folder / "file").err


def test_rerun_after_the_model_is_gone(call: Call, measure: Callable[..., str], folder: Path) -> None:
    run = measure("--on", "pretend")
    (folder / "m.pretend").unlink()
    result = call("runs", "rerun", run, "--json")
    assert result.code == 0, result.err
    found = result.json()
    assert found["schema"] == "edgewright.rerun/1"
    assert [row["device"] for row in found["runs"]] == ["pretend", "pretend"]
    assert found["comparisons"][0]["a"] == run
    table = call("runs", "rerun", run)
    assert table.code == 0
    assert "inconclusive" in table.out
    assert call("runs", "rerun", run, "--on", "nowhere").code == 4


def test_a_rerun_of_a_failure_fails(call: Call, measure: Callable[..., str]) -> None:
    assert call("benchmark", "m.pretend", *QUICK, "-p", "fail=open").code == 6
    run = call("runs", "list").rows()[0]["run"]
    result = call("runs", "rerun", run, "--json")
    assert result.code == 6
    assert result.json()["comparisons"] == []


# Compare


def test_compare_runs(call: Call, measure: Callable[..., str]) -> None:
    first, second = measure(), measure()
    result = call("compare", first, second)
    assert result.code == 0
    assert result.rows()[0]["verdict"] == "inconclusive"  # of one process each
    assert "another session" in result.err
    found = call("compare", first[:24], second, "--json").json()
    assert found["schema"] == "edgewright.compare/1"
    assert [run["run_id"] for run in found["runs"]] == [first, second]
    assert (found["comparisons"][0]["a"], found["comparisons"][0]["b"]) == (first, second)


def test_compare_lists_the_differences(call: Call, measure: Callable[..., str]) -> None:
    first, second = measure(), measure("--threads", "2")
    assert "differs in plan.threads: 1 → 2" in call("compare", first, second).err


def test_compare_what_cannot_be(call: Call, measure: Callable[..., str]) -> None:
    run = measure()
    assert call("compare", run).code == 2
    assert call("compare", run, UNKNOWN).code == 2
    assert call("compare", "absent.onnx", "m.pretend").code == 2
    for threshold in ("-1", "nan", "inf"):
        assert call("compare", run, run, "--threshold", threshold).code == 2
        assert call("compare", "m.pretend", "m.pretend", "--threshold", threshold).code == 2
    assert call("benchmark", "m.pretend", *QUICK, "-p", "fail=open").code == 6
    failed = call("runs", "list", "--state", "failed").rows()[0]["run"]
    result = call("compare", run, failed)
    assert result.code == 2
    assert "no samples" in result.error()[0]


def test_compare_models(call: Call, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    from edgewright.flows.benchmark import flow
    from edgewright.schema.plan import BenchmarkPlan
    from tests.bench.quick import make_plan

    real = flow.benchmark

    def quickly(plan: BenchmarkPlan, *rest: object) -> object:
        assert plan.processes == 15  # the default of `edgewright benchmark`
        return real(make_plan("a.onnx", "b.onnx", processes=2, layers=False), *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(flow, "benchmark", quickly)
    write_conv_net(folder / "a.onnx")
    write_conv_net(folder / "b.onnx")
    result = call("compare", "a.onnx", "b.onnx", "--json")
    assert result.code == 0
    found = result.json()
    assert [run["model"] for run in found["runs"]] == ["a.onnx", "b.onnx"]
    assert len(found["comparisons"]) == 1


# A damaged store


def test_a_record_that_is_none(call: Call, own_home: Path) -> None:
    own_home.mkdir()
    (own_home / "edgewright.db").write_bytes(b"this is no database, and long enough to be seen as none" * 50)
    result = call("runs", "list")
    assert result.code == 1
    assert result.error()[2]


# Reports


def measured_ids(call: Call, folder: Path) -> list[str]:
    write_conv_net(folder / "net.onnx")
    result = call("benchmark", "net.onnx", "m.pretend", *QUICK[:-3], "--layer-runs", "2", "--json")
    return [run["run_id"] for run in result.json()["runs"]]


def test_reports(call: Call, folder: Path) -> None:
    first, second = measured_ids(call, folder)
    result = call(
        "runs",
        "export",
        first,
        "--html",
        "one.html",
        "--chrome-trace",
        "trace.json",
        "--model-explorer",
        "nodes.json",
        "--csv",
        "layers.csv",
    )
    assert result.code == 0, result.err
    assert set(result.out.split()) == {"one.html", "trace.json", "nodes.json", "layers.csv"}
    text = (folder / "one.html").read_text(encoding="utf-8")
    assert "net.onnx" in text
    assert "<script" not in text
    events = msgspec.json.decode((folder / "trace.json").read_bytes())["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    assert len(spans) == len((folder / "layers.csv").read_text(encoding="utf-8").splitlines()) - 1
    results = msgspec.json.decode((folder / "nodes.json").read_bytes())["results"]
    assert {"conv", "gemm"} <= set(results)
    assert all(node["value"] >= 0 for node in results.values())
    assert call("runs", "export", first, second, "--html", "two.html").code == 0
    assert "2 runs compared" in (folder / "two.html").read_text(encoding="utf-8")


def test_static_site_holds_together(call: Call, folder: Path) -> None:
    ids = measured_ids(call, folder)
    assert call("runs", "export", "--site", "site").code == 0
    pages = {path.name: path.read_text(encoding="utf-8") for path in (folder / "site").glob("*.html")}
    assert set(pages) == {"index.html", "models.html", "devices.html", *(f"run-{run_id}.html" for run_id in ids)}
    for name, text in pages.items():
        assert "<script" not in text
        links = re.findall(r'(?:href|src)="([^"#]+)', text)
        assert [link for link in links if not (folder / "site" / link).exists()] == [], name
    result = call("runs", "export", "--site", "site")
    assert result.code == 2
    assert "is not empty" in result.error()[0]


def test_reports_that_cannot_be(call: Call, folder: Path) -> None:
    first, second = measured_ids(call, folder)
    for words, code in (
        (["--html", "x.html"], 2),
        ([first, second, "--csv", "x.csv"], 2),
        ([first, "--html", "absent/x.html"], 1),
        (["ZZZZ", "--html", "x.html"], 2),
        ([first], 2),
        ([first, "a", "b"], 2),
    ):
        result = call("runs", "export", *words)
        assert result.code == code, words
        assert result.error()
