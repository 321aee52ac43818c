"""Conversion of process samples to series and metrics, and of stored series to the input of verdicts."""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from math import inf
from statistics import median

import numpy as np

from edgewright.bench.energy import Energy, compute_energy
from edgewright.bench.session import ProcessSamples
from edgewright.bench.statistics import median_interval
from edgewright.schema.run import LayerReport, Metric, Run, Series

UNDISTURBED = 0.05  # share of inferences that no other program interrupts, even on a busy machine
BOUND_TOLERANCE = 0.05
PERCENTILES = {"latency": 50, "p90": 90, "p95": 95}
PER_PROCESS: dict[str, tuple[str, Callable[[ProcessSamples], float | None]]] = {
    "start": ("us", lambda process: process.start_us),
    "import": ("us", lambda process: process.import_us),
    "load": ("us", lambda process: process.load_us),
    "first_inference": ("us", lambda process: process.first_us),
    "memory.before_load": ("bytes", lambda process: process.memory_before),
    "memory.after_load": ("bytes", lambda process: process.memory_loaded),
    "memory.peak": ("bytes", lambda process: process.memory_peak),
    "overhead.wall": ("ns", lambda process: process.calibration.wall_ns if process.calibration else None),
    "overhead.cpu": ("ns", lambda process: process.calibration.cpu_ns if process.calibration else None),
    "clock.resolution": ("ns", lambda process: process.calibration.resolution_ns if process.calibration else None),
    "clock.error": ("us", lambda process: process.clock_error_us or None),
    "reference": ("us", lambda process: process.calibration.reference_us if process.calibration else None),
    "warmup.samples": ("1", lambda process: len(process.warmup_us)),
    "warmup.steady": ("1", lambda process: float(process.steady)),
    "wall.samples": ("1", lambda process: len(process.wall_us)),
}


def make_series(processes: Sequence[ProcessSamples], power_w: float | None = None) -> tuple[Series, ...]:
    """Return all raw samples as series; `energy` has the value of each process.

    Samples of all processes are concatenated; `wall.samples` has the count of each process, `chunk.samples` of each
    chunk.
    """
    long = {
        "wall": [x for process in processes for x in process.wall_us],
        "cpu": [x for process in processes for x in process.cpu_us],
        "warmup": [x for process in processes for x in process.warmup_us],
    }
    rows = [Series(name=name, unit="us", data=tuple(data)) for name, data in long.items()]
    counts = tuple(float(count) for process in processes for count in process.chunks)
    rows.append(Series(name="chunk.samples", unit="1", data=counts))
    for name, (unit, read) in PER_PROCESS.items():
        values = [read(process) for process in processes]
        if any(value is not None for value in values):
            data = tuple(float("nan") if value is None else float(value) for value in values)
            rows.append(Series(name=name, unit=unit, data=data))
    energies = [compute_energy([process], power_w).uj_per_inference for process in processes]
    if known := tuple(value for value in energies if value is not None):
        rows.append(Series(name="energy", unit="uJ", data=known))
    return (*rows, *_make_sensor_series(processes))


def make_inference_series(report: LayerReport | None) -> tuple[Series, ...]:
    """Return start and length of each layer in one profiled inference; empty if the runtime reports no starts."""
    spans = report.inference if report else ()
    return tuple(
        Series(name=f"inference.{name}", unit="us", data=data)
        for name, data in zip(("start", "length"), zip(*spans, strict=True), strict=False)
    )


def read_inference(run: Run) -> tuple[tuple[float, float], ...]:
    """Return what `make_inference_series` stored, if it has an entry for each layer; otherwise an empty tuple."""
    series = {one.name: one.data for one in run.series if one.name.startswith("inference.")}
    spans = tuple(zip(series.get("inference.start", ()), series.get("inference.length", ()), strict=False))
    return spans if len(spans) == len(run.layers) else ()


def _make_sensor_series(processes: Sequence[ProcessSamples]) -> list[Series]:
    """Return temperature and frequency at the end of each chunk, if there are sensors."""
    ends = [after for process in processes for _, after, _, _ in process.readings]
    found = {
        "temperature": ("degC", [end.temperature_c for end in ends]),
        "frequency": ("kHz", [end.frequency_khz for end in ends]),
    }
    return [
        Series(name=name, unit=unit, data=tuple(value for value in values if value is not None))
        for name, (unit, values) in found.items()
        if any(value is not None for value in values)
    ]


def compute_process_medians(processes: Sequence[ProcessSamples]) -> list[float]:
    """Return the median wall time of each process with samples, in microseconds."""
    return [median(process.wall_us) for process in processes if process.wall_us]


def compute_chunk_medians(processes: Sequence[ProcessSamples]) -> list[list[float]]:
    """Return the median wall time of each chunk in microseconds, one list per process with samples."""
    return [_compute_medians(process.wall_us, process.chunks) for process in processes if process.wall_us]


def is_processor_bound(run: Run) -> bool:
    """Return whether an inference occupies exactly one processor from begin to end, if nothing interrupts it.

    The wall time of undisturbed inferences is then their CPU time, which other programs hardly change.
    """
    series = {row.name: np.asarray(row.data) for row in run.series}
    wall, cpu = series.get("wall", np.zeros(0)), series.get("cpu", np.zeros(0))
    if len(wall) == 0 or len(wall) != len(cpu) or not (cpu > 0).all():
        return False
    return bool(abs(np.quantile(wall / cpu, UNDISTURBED) - 1) <= BOUND_TOLERANCE)


def read_chunk_medians(run: Run, times: str = "wall") -> list[list[float]]:
    """Return `compute_chunk_medians` of a run's stored series, without invalid values of imported runs.

    Args:
        times: `wall` or `cpu`.
    """
    series = {row.name: row.data for row in run.series}
    chunks = parse_counts(series.get("chunk.samples", ()))
    found = []
    for samples in _split_samples(series.get(times, ()), parse_counts(series.get("wall.samples", ()))):
        taken = _take_chunk_sizes(len(samples), chunks)
        medians = [one for one in _compute_medians(samples, taken) if 0 < one < inf]
        if medians:
            found.append(medians)
    return found


def read_process_values(run: Run, quantity: str) -> list[float]:
    """Return one positive value per process from a stored run's series.

    Args:
        quantity: `latency` for the median of the inference times, `p90` and `p95` for their percentiles, else the name
            of a series with one value per process.
    """
    series = {row.name: row.data for row in run.series}
    if (percentile := PERCENTILES.get(quantity)) is None:
        values = list(series.get(quantity, ()))
    else:
        processes = _split_samples(series.get("wall", ()), parse_counts(series.get("wall.samples", ())))
        values = [float(np.percentile(samples, percentile)) for samples in processes if samples]
    return [value for value in values if 0 < value < inf]


def parse_counts(values: Sequence[float]) -> list[int]:
    """Return counts that were stored as samples; an invalid value counts as 0."""
    return [int(value) if 0 <= value < inf else 0 for value in values]


def _take_chunk_sizes(samples: int, chunks: list[int]) -> list[int]:
    """Take the sizes of one process's chunks off the list's front; a remainder becomes one more chunk."""
    taken: list[int] = []
    while sum(taken) < samples and chunks:
        taken.append(chunks.pop(0))
    return [*taken, samples - sum(taken)]


def _split_samples(samples: Sequence[float], counts: Sequence[int]) -> list[Sequence[float]]:
    """Split the samples into parts of these lengths."""
    ends = list(accumulate(counts))
    return [samples[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def _compute_medians(samples: Sequence[float], counts: Sequence[int]) -> list[float]:
    return [median(piece) for piece in _split_samples(samples, counts) if piece]


def make_metrics(
    processes: Sequence[ProcessSamples], file_bytes: int, energy: Energy, report: LayerReport | None
) -> tuple[Metric, ...]:
    """Return the metrics of a run in display order."""
    return (
        *_summarize_times("latency", [list(process.wall_us) for process in processes], _find_clock_error(processes)),
        *_summarize_times("cpu", [list(process.cpu_us) for process in processes]),
        *(row for name in PER_PROCESS for row in _summarize_process_values(name, processes)),
        *_summarize_cold_start(processes),
        Metric(name="model.file", unit="bytes", value=float(file_bytes)),
        Metric(name="energy", unit="uJ", value=energy.uj_per_inference, n=energy.inferences),
        *(_make_layer_metrics(report) if report else ()),
    )


def _find_clock_error(processes: Sequence[ProcessSamples]) -> float:
    """Return the largest error of a sample from a coarse clock, microseconds."""
    return max((process.clock_error_us for process in processes), default=0.0)


def _summarize_times(name: str, processes: Sequence[Sequence[float]], error: float = 0.0) -> list[Metric]:
    """Return p50 as the median of the process medians with its interval, and other metrics over all samples.

    The error of the clock widens the interval on both sides.
    """
    middles = [median(samples) for samples in processes if samples]
    if not middles:
        return []
    pooled = np.concatenate([np.asarray(samples, dtype=np.float64) for samples in processes if samples])
    n = len(pooled)
    middle = median_interval(middles)
    low = None if middle.low is None else max(0.0, middle.low - error)
    high = None if middle.high is None else middle.high + error
    rest = {
        "p90": np.percentile(pooled, 90),
        "p99": np.percentile(pooled, 99),
        "mean": pooled.mean(),
        "stdev": pooled.std(ddof=1) if n > 1 else 0.0,
        "min": pooled.min(),
        "max": pooled.max(),
    }
    return [
        Metric(name=f"{name}.p50", unit="us", value=middle.value, low=low, high=high, n=n),
        Metric(name=f"{name}.p50_confidence", unit="1", value=middle.confidence, n=len(middles)),
        *(Metric(name=f"{name}.{key}", unit="us", value=float(value), n=n) for key, value in rest.items()),
    ]


def _summarize_process_values(name: str, processes: Sequence[ProcessSamples]) -> list[Metric]:
    """Return medians over the processes; for the peak memory the maximum."""
    unit, read = PER_PROCESS[name]
    values = [float(value) for process in processes if (value := read(process)) is not None]
    if not values:
        return []
    if name == "memory.peak":  # a maximum has no median interval
        return [Metric(name=name, unit=unit, value=max(values), n=len(values))]
    return [_make_interval_metric(name, unit, values)]


def _make_interval_metric(name: str, unit: str, values: Sequence[float]) -> Metric:
    middle = median_interval(values)
    return Metric(name=name, unit=unit, value=middle.value, low=middle.low, high=middle.high, n=len(values))


def _summarize_cold_start(processes: Sequence[ProcessSamples]) -> list[Metric]:
    """Return the sum of load and first inference, per fresh process."""
    values = [process.load_us + process.first_us for process in processes if process.load_us and process.first_us]
    return [_make_interval_metric("cold_start", "us", values)] if values else []


def _make_layer_metrics(report: LayerReport) -> list[Metric]:
    """Return the layers' sum against the whole inference, and the share of time per unit and backend."""
    total = sum(layer.median_us for layer in report.layers)
    fallback = sum(layer.median_us for layer in report.fallbacks())
    shares: dict[str, float] = {}
    for layer in report.layers:
        for key in (f"share.unit.{layer.unit}", f"share.backend.{layer.backend}"):
            shares[key] = shares.get(key, 0.0) + (layer.median_us / total if total else 0.0)
    return [
        Metric(name="layers.sum", unit="us", value=total, n=len(report.layers)),
        Metric(name="layers.whole", unit="us", value=report.whole_us),
        Metric(name="layers.partitions", unit="1", value=float(report.partitions)),
        Metric(name="layers.fallbacks", unit="1", value=float(len(report.fallbacks()))),
        Metric(name="layers.fallback_share", unit="1", value=fallback / total if total else 0.0),
        *(Metric(name=name, unit="1", value=share) for name, share in shares.items()),
    ]


def make_moment_metrics(when: str, moment: Mapping[str, float]) -> list[Metric]:
    """Return load, pressure, free memory and swap of the device before or after the session."""
    return [
        Metric(name=f"{when}.{name}", unit="bytes" if name.endswith("_bytes") else "1", value=value)
        for name, value in moment.items()
    ]
