"""The matrix of a family: sessions, ranks, and what to ship."""

import pytest

from edgewright.bench.trust import judge_trust
from edgewright.report.family import Family, Matrix, make_matrix
from edgewright.schema.run import Metric
from edgewright.schema.vocabulary import Verdict
from edgewright.store.runs.browse import ModelRow
from edgewright.store.runs.queries import RunSummary

SOURCE, MADE = "5" * 64, "d" * 64


def make_model(model_id: str, name: str, precision: str, size: int = 1_000) -> ModelRow:
    return ModelRow(
        id=model_id, name=name, format="onnx", bytes=size, added_at="", precision=precision, runs=1, last_run_at=None,
        has_file=True,
    )  # fmt: skip


def make_run(
    name: str,
    runtime: str,
    us: float,
    *,
    session: str,
    model_id: str = SOURCE,
    half: float = 0.01,
    processes: int = 8,
    warnings: tuple[str, ...] = (),
) -> RunSummary:
    sure = 0.96 if processes > 5 else 0.5
    metrics = {
        "latency.p50": Metric(name="latency.p50", unit="us", value=us, low=us * (1 - half), high=us * (1 + half), n=99),
        "latency.p50_confidence": Metric(name="latency.p50_confidence", unit="1", value=sure, n=processes),
    }
    return RunSummary(
        id=name, kind="benchmark", state="done", started_at="", finished_at="", parent_id=session, model_id=model_id,
        model_name="", precision="w8a8" if model_id == MADE else "fp32", device_id="d", device_name="desk",
        runtime=runtime, plan_hash="", error=None, note="", metrics=metrics, tags={}, warnings=warnings,
        trust=judge_trust(metrics, warnings),
    )  # fmt: skip


def make_quality(value: float, half: float = 0.01) -> dict[str, Metric]:
    return {"top1": Metric(name="top1", unit="1", value=value, low=value - half, high=value + half, n=500)}


def make(*runs: RunSummary, qualities: dict[tuple[str, str], dict[str, Metric]] | None = None) -> Matrix:
    models = {SOURCE: make_model(SOURCE, "net.onnx", "fp32", 4_000), MADE: make_model(MADE, "net.tflite", "w8a8")}
    return make_matrix(Family(models, SOURCE, runs, qualities or {}))


def test_ranks_hold_within_the_newest_session_that_measured_most() -> None:
    """A file that was measured again alone has its rank from the session with the others."""
    matrix = make(
        make_run("c", "onnxruntime", 30.0, session="c"),  # newest first, alone
        make_run("b2", "litert", 50.0, session="b"),
        make_run("b1", "onnxruntime", 90.0, session="b"),
        make_run("a1", "onnxruntime", 80.0, session="a"),
        make_run("a2", "ncnn", 20.0, session="a"),
    )
    assert matrix.session == "b"
    found = [(cell.runtime, cell.run_id, cell.rank, cell.stale) for cell in matrix.cells]
    assert found == [("litert", "b2", 1, False), ("onnxruntime", "b1", 2, False), ("ncnn", "a2", None, True)]


def test_what_is_not_told_apart_shares_a_rank() -> None:
    matrix = make(
        make_run("1", "litert", 100.0, session="s", half=0.05),
        make_run("2", "ncnn", 104.0, session="s", half=0.05),
        make_run("3", "mnn", 190.0, session="s", half=0.05),
    )
    assert [cell.rank for cell in matrix.cells] == [1, 1, 3]
    assert "No difference is shown to ncnn fp32." in matrix.answer
    assert "MNN fp32 is 1.9× slower." in matrix.answer


@pytest.mark.parametrize(("pair", "verdict"), [(("1", "2"), "slower"), (("2", "1"), "faster")])
def test_a_paired_verdict_counts_more_than_the_intervals(pair: tuple[str, str], verdict: Verdict) -> None:
    """Rounds are paired, so that a verdict may be sure where the intervals overlap."""
    runs = [make_run(name, runtime, us, session="s", half=0.05) for name, runtime, us in
            (("1", "litert", 100.0), ("2", "ncnn", 104.0))]  # fmt: skip
    models = {SOURCE: make_model(SOURCE, "net.onnx", "fp32")}
    matrix = make_matrix(Family(models, SOURCE, runs, {}, {pair: verdict}))
    assert [cell.rank for cell in matrix.cells] == [1, 2]
    (first, second) = (Family(models, SOURCE, runs, {}, {pair: "no difference"}), Family(models, SOURCE, runs, {}))
    assert [[cell.rank for cell in make_matrix(one).cells] for one in (first, second)] == [[1, 1], [1, 1]]


def test_too_few_processes_tell_nothing_apart() -> None:
    matrix = make(make_run("1", "litert", 10.0, session="s"), make_run("2", "mnn", 90.0, session="s", processes=2))
    assert [(cell.rank, cell.trust) for cell in matrix.cells] == [(1, "high"), (1, "low")]
    assert "only 2 processes" in matrix.cells[1].trust_causes


@pytest.mark.parametrize(
    ("top1", "expected", "loses"),
    [
        (0.979, "Ship LiteRT w8a8: 5.00 µs, 97.9% top-1 accuracy (no loss shown), 1.00 kB.", False),
        (0.94, "Ship ONNX Runtime fp32: 9.00 µs, 98.0% top-1 accuracy (no loss shown), 4.00 kB.", True),
    ],
)
def test_what_to_ship_is_the_fastest_without_a_shown_loss(top1: float, expected: str, loses: bool) -> None:
    matrix = make(
        make_run("1", "litert", 5.0, session="s", model_id=MADE),
        make_run("2", "onnxruntime", 9.0, session="s"),
        qualities={(SOURCE, "onnxruntime"): make_quality(0.98), (MADE, "litert"): make_quality(top1)},
    )
    assert matrix.answer.startswith(expected)
    assert (matrix.quality, matrix.cells[0].loses) == ("top1", loses)


def test_a_latency_that_cannot_be_trusted_says_why() -> None:
    noisy = make_run("1", "litert", 16.0, session="s", half=0.25, warnings=("background-load",))
    assert "16.0 µs (known to ±25%; the machine was busy)" in make(noisy).answer


def test_a_family_without_measurements() -> None:
    matrix = make(qualities={(SOURCE, "onnxruntime"): make_quality(0.98)})
    assert matrix.answer == "Nothing of this family has been measured: benchmark its files together."
    assert [(cell.rank, cell.p50_us, cell.stale) for cell in matrix.cells] == [(None, None, False)]
