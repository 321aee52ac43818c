"""Conversion of process samples to series and metrics, and back."""

from itertools import pairwise
from math import isclose, isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.bench.energy import Energy
from edgewright.bench.session import ProcessSamples
from edgewright.bench.summary import (
    compute_chunk_medians,
    compute_process_medians,
    make_metrics,
    make_moment_metrics,
    make_series,
    read_chunk_medians,
)
from edgewright.devices.protocol import Reading
from edgewright.schema.run import Layer, LayerReport, Metric, Run
from tests.bench.quick import make_samples

UNKNOWN = Energy(uj_per_inference=None, evidence="none", source="no sensor")
walls = st.lists(st.lists(st.floats(0.001, 1e9), max_size=12), max_size=6)


def run_of(processes: list[ProcessSamples]) -> Run:
    return Run(id="x", kind="benchmark", state="done", started_at="2026-11-20T00:00:00Z", series=make_series(processes))


def metrics_of(processes: list[ProcessSamples], report: LayerReport | None = None) -> dict[str, Metric]:
    return {metric.name: metric for metric in make_metrics(processes, 1234, UNKNOWN, report)}


@given(walls)
def test_stored_medians_are_the_tapes_medians(samples: list[list[float]]) -> None:
    processes = [make_samples(wall, chunks=split(len(wall))) for wall in samples]
    assert read_chunk_medians(run_of(processes)) == compute_chunk_medians(processes)
    assert [len(chunks) for chunks in compute_chunk_medians(processes)] == [
        len(split(len(wall))) for wall in samples if wall
    ]
    assert len(compute_process_medians(processes)) == len(compute_chunk_medians(processes))


def split(samples: int) -> list[int]:
    """Chunks of three, and what is left."""
    return [min(3, samples - begin) for begin in range(0, samples, 3)]


def test_series_are_raw_and_in_order() -> None:
    processes = [make_samples([3.0, 1.0]), make_samples([]), make_samples([2.0], load_us=None, memory_peak=None)]
    series = {row.name: row for row in run_of(processes).series}
    assert series["wall"].data == (3.0, 1.0, 2.0)
    assert series["wall.samples"].data == (2.0, 0.0, 1.0)
    assert series["load"].data[:2] == (2000.0, 2000.0)
    assert isnan(series["load"].data[2])
    assert series["load"].unit == "us"
    assert series["memory.peak"].unit == "bytes"
    assert "temperature" not in series


def test_sensor_series() -> None:
    before, after = Reading(source="s", temperature_c=30.0), Reading(source="s", temperature_c=31.0)
    series = {row.name: row for row in run_of([make_samples([1.0], readings=[(before, after, 1, 0.1)])]).series}
    assert series["temperature"].data == (31.0,)
    assert "frequency" not in series


def test_p50_is_the_median_of_medians_and_the_rest_is_pooled() -> None:
    processes = [make_samples([10.0, 20.0, 90.0]), make_samples([30.0]), make_samples([40.0, 50.0])]
    found = metrics_of(processes)
    assert found["latency.p50"].value == 30.0  # of 20, 30, 45
    assert (found["latency.p50"].low, found["latency.p50"].high, found["latency.p50"].n) == (20.0, 45.0, 6)
    assert found["latency.p50_confidence"].value == 0.75
    assert found["latency.mean"].value == 40.0
    assert (found["latency.min"].value, found["latency.max"].value) == (10.0, 90.0)
    pooled = np.array([10.0, 20.0, 90.0, 30.0, 40.0, 50.0])
    assert found["latency.stdev"].value == pytest.approx(float(pooled.std(ddof=1)))
    assert found["latency.p99"].value == pytest.approx(float(np.percentile(pooled, 99)))


@given(st.lists(st.lists(st.floats(0.001, 1e9), min_size=1, max_size=12), min_size=1, max_size=8))
def test_the_figures_are_in_order(samples: list[list[float]]) -> None:
    found = metrics_of([make_samples(wall) for wall in samples])
    values = [found[f"latency.{key}"].value or 0.0 for key in ("min", "p90", "p99", "max")]
    assert all(a <= b or isclose(a, b) for a, b in pairwise(values))
    p50 = found["latency.p50"]
    if p50.low is not None and p50.high is not None and p50.value is not None:
        assert p50.low <= p50.value <= p50.high


def test_peak_memory_is_the_highest_and_no_median_bounds_it() -> None:
    found = metrics_of([make_samples([1.0], memory_peak=peak) for peak in (5, 9, 7)])
    assert found["memory.peak"] == Metric(name="memory.peak", unit="bytes", value=9.0, n=3)


def test_cold_start_is_summed_process_by_process() -> None:
    processes = [make_samples([1.0], load_us=1.0, first_us=100.0), make_samples([1.0], load_us=50.0, first_us=2.0)]
    assert metrics_of(processes)["cold_start"].value == 76.5
    assert "cold_start" not in metrics_of([make_samples([], load_us=None, first_us=None)])


def test_no_tapes() -> None:
    found = metrics_of([])
    assert "latency.p50" not in found
    assert found["energy"].value is None
    assert found["model.file"].value == 1234


def layer(position: int, backend: str, median_us: float) -> Layer:
    unit = "NPU" if backend == "npu" else "CPU"
    return Layer(
        position=position,
        name=f"l{position}",
        op="Conv",
        source_nodes=(),
        unit=unit,  # type: ignore[arg-type]  # one of the two
        backend=backend,
        evidence="measured",
        start_us=None,
        median_us=median_us,
        p90_us=median_us,
    )


def test_layer_metrics() -> None:
    layers = (layer(0, "npu", 60.0), layer(1, "cpu", 30.0), layer(2, "npu", 10.0))
    report = LayerReport(layers=layers, via="profiler", whole_us=110.0, partitions=3, asked="npu")
    found = {name: metric.value for name, metric in metrics_of([make_samples([1.0])], report).items()}
    assert found["layers.sum"] == 100.0
    assert found["layers.whole"] == 110.0
    assert found["layers.partitions"] == 3.0
    assert found["layers.fallbacks"] == 1.0
    assert found["layers.fallback_share"] == pytest.approx(0.3)
    assert found["share.unit.NPU"] == pytest.approx(0.7)
    assert found["share.backend.cpu"] == pytest.approx(0.3)


def test_layers_that_take_no_time() -> None:
    report = LayerReport(layers=(layer(0, "cpu", 0.0),), via="profiler", whole_us=0.0, partitions=1, asked="npu")
    assert metrics_of([make_samples([1.0])], report)["layers.fallback_share"].value == 0.0


def test_moments_keep_their_units() -> None:
    found = {
        metric.name: metric.unit for metric in make_moment_metrics("before", {"load1": 0.5, "swap_used_bytes": 1.0})
    }
    assert found == {"before.load1": "1", "before.swap_used_bytes": "bytes"}
