"""The documented JSON object."""

import json

import msgspec
import pytest

from edgewright.bench.summary import make_series
from edgewright.flows.benchmark.report import BenchmarkReport, make_report, make_row
from edgewright.schema.run import Comparison, Layer, Metric, Run, RunWarning
from tests.bench.quick import make_samples


def full_run() -> Run:
    layers = tuple(
        Layer(
            position=position,
            name=f"l{position}",
            op="Conv",
            source_nodes=("conv",),
            unit="CPU",
            backend="MLAS",
            evidence="measured",
            start_us=0.0,
            median_us=time,
            p90_us=time,
        )
        for position, time in enumerate((30.0, 10.0))
    )
    values = {"latency.p90": 12.0, "latency.p99": 13.0, "latency.mean": 11.0, "latency.stdev": 1.0}
    values |= {
        "latency.min": 9.0,
        "latency.max": 14.0,
        "latency.p50_confidence": 0.97,
        "start": 1.0,
        "first_inference": 3.0,
    }
    values |= {"layers.sum": 40.0, "layers.whole": 44.0, "layers.partitions": 2.0, "layers.fallbacks": 1.0}
    values |= {"share.unit.CPU": 1.0, "share.backend.MLAS": 1.0, "energy": 77.0, "model.file": 10.0}
    metrics = [Metric(name=name, unit="us", value=value) for name, value in values.items()]
    metrics.append(Metric(name="latency.p50", unit="us", value=10.0, low=9.5, high=10.5, n=30))
    metrics.append(Metric(name="load", unit="us", value=2.0, n=10))
    return Run(
        id="r1",
        kind="benchmark",
        state="done",
        started_at="2026-11-20T00:00:00Z",
        runtime="onnxruntime",
        plan={"threads": 4},
        metrics=tuple(metrics),
        series=make_series([make_samples([10.0])]),
        layers=layers,
        warnings=(RunWarning(code="drift", text="slower"),),
        tags={"layers-via": "profiler", "energy-source": "rapl", "energy-evidence": "measured"},
    )


def test_every_figure_finds_its_place() -> None:
    row = make_row(full_run())
    assert (row.threads, row.processes, row.state, row.energy_source) == (4, 10, "done", "rapl")
    assert row.latency_us is not None
    assert (row.latency_us.n, row.latency_us.p50, row.latency_us.p50_low, row.latency_us.p50_high) == (
        30,
        10.0,
        9.5,
        10.5,
    )
    assert (row.latency_us.p50_confidence, row.latency_us.min, row.latency_us.max) == (0.97, 9.0, 14.0)
    assert row.cpu_time_us is None
    assert (row.cold_start_us.import_, row.cold_start_us.load, row.cold_start_us.first_inference) == (1.0, 2.0, 3.0)
    assert row.memory_bytes.file == 10.0
    assert row.memory_bytes.peak is None
    assert [layer.share for layer in row.layers] == [0.75, 0.25]
    assert row.layer_totals is not None
    assert (row.layer_totals.via, row.layer_totals.sum_us, row.layer_totals.whole_us) == ("profiler", 40.0, 44.0)
    assert (row.path, row.backends) == ({"CPU": 1.0}, {"MLAS": 1.0})
    assert row.energy is not None
    assert (row.energy.uj_per_inference, row.energy.evidence) == (77.0, "measured")


def test_the_json_has_the_promised_keys() -> None:
    comparison = Comparison(a="r1", b="r2", ratio=1.1, low=1.05, high=1.15, confidence=0.99, verdict="slower")
    report = make_report([full_run()], [comparison])
    plain = json.loads(msgspec.json.encode(report))
    keys = {"schema", "answer", "runs", "comparisons", "relative", "hot_rankings", "failed_devices"}
    assert plain.keys() == keys
    assert plain["schema"] == "edgewright.benchmark/1"
    run = plain["runs"][0]
    promised = "run_id model model_sha256 runtime precision device threads latency_us cpu_time_us cold_start_us"
    promised += " memory_bytes layers path energy warnings"
    assert set(promised.split()) <= run.keys()
    assert {"n", "p50", "p50_low", "p50_high", "p90", "p99", "mean", "stdev", "min", "max"} <= run["latency_us"].keys()
    assert run["cold_start_us"].keys() == {"import", "load", "first_inference"}
    assert run["memory_bytes"].keys() == {"before_load", "after_load", "peak", "file"}
    assert run["warnings"] == [{"code": "drift", "text": "slower"}]
    assert plain["comparisons"][0].keys() == {"a", "b", "ratio", "low", "high", "confidence", "verdict"}
    assert msgspec.json.decode(msgspec.json.encode(report), type=BenchmarkReport, strict=True) == report


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_run_with_nothing_is_unknown_not_zero(state: str) -> None:
    run = msgspec.convert(
        {"id": "x", "kind": "benchmark", "state": state, "started_at": "2026-11-20T00:00:00Z", "error": "it broke"}, Run
    )
    row = make_row(run)
    assert (row.latency_us, row.layer_totals, row.energy, row.layers) == (None, None, None, ())
    assert (row.cold_start_us.load, row.memory_bytes.peak, row.error) == (None, None, "it broke")
