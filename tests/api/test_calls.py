"""Calls of the API: results, errors, progress, cancelling, callbacks, and models in memory."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

import edgewright
from edgewright.api.results import frames
from edgewright.errors import Cancelled, GateFailed, InputError, ModelNotFound, RuntimeMissing, UsageError
from edgewright.schema.run import Run
from edgewright.tasks.spec.file import read_task
from tests.api.conftest import DIGITS, QUICK
from tests.cli.calling import make_call
from tests.models.onnx_files import write_conv_net

MODEL = str(DIGITS / "digits.onnx")


def test_a_benchmark(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = edgewright.benchmark(["m.pretend", Path("m.pretend")], **QUICK)
    assert result.to_dict()["schema"] == "edgewright.benchmark/1"
    assert len(result.rows) == len(result.run_ids) == 2
    assert result.verdict == "inconclusive"
    names = [f"m.pretend in pretend ({run_id})" for run_id in result.run_ids]
    assert result.answer == f"{names[1]} against {names[0]}: inconclusive."
    shown = result._repr_html_()
    assert shown.startswith(f'<p>{result.answer}</p><table class="dense">')
    assert shown.count("<tr>") == 3
    assert result.save("r.html") == Path("r.html")
    assert "m.pretend" in Path("r.html").read_text(encoding="utf-8")
    assert capfd.readouterr() == ("", "")  # stderr is no terminal


def test_a_plot_stands_alone(folder: Path) -> None:
    drawing = edgewright.benchmark("m.pretend", **QUICK).plot()
    assert drawing.startswith('<svg xmlns="http://www.w3.org/2000/svg" class="chart"')
    assert "<style>:root {" in drawing
    assert "body" not in drawing
    assert drawing._repr_svg_() == drawing


def test_the_dictionary_is_the_json_of_the_command(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    call = make_call(capfd)
    assert (
        edgewright.analyze(MODEL, runtime="litert").to_dict()
        == call("analyze", MODEL, "--runtime", "litert", "--json").json()
    )
    ids = edgewright.benchmark(["m.pretend", "m.pretend"], **QUICK).run_ids
    compared = edgewright.compare(*ids)
    assert compared.to_dict() == call("compare", *ids, "--json").json()
    assert edgewright.list_runs(limit=2).to_dict() == call("runs", "list", "--limit", 2, "--json").json()
    assert edgewright.load_run(ids[0]).to_dict() == call("runs", "show", ids[0], "--json").json()


def test_a_frame_has_a_row_for_each_record(folder: Path) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = edgewright.benchmark("m.pretend", **QUICK).to_frame()
    assert list(frame["runtime"]) == ["pretend"]
    assert frame["latency_us.p50"][0] > 0
    assert "layers" not in frame


def test_a_frame_without_a_library_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "find_spec", lambda name: None)
    with pytest.raises(RuntimeMissing, match="pandas or polars") as caught:
        frames.make_frame([])
    assert "pip install pandas" in caught.value.try_this


def test_a_failed_gate_has_the_result(folder: Path) -> None:
    with pytest.raises(GateFailed) as caught:
        edgewright.benchmark("m.pretend", fail_on_fallback=5, **QUICK)
    assert caught.value.result.rows[0].state == "done"


@pytest.mark.parametrize(
    ("keywords", "what", "hint"),
    [
        ({"runtme": "litert"}, r"benchmark\(\) has no keyword 'runtme'", "use runtime="),
        ({"shape": "x=a"}, "shape: 'x=a' is not NAME=SIZES", "help"),
        ({"fix": "x=a"}, "fix: 'x=a' is not NAME=VALUE", "help"),
        ({"affinity": "a"}, "affinity: 'a' is not a list of processors", "help"),
        ({"inputs": [1, 2]}, "the inputs have no names", "file"),
    ],
)
def test_wrong_keywords(folder: Path, keywords: dict[str, Any], what: str, hint: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        edgewright.benchmark("m.pretend", **keywords)
    assert hint in caught.value.try_this


def test_values_may_be_text_or_objects(folder: Path) -> None:
    for fix in ("z=1", ["z=1"], {"z": 1}, {"z": np.ones(2)}):
        with pytest.raises(InputError, match='fix="z": no model has this input'):
            edgewright.benchmark("m.pretend", fix=fix, **QUICK)
    for shape in ("x=1,2", ["x=1,2"], {"x": (1, 2)}):
        with pytest.raises(InputError, match='shape="x": no model has this input'):
            edgewright.benchmark("m.pretend", shape=shape, **QUICK)
    result = edgewright.benchmark("m.pretend", tag={"who": "me"}, runtime=["pretend"], **QUICK)
    assert edgewright.list_runs(tag="who=me").run_ids == result.run_ids
    assert edgewright.load_run(result.run_ids[0]).run.tags["who"] == "me"


def test_inputs_are_required_to_run(folder: Path) -> None:
    nothing: dict[str, Any] = {}
    with pytest.raises(UsageError, match="inputs= is missing"):
        edgewright.invoke(MODEL, **nothing)


def test_what_is_no_model(folder: Path) -> None:
    with pytest.raises(UsageError, match="a int is not a model"):
        edgewright.analyze(3)


# An interrupt between opening a file and entering its block leaves the closing to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_set_event_cancels_and_the_run_is_stored(folder: Path) -> None:
    event, slow = Event(), {"latency_us": "1000000"}
    with pytest.raises(Cancelled, match="the call was cancelled"):
        edgewright.benchmark("m.pretend", progress=lambda text: event.set(), cancel=event, **(QUICK | {"option": slow}))
    assert edgewright.list_runs().verdict == "cancelled"


def test_in_another_thread_the_next_step_cancels(folder: Path) -> None:
    event = Event()
    texts: list[str] = []
    event.set()
    with ThreadPoolExecutor() as pool, pytest.raises(Cancelled, match="the call was cancelled"):
        pool.submit(edgewright.benchmark, "m.pretend", progress=texts.append, cancel=event, **QUICK).result()
    assert texts == []


def test_each_stored_run_is_passed_to_the_callback(folder: Path) -> None:
    found: list[tuple[Run, Any]] = []
    result = edgewright.benchmark(
        ["m.pretend", "m.pretend"], on_run=lambda run, paths: found.append((run, paths)), **QUICK
    )
    assert [run.id for run, _ in found] == list(result.run_ids)
    assert found[0][0].metrics
    edgewright.compile(MODEL, runtime="onnxruntime", check=False, on_run=lambda run, paths: found.append((run, paths)))
    assert [path.name for path in found[-1][1]] == ["digits-onnxruntime-fp32.onnx"]


def test_a_model_in_memory_leaves_no_file(folder: Path) -> None:
    model = onnx.load(MODEL)
    result = edgewright.analyze(model, runtime="onnxruntime")
    assert result.report.model.sha256
    assert not Path(result.report.model.path).exists()
    image = np.zeros((1, 1, 8, 8), np.float32)
    outputs = edgewright.invoke(model, inputs={"image": image}).outputs
    assert outputs["logits"].shape == (1, 10)


def test_an_artifact_by_runtime_and_precision(folder: Path) -> None:
    result = edgewright.compile(MODEL, runtime="ort", precision=["fp32", "fp16"], check=False, output=folder / "a")
    assert Path(result.artifact("onnxruntime", "fp16").path).is_file()
    assert result.artifact("ort").precision == "fp32"
    with pytest.raises(ModelNotFound, match="there is no artifact for litert") as caught:
        result.artifact("tflite")
    assert caught.value.why == "this result has onnxruntime fp32, onnxruntime fp16"


def test_an_evaluation_with_a_task_in_memory(folder: Path) -> None:
    task = msgspec.structs.replace(read_task(DIGITS / "task.toml"), name="mine")
    result = edgewright.evaluate(MODEL, task=task, data=DIGITS / "heldout.npz", samples=20)
    assert result.report.task == "mine"
    assert (result.verdict, result.verdicts) == ("", ())  # there is no other to compare with
    assert "20 samples" in result.answer


def test_invoke_overwrites_none_of_its_files(folder: Path) -> None:
    model = write_conv_net(folder / "m.onnx", batch="batch")
    made = edgewright.compile(model, shape="x=1|2,3,8,8", runtime="onnxruntime", check=False, output="a")
    np.savez(folder / "i.npz", x=np.zeros((1, 3, 8, 8), np.float32))
    named = Path(made.report.sets[0].path)
    (artifact, *_) = sorted(named.parent.glob("*.onnx"))
    (folder / "link.npz").symlink_to(artifact)
    for output in (named, artifact, "link.npz", "i.npz"):
        with pytest.raises(UsageError, match="would be overwritten"):
            edgewright.invoke(named, inputs="i.npz", output=output)


@pytest.mark.parametrize("words", [{"fix": ["sr=1", "sr=2"]}, {"shape": [("x", (1,)), "x=2"]}, {"tag": ["a=1", "a=2"]}])
def test_a_repeated_name_is_an_error(folder: Path, words: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(words))}: '.*' is given more than once"):
        edgewright.benchmark("m.pretend", **QUICK, **words)


def test_a_comparison_of_evaluations_is_better_or_worse(folder: Path) -> None:
    data: dict[str, Any] = {"task": DIGITS / "task.toml", "data": DIGITS / "heldout.npz"}
    good = edgewright.evaluate(MODEL, samples=40, **data).run_ids[0]
    model = onnx.load(MODEL)
    bias = next(one for one in model.graph.initializer if list(one.dims) == [10])
    bias.CopyFrom(onnx.numpy_helper.from_array(np.eye(10, dtype=np.float32)[3] * 1e6, bias.name))
    bad = edgewright.evaluate(model, samples=40, **data).run_ids[0]
    assert edgewright.compare(good, bad).verdicts == ("worse",)
    assert edgewright.compare(bad, good).verdict == "better"
    assert edgewright.compare(good, good).verdict == "inconclusive"


def test_a_comparison_says_what_else_differs(folder: Path) -> None:
    first = edgewright.benchmark("m.pretend", **QUICK).run_ids[0]
    second = edgewright.benchmark("m.pretend", **(QUICK | {"runs": 4})).run_ids[0]
    notes = edgewright.compare(first, second).notes
    assert any("is from another session" in note for note in notes)
    assert f"{second} differs in plan.runs: 3 → 4" in notes
    with pytest.raises(UsageError, match="inputs= has no effect here"):
        edgewright.compare(first, second, inputs={"x": np.zeros(1)})


def test_sizes_are_columns_and_their_set_is_the_artifact(folder: Path) -> None:
    model = write_conv_net(folder / "m.onnx", batch="batch")
    made = edgewright.compile(model, shape="x=1|2,3,8,8", runtime="onnxruntime", check=False)
    assert "<td>x=2,3,8,8</td>" in made._repr_html_()
    found = made.artifact("onnxruntime")
    assert Path(found.path) == Path("m-artifacts/m-onnxruntime-fp32.set.json")
    assert found.bytes == sum(one.bytes or 0 for one in made.rows)
    with edgewright.load(found.path) as loaded:
        assert len(loaded(np.zeros((2, 3, 8, 8), np.float32))["y"]) == 2


def test_devices_are_records(folder: Path) -> None:
    found = edgewright.list_devices()
    assert (found.rows[0].name, found.verdict) == ("local", "ready")
    assert found.to_dict()["devices"][0]["facts"]["logical_cores"] >= 1
    assert "<td>local</td>" in found._repr_html_()


def test_lists_of_runs_are_checked(folder: Path) -> None:
    edgewright.benchmark(["m.pretend"] * 2, **QUICK)
    assert len(edgewright.list_runs(limit=None).rows) == 2
    wrong: list[dict[str, Any]] = [{"state": "x"}, {"limit": 0}, {"since": "x"}]
    for words in wrong:
        with pytest.raises(UsageError, match=r"x|limit=0"):
            edgewright.list_runs(**words)
