"""Tables of results as a pipe receives them: every figure in its cell."""

import pytest
from msgspec.structs import replace

from edgewright.api.results.measurement import (
    BenchmarkResult,
    format_figures,
    make_comparison_table,
)
from edgewright.bench.slowdown import SlowdownCause
from edgewright.cli.rendering.output import show_table
from edgewright.cli.rendering.tables import (
    TOP_LAYERS,
    print_warnings,
    show_benchmark,
    show_run,
)
from edgewright.flows.benchmark.answer import format_verdict
from edgewright.flows.benchmark.report import BenchmarkRow, make_report, make_row
from edgewright.flows.lineage import Lineage, LineageStep
from edgewright.schema.run import Comparison, Metric, RunOutput, RunWarning
from tests.contracts.sample_runs import sample_device, sample_model
from tests.flows.benchmark.test_report import full_run

DEVICE = replace(sample_device(), facts={"model": "Board 3"})
RUN = replace(full_run(), model=sample_model(), device=DEVICE)
FASTER = Comparison(a="r1", b="r2", ratio=0.5, low=0.4, high=0.8, confidence=0.99, verdict="faster")
FIGURES = "10 B\t10.0 µs\t9.50–10.5 µs\t12.0 µs\t–\t5.00 µs"
LAYER_LINES = [
    "#\tname\toperator\tunit\tbackend\tevidence\ttime\tshare\tsource",
    "0\tl0\tConv\tCPU\tMLAS\tmeasured\t30.0 µs\t75.0%\tconv",
    "1\tl1\tConv\tCPU\tMLAS\tmeasured\t10.0 µs\t25.0%\tconv",
]
SUM = (
    "the sum of 2 operators is 40.0 µs of 44.0 µs (91%), measured by profiler; CPU 100.0%; partitions: 2, fallbacks: 1"
)


def read_lines(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return capfd.readouterr().out.splitlines()


def test_a_benchmark_of_one_run_with_its_layers(capfd: pytest.CaptureFixture[str]) -> None:
    show_benchmark(BenchmarkResult(make_report([RUN], []), []))
    head, row, empty, line, *rest = read_lines(capfd)
    assert head.split("\t")[-2:] == ["verdict", "run"]
    assert row == f"mobilenet_v2\tonnxruntime\tfp32\t{FIGURES}\treference\tr1"
    assert empty == ""
    assert line == f"r1 mobilenet_v2 in onnxruntime: {SUM}"
    assert rest[-3:] == LAYER_LINES


def test_a_benchmark_of_two_runs_shows_verdicts_and_no_layers(capfd: pytest.CaptureFixture[str]) -> None:
    failed = replace(RUN, id="r3", state="failed", layers=())
    show_benchmark(BenchmarkResult(make_report([RUN, replace(RUN, id="r2"), failed], [FASTER]), []))
    lines = read_lines(capfd)
    assert [line.split("\t")[-2:] for line in lines[1:4]] == [
        ["reference", "r1"],
        ["2.00× faster (1.25–2.50)", "r2"],
        ["failed", "r3"],
    ]
    assert "r3 mobilenet_v2 in onnxruntime: no layer times" in lines
    assert LAYER_LINES[0] not in lines


def test_the_slowest_layers_come_first(capfd: pytest.CaptureFixture[str]) -> None:
    layers = tuple(replace(RUN.layers[0], position=k, median_us=float(k + 1)) for k in range(TOP_LAYERS + 1))
    show_benchmark(BenchmarkResult(make_report([replace(RUN, layers=layers)], []), []))
    shown = [line.split("\t")[0] for line in read_lines(capfd)[-TOP_LAYERS:]]
    assert shown == [str(k) for k in range(TOP_LAYERS, 0, -1)]


def test_causes_of_slowness_have_their_share_if_it_is_known(capfd: pytest.CaptureFixture[str]) -> None:
    causes = (
        SlowdownCause(code="one", text="it copies", share=0.25),
        SlowdownCause(code="two", text="it waits", share=None),
    )
    report = make_report([RUN], [])
    show_benchmark(BenchmarkResult(replace(report, runs=(replace(report.runs[0], findings=causes),)), []))
    lines = read_lines(capfd)
    assert "    slowdown (one): 25.0% of the time: it copies." in lines
    assert "    slowdown (two): it waits." in lines


def test_figures_of_a_run_without_any_are_unknown() -> None:
    assert set(format_figures(make_row(replace(RUN, metrics=())))) == {"–"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "2.00× faster (1.25–2.50)"),
        ({"low": None, "high": None}, "2.00× faster"),
        ({"confidence": 0.97}, "2.00× faster (1.25–2.50) at 97%"),
        ({"low": None, "high": None, "confidence": 0.5}, "2.00× faster"),
        ({"ratio": 2.0, "low": 1.5, "high": 2.5, "verdict": "slower"}, "2.00× slower (1.50–2.50)"),
        ({"ratio": 1.0, "low": 0.9, "high": 1.1, "verdict": "no difference"}, "no difference (0.90–1.10)"),
    ],
)
def test_verdicts(changes: dict[str, object], expected: str) -> None:
    assert format_verdict(replace(FASTER, **changes)) == expected


def test_comparisons_with_names(capfd: pytest.CaptureFixture[str]) -> None:
    show_table(make_comparison_table([FASTER], {"r1": "before", "r2": "after"}))
    assert read_lines(capfd)[1:] == ["before\tafter\t0.50× (0.40–0.80)\tfaster"]


def test_details_of_a_run(capfd: pytest.CaptureFixture[str]) -> None:
    run = replace(
        RUN,
        metrics=(
            Metric(name="latency.p50", unit="us", value=10.0, low=9.5, high=10.5, n=30),
            Metric(name="overhead", unit="ns", value=None),
            Metric(name="share", unit="share", value=0.25, n=2),
            Metric(name="energy", unit="uJ", value=77.0, n=3),
        ),
        outputs=(RunOutput(role="artifact:net.tflite", sha256="c" * 64, bytes=3000),),
        environment={
            "kernel": "6.1",
            "variables": {"A": "1", "B": "2"},
            "cores": [0, 1],
            "packages": {"onnxruntime": "1.27"},
        },
    )
    step = LineageStep(model_id="d" * 64, name="net", run_id="r0", kind="compile", runtime="", output="artifact")
    show_run(run, Lineage(made_from=(step,), made_into=(replace(step, name="small", runtime="litert"),)))
    assert read_lines(capfd) == [
        "fact\tvalue",
        "run\tr1",
        "state\tdone",
        "started\t2026-11-20T00:00:00Z",
        "finished\t–",
        f"model\tmobilenet_v2 fp32 {'a' * 12}",
        "runtime\tonnxruntime 1.27",
        "device\tthis host Board 3",
        "threads\t4",
        "energy\t77 µJ (measured: rapl)",
        "",
        "figure\tvalue\tlow\thigh\tn",
        "latency.p50\t10.0 µs\t9.50 µs\t10.5 µs\t30",
        "overhead\t–\t–\t–\t1",
        "share\t0.25\t–\t–\t2",
        "energy\t77 µJ\t–\t–\t3",
        "",
        "output\tname\tsize\tsha256",
        f"artifact\tnet.tflite\t3.00 kB\t{'c' * 12}",
        "",
        "lineage\tmodel\tsha256\tby\tfor\tas\trun",
        f"made from\tnet\t{'d' * 12}\tcompile\t–\tartifact\tr0",
        f"made into\tsmall\t{'d' * 12}\tcompile\tlitert\tartifact\tr0",
        "",
        "environment\tvalue",
        "kernel\t6.1",
        "variables\tA 1, B 2",
        "cores\t0, 1",
        "packages\tonnxruntime 1.27",
        "",
        "mobilenet_v2 in onnxruntime: the sum of 2 operators is 0.00 µs, measured by profiler; ; partitions: 0, "
        "fallbacks: 0",
        *LAYER_LINES,
        "Warning (drift): slower.",
    ]


def test_a_run_of_another_machine(capfd: pytest.CaptureFixture[str]) -> None:
    changes: dict[str, object] = {
        "finished_at": "2026-11-21",
        "imported": True,
        "imported_at": "2026-11-22",
        "metrics": (),
        "note": "n",
    }
    changes["tags"] = {**RUN.tags, "branch": "main"}
    show_run(replace(RUN, state="failed", error="it broke", **changes), Lineage(made_from=(), made_into=()))
    lines = read_lines(capfd)
    assert {
        "finished\t2026-11-21",
        "imported\t2026-11-22",
        "note\tn",
        "tags\tbranch=main",
        "state\tfailed: it broke",
    } <= set(lines)
    assert "energy\tunknown: rapl" in lines
    assert not [line for line in lines if line.startswith(("output", "lineage", "environment"))]
    show_run(replace(RUN, imported=None), Lineage(made_from=(), made_into=()))
    assert "imported\tunknown (recorded by an older version)" in read_lines(capfd)


def test_details_have_the_causes_of_slowness(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cause = SlowdownCause(code="one", text="it copies", share=None)
    monkeypatch.setattr("edgewright.flows.benchmark.report.explain_slowdown", lambda _: (cause,))
    show_run(RUN, Lineage(made_from=(), made_into=()))
    assert "    slowdown (one): it copies." in read_lines(capfd)


def make_warned(name: str, *codes: str) -> BenchmarkRow:
    model = replace(sample_model(), name=name)
    warnings = tuple(RunWarning(code=code, text=f"{code} happened") for code in codes)
    return make_row(replace(RUN, model=model, warnings=warnings))


def test_a_warning_is_printed_once_with_its_runs(capfd: pytest.CaptureFixture[str]) -> None:
    print_warnings([make_warned("a", "drift", "swap"), make_warned("b", "drift", "load")], hidden=("load",))
    assert capfd.readouterr().err.splitlines() == [
        "Warning (all runs; drift): drift happened.",
        "Warning (a in onnxruntime; swap): swap happened.",
    ]
    print_warnings([make_warned("a", "drift")])
    assert capfd.readouterr().err == "Warning (a in onnxruntime; drift): drift happened.\n"
