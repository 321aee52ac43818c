"""An evaluation from plan to record: the numbers, what is kept when something fails, and after Ctrl-C."""

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import active_count
from time import monotonic, sleep
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pytest

from edgewright.devices.protocol import Device
from edgewright.errors import Cancelled, ConfigError, DataError, RuntimeMissing, UsageError, WorkerCrashed
from edgewright.flows.benchmark.comparison import compare_evaluations
from edgewright.flows.demo.flow import get_digits_folder, make_evaluation_plan
from edgewright.flows.evaluate import chunks as chunking
from edgewright.flows.evaluate.chunks import ChunkPrefetcher
from edgewright.flows.evaluate.flow import choose_samples, evaluate
from edgewright.flows.evaluate.inference import Runner
from edgewright.flows.workspace import Workspace
from edgewright.schema.plan import Candidate, EvaluatePlan
from edgewright.schema.run import Run
from edgewright.store.store import Store
from edgewright.tasks.data.dataset import open_dataset, split
from edgewright.tasks.metrics.metrics import score
from edgewright.tasks.spec.task import Classification, ImageInput, Task
from tests.models.onnx_files import write_conv_net
from tests.paths import ROOT

PICTURES = Task(
    name="small", inputs=(ImageInput(name="x", size=(8, 8), mean=127.5, std=127.5),), output=Classification()
)
COUNT = 40


def ignore(text: str) -> None:
    """Nobody listens."""


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten samples a chunk."""
    monkeypatch.setattr(chunking, "CHUNK_BYTES", 10 * 3 * 8 * 8 * 4)


@pytest.fixture
def plan(tmp_path: Path) -> EvaluatePlan:
    """Two conv nets of different seeds, over random pictures that the first one itself has labeled."""
    first, second = write_conv_net(tmp_path / "a.onnx", batch="n"), write_conv_net(tmp_path / "b.onnx")
    values = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8)
    labels = outputs_of(first, values).argmax(axis=1)
    labels[:4] = (labels[:4] + 1) % 5  # the first is right but for these
    np.savez(tmp_path / "d.npz", x=values, labels=labels)
    return EvaluatePlan(
        candidates=tuple(Candidate(model=str(path), runtime="onnxruntime") for path in (first, second)),
        task=msgspec.to_builtins(PICTURES),
        data=str(tmp_path / "d.npz"),
    )


def outputs_of(model: Path, values: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    feeds = ((values.astype(np.float64) - 127.5) / 127.5).astype(np.float32).transpose(0, 3, 1, 2)
    return np.concatenate([session.run(None, {"x": feed[None]})[0] for feed in feeds])


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + 60
    while not condition() and monotonic() < deadline:
        sleep(0.01)


def loaded(store: Store) -> list[Run]:
    return [store.load(row.id) for row in reversed(store.list_runs())]


@pytest.mark.usefixtures("small_chunks")
def test_the_numbers_are_those_of_a_loop_by_hand(plan: EvaluatePlan, device: Device, store: Store) -> None:
    heard: list[str] = []
    found = evaluate(plan, Workspace(device, store, heard.append), {"for": "test"})
    assert found.error is None
    report = found.report
    assert (report.samples, report.evaluated, report.metric, report.task) == (COUNT, COUNT, "top1", "small")
    first, second = report.results
    assert first.metric is not None
    assert first.metric.value == (COUNT - 4) / COUNT
    assert (first.reference, first.paired, first.agreement, first.sqnr_db) == (True, None, None, None)
    assert second.metric == first.metric  # the same weights
    assert second.agreement is not None
    assert second.agreement.value == 1.0
    assert second.paired is not None
    assert (second.paired.difference, second.paired.p, second.paired.test) == (0.0, 1.0, "mcnemar")
    assert second.sqnr_db is not None
    assert second.sqnr_db > 100
    assert len(heard) == 5
    assert heard[2].startswith("evaluate 2 candidates: 20 of 40 samples, ")


def test_the_record_has_every_sample(plan: EvaluatePlan, device: Device, store: Store) -> None:
    plan = msgspec.structs.replace(plan, leave_out=10, seed=3)
    report = evaluate(plan, Workspace(device, store, ignore), {"for": "test"}).report
    rest = split(COUNT, 10, 3)[1]
    runs = loaded(store)
    assert [run.id for run in runs] == [row.run_id for row in report.results]
    for run in runs:
        assert (run.kind, run.state, run.tags) == ("evaluate", "done", {"for": "test"})
        assert run.plan["schema"] == "edgewright.evaluation/1"
        assert run.plan["task"]["inputs"][0]["mean"] == 127.5
        assert run.plan["data_fingerprint"]
        series = {one.name: one.data for one in run.series}
        assert list(series["sample.index"]) == rest
        assert sum(series["sample.value"]) == sum(index >= 4 for index in rest)
        assert len(series["sample.predicted"]) == 30
        metrics = {one.name: one for one in run.metrics}
        assert metrics["top1"].n == 30
        assert metrics["skipped"].value == 0
    assert runs[1].parent_id == runs[0].id
    assert {one.name for one in runs[1].metrics} >= {"agreement", "difference", "difference.p", "sqnr"}


def test_another_model_is_distinguished(plan: EvaluatePlan, device: Device, store: Store, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    write_conv_net(other)
    import onnx
    from onnx import numpy_helper

    model = onnx.load(other)
    for constant in model.graph.initializer:
        if constant.name in ("g", "h"):  # what had the highest score has the lowest
            constant.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(constant), constant.name))
    onnx.save(model, other)
    plan = msgspec.structs.replace(
        plan, candidates=(plan.candidates[0], Candidate(model=str(other), runtime="onnxruntime"))
    )
    second = evaluate(plan, Workspace(device, store, ignore)).report.results[1]
    with np.load(plan.data) as file:
        expected = score(PICTURES, {"y": outputs_of(other, file["x"])}, [int(label) for label in file["labels"]])
    assert second.metric is not None
    assert second.paired is not None
    assert second.metric.value == expected.value
    assert second.paired.difference == pytest.approx(expected.value - 36 / 40)
    assert second.paired.p < 0.01
    assert second.worst_classes
    assert sum(one.n - one.correct for one in second.worst_classes) == COUNT - round(expected.value * COUNT)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("broken", [0, 1])
def test_a_candidate_that_fails_does_not_stop_the_other(
    plan: EvaluatePlan, device: Device, store: Store, monkeypatch: pytest.MonkeyPatch, broken: int
) -> None:
    run, calls = Runner.run, [0, 0]
    names = [Path(candidate.model).name for candidate in plan.candidates]

    def breaking(self: Runner, stack: Mapping[str, Any]) -> dict[str, Any]:
        position = names.index(self._model.name)
        calls[position] += 1
        if position == broken and calls[position] == 3:
            raise WorkerCrashed("it died")
        return run(self, stack)

    monkeypatch.setattr(Runner, "run", breaking)
    found = evaluate(plan, Workspace(device, store, ignore))
    assert isinstance(found.error, WorkerCrashed)
    states = [(row.state, row.evaluated, row.error) for row in found.report.results]
    assert states[broken] == ("failed", 20, "it died")
    assert states[1 - broken] == ("done", COUNT, None)
    assert found.report.results[1].paired is None
    assert [run.state for run in loaded(store)] == [state for state, *_ in states]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("chunk", range(5))
def test_ctrl_c_keeps_what_was_evaluated(plan: EvaluatePlan, device: Device, store: Store, chunk: int) -> None:
    calls = 0

    def progress(text: str) -> None:
        nonlocal calls
        calls += 1
        if calls == chunk + 1:
            raise KeyboardInterrupt

    threads = active_count()
    with pytest.raises(Cancelled) as caught:
        evaluate(plan, Workspace(device, store, progress))
    assert caught.value.exit_code == 130
    assert active_count() == threads
    runs = loaded(store)
    assert [run.state for run in runs] == ["cancelled", "cancelled"]
    for run in runs:
        metrics = {one.name: one for one in run.metrics}
        assert ("top1" in metrics) == (chunk > 0)
        if chunk:
            assert metrics["top1"].n == 10 * chunk


@pytest.mark.usefixtures("small_chunks")
def test_ctrl_c_between_two_candidates_drops_the_half_chunk(
    plan: EvaluatePlan, device: Device, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, calls = Runner.run, 0

    def stopped(self: Runner, stack: Mapping[str, Any]) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return run(self, stack)

    monkeypatch.setattr(Runner, "run", stopped)
    with pytest.raises(Cancelled):
        evaluate(plan, Workspace(device, store, ignore))
    for kept in loaded(store):
        assert {one.name: one.n for one in kept.metrics}["top1"] == 20
        assert [len(one.data) for one in kept.series] == [20, 20, 20, 20]


@pytest.mark.usefixtures("small_chunks")
def test_a_data_set_that_breaks_on_the_way(plan: EvaluatePlan, device: Device, store: Store, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "def load():\n"
        "    return [(np.zeros((8, 8, 3) if i < 25 else (8,), np.uint8), 0) for i in range(40)]\n"
    )
    plan = msgspec.structs.replace(plan, data=f"{tmp_path}/mine.py:load", code=(f"{tmp_path}/mine.py:load",))
    with pytest.raises(DataError, match="1 of 40 samples cannot be read"):
        evaluate(plan, Workspace(device, store, ignore))
    assert [(run.state, bool(run.error)) for run in loaded(store)] == [("failed", True)] * 2


def test_what_can_be_known_beforehand_starts_nothing(
    plan: EvaluatePlan, device: Device, store: Store, tmp_path: Path
) -> None:
    wrong = Task(inputs=(ImageInput(name="x", size=(8, 8), layout="NHWC"),), output=Classification())
    unlabeled = tmp_path / "u.npz"
    np.savez(unlabeled, x=np.zeros((3, 8, 8, 3), np.uint8))
    beyond = tmp_path / "l.npz"
    np.savez(beyond, x=np.zeros((3, 8, 8, 3), np.uint8), labels=np.array([0, 1, 5]))
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"task": msgspec.to_builtins(wrong)}, ConfigError, "the input 'x'"),
        ({"task": {"inputs": []}}, ConfigError, "the plan's task"),
        ({"data": str(unlabeled)}, DataError, "has no labels"),
        ({"data": str(beyond)}, DataError, "the label 5 is out of range"),
        ({"data": str(tmp_path / "absent")}, DataError, "absent"),
        ({"samples": 41}, DataError, "41 samples are requested"),
        ({"samples": 4, "leave_out": 3}, UsageError, "exclude each other"),
        ({"indices": (40,)}, DataError, "no sample 40"),
        ({"samples": 0}, UsageError, "--samples selects no sample"),
        ({"leave_out": COUNT}, UsageError, "--leave-out selects no sample"),
        ({"threads": 0}, UsageError, "--threads 0"),
        ({"candidates": ()}, UsageError, "no model"),
    ]
    for change, kind, words in cases:
        with pytest.raises(kind, match=words):
            evaluate(msgspec.structs.replace(plan, **change), Workspace(device, store, ignore))
    assert loaded(store) == []


def test_a_missing_runtime_is_reported_for_its_candidate(
    plan: EvaluatePlan, device: Device, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: Any, **__: Any) -> Any:
        raise RuntimeMissing("the runtime cannot be used here")

    monkeypatch.setattr(device, "start_worker", absent)
    found = evaluate(plan, Workspace(device, store, ignore))
    assert isinstance(found.error, RuntimeMissing)
    assert [row.metric for row in found.report.results] == [None, None]


def test_the_choice_of_samples(plan: EvaluatePlan) -> None:
    with open_dataset(plan.data, PICTURES) as data:
        assert list(choose_samples(plan, data)) == list(range(COUNT))
        chosen = choose_samples(msgspec.structs.replace(plan, samples=5), data)
        left = choose_samples(msgspec.structs.replace(plan, leave_out=5), data)
        assert sorted([*chosen, *left]) == list(range(COUNT))
        assert list(choose_samples(msgspec.structs.replace(plan, indices=(3, 1)), data)) == [3, 1]


@pytest.mark.usefixtures("small_chunks")
def test_chunks_come_in_order_and_few_are_held(plan: EvaluatePlan) -> None:
    with open_dataset(plan.data, PICTURES) as data:
        read: list[int] = []
        one = data._read_one

        def watched(index: int) -> Any:
            read.append(index)
            return one(index)

        data._read_one = watched  # type: ignore[method-assign]
        with ChunkPrefetcher(data, range(COUNT)) as ahead:
            came = iter(ahead)
            first = next(came)
            assert first.indices == tuple(range(10))
            assert first.stack["x"].shape == (10, 1, 3, 8, 8)
            wait_for(lambda: len(read) >= 31)
            assert len(read) <= 31  # the one in hand, the one that waits, the one being decoded, and its next sample
            assert [chunk.indices[0] for chunk in came] == [10, 20, 30]


def test_the_demos_digits(device: Device, store: Store) -> None:
    candidates = [
        Candidate(model=str(get_digits_folder() / name), runtime="onnxruntime")
        for name in ("digits.onnx", "digits_int8.onnx")
    ]
    first, second = evaluate(make_evaluation_plan(candidates), Workspace(device, store, ignore)).report.results
    assert first.metric is not None
    assert first.metric.value == 533 / 539
    assert second.metric is not None
    assert second.metric.value > 524 / 539
    assert second.agreement is not None
    assert second.agreement.value > 0.99
    assert second.sqnr_db is not None
    assert second.sqnr_db > 25


def test_an_artifact_is_fed_as_its_source(device: Device, store: Store, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    from edgewright.flows.compile.flow import compile_all
    from edgewright.schema.plan import CompileCell, CompilePlan

    source = get_digits_folder() / "digits.onnx"
    cells = (CompileCell(runtime="litert", precision="fp32"),)
    report, _ = compile_all(
        CompilePlan(source=str(source), cells=cells), tmp_path / "out", Workspace(device, store, ignore)
    )
    path = report.artifacts[0].path
    assert path is not None
    candidates = [Candidate(model=str(source), runtime="onnxruntime"), Candidate(model=path, runtime="litert")]
    first, second = evaluate(make_evaluation_plan(candidates), Workspace(device, store, ignore)).report.results
    assert first.metric == second.metric
    assert second.sqnr_db is not None
    assert second.sqnr_db > 60


SHARED = ROOT.parent / "shared/data"


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="the evaluation data is not beside the checkout")
def test_mobilenet_on_real_pictures(device: Device, store: Store) -> None:
    from edgewright.tasks.spec.file import read_task

    task = read_task(ROOT / "docs/examples/mobilenet_v2.toml")
    plan = EvaluatePlan(
        candidates=(Candidate(model=str(SHARED / "models/mobilenet_v2.onnx"), runtime="onnxruntime"),),
        task=msgspec.to_builtins(task),
        data=str(SHARED / "imagenet/imagenet_dev500.zip"),
        samples=60,
    )
    found = evaluate(plan, Workspace(device, store, ignore)).report.results[0].metric
    assert found is not None
    assert 0.75 < found.value <= 1.0
    assert found.n == 60


def test_runs_of_two_days_are_paired_by_their_samples(plan: EvaluatePlan, device: Device, store: Store) -> None:
    some = msgspec.structs.replace(plan, candidates=plan.candidates[:1], indices=tuple(range(30)))
    others = msgspec.structs.replace(plan, candidates=plan.candidates[1:], indices=tuple(range(39, 9, -1)))
    evaluate(some, Workspace(device, store, ignore))
    evaluate(others, Workspace(device, store, ignore))
    a, b = loaded(store)
    (found,) = compare_evaluations([a, b])
    assert (found.n, found.difference, found.p, found.test, found.metric) == (20, 0.0, 1.0, "mcnemar", "top1")
    flipped = [1.0 - value for value in next(one.data for one in b.series if one.name == "sample.value")]
    series = tuple(
        msgspec.structs.replace(one, data=tuple(flipped)) if one.name == "sample.value" else one for one in b.series
    )
    (found,) = compare_evaluations([a, msgspec.structs.replace(b, series=series)])
    assert found.difference == -1.0
    assert found.p == pytest.approx(2 / 2**20)
    other_data = msgspec.structs.replace(b, plan={**b.plan, "data_fingerprint": "another"})
    other_metric = msgspec.structs.replace(b, plan={**b.plan, "task": {"metric": "auc"}})
    for wrong in ([a, other_data], [a, other_metric], [other_metric, a], [a, msgspec.structs.replace(b, series=())]):
        with pytest.raises(UsageError):
            compare_evaluations(wrong)
