"""The answer of a stored run is the same in Python, JSON, terminal and on its page."""

import msgspec

from edgewright.flows.answers import answer_run
from edgewright.flows.evaluate.report import PairedRow
from edgewright.flows.quantize.answer import make_outcome
from edgewright.flows.quantize.report import QuantizeReport
from edgewright.schema.run import Metric, Run, RunOutput
from edgewright.store.store import Store
from tests.web.pages.test_quantization import make_whole
from tests.web.pages.test_training import make_distil, make_prune
from tests.web.records import make_model, make_run

PAIRED = PairedRow(difference=-0.0014, low=-0.005, high=0.0022, p=0.5, test="mcnemar")


def make_report() -> QuantizeReport:
    whole = make_whole()
    rows = tuple(msgspec.structs.replace(row, paired=PAIRED) if row.path else row for row in whole.artifacts)
    report = msgspec.structs.replace(whole, artifacts=rows)
    return msgspec.structs.replace(report, answer=make_outcome(report).answer)


def store_report(store: Store, kind: str, report: msgspec.Struct) -> Run:
    run = msgspec.structs.replace(make_run(samples=0, layers=0), kind=kind, series=(), metrics=())
    output = store.put_bytes(run.id, msgspec.json.encode(report), role=kind)
    run = msgspec.structs.replace(run, outputs=(output,))
    store.record([run])
    return run


def test_a_quantization_says_what_it_cost(store: Store) -> None:
    run = store_report(store, "quantize", report := make_report())
    expected = (
        "−0.14 points top-1 accuracy (−0.50 to +0.22), no difference shown · 2.38× smaller (118 kB → 49.5 kB) · "
        "2.14× faster in LiteRT · gate passed in LiteRT · ONNX Runtime rejected: it drops."
    )
    assert (report.answer, answer_run(run, store).text) == (expected, expected)


def test_training_says_what_it_cost(store: Store) -> None:
    answer = answer_run(store_report(store, "prune", make_prune()), store).text
    assert answer.startswith(
        "−1.00 points top-1 accuracy against the source, not compared sample by sample · same size"
    )
    assert answer.endswith("1.67× faster in ONNX Runtime · gate passed.")
    refused = msgspec.structs.replace(make_distil(), state="refused", reason="it drops by 3.00 points")
    assert answer_run(store_report(store, "distil", refused), store).text.endswith("rejected: it drops by 3.00 points.")


def test_an_evaluation_names_its_reference(store: Store) -> None:
    first = msgspec.structs.replace(make_run(samples=0, layers=0), kind="evaluate", series=(), metrics=())
    metrics = (
        Metric(name="top1", unit="1", value=0.989, low=0.976, high=0.995, n=539),
        Metric(name="difference", unit="1", value=0.02, low=0.01, high=0.03, n=539),
        Metric(name="difference.p", unit="1", value=0.001, n=539),
    )
    second = make_run(samples=0, layers=0, model=make_model("b.tflite", "b"), runtime="litert", parent=first.id)
    plan = {"task": {"metric": "top1"}}
    second = msgspec.structs.replace(second, kind="evaluate", metrics=metrics, plan=plan, series=())
    store.record([first, second])
    assert answer_run(second, store).text == (
        "98.9% top-1 accuracy (97.6%–99.5%) on 539 samples · "
        "+2.00 points top-1 accuracy against net.onnx (+1.00 to +3.00), shown to be better."
    )


def test_other_runs_and_damaged_reports_have_an_answer(store: Store) -> None:
    run = make_run(samples=0, layers=0)
    compiled = msgspec.structs.replace(
        run, kind="compile", runtime="litert",
        metrics=(
            Metric(name="artifact.bytes", unit="B", value=900.0), Metric(name="numerics.sqnr", unit="dB", value=99.0),
        ),
        outputs=(RunOutput(role="artifact:a.tflite", sha256="c" * 64, bytes=900),),
    )  # fmt: skip
    assert answer_run(compiled, store).text == "a.tflite for LiteRT: 900 B, SQNR 99.0 dB to the source."
    lost = msgspec.structs.replace(
        run, kind="quantize", outputs=(RunOutput(role="quantize", sha256="c" * 64, bytes=9),)
    )
    assert answer_run(lost, store).text == "quantize of net.onnx in pretend: done."
    failed = msgspec.structs.replace(run, state="failed", error="out of memory")
    assert answer_run(failed, store).text == "benchmark of net.onnx in pretend failed: out of memory"
    gate = msgspec.structs.replace(run, kind="gate", tags={"gate": "passed"})
    assert answer_run(gate, store).text == "net.onnx in pretend passed the gate."
