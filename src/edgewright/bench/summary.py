"""From tapes to series and metrics, and back from stored series to what a verdict needs."""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from math import inf
from statistics import median

import numpy as np

from edgewright.bench.energy import Energy
from edgewright.bench.session import Tape
from edgewright.bench.statistics import median_interval
from edgewright.facts.run import LayerReport, Metric, Run, Series

PER_PROCESS: dict[str, tuple[str, Callable[[Tape], float | None]]] = {
    "start": ("us", lambda tape: tape.start_us),
    "import": ("us", lambda tape: tape.import_us),
    "load": ("us", lambda tape: tape.load_us),
    "first_inference": ("us", lambda tape: tape.first_us),
    "memory.before_load": ("bytes", lambda tape: tape.memory_before),
    "memory.after_load": ("bytes", lambda tape: tape.memory_loaded),
    "memory.peak": ("bytes", lambda tape: tape.memory_peak),
    "overhead.wall": ("ns", lambda tape: tape.calibration.wall_ns if tape.calibration else None),
    "overhead.cpu": ("ns", lambda tape: tape.calibration.cpu_ns if tape.calibration else None),
    "clock.resolution": ("ns", lambda tape: tape.calibration.resolution_ns if tape.calibration else None),
    "reference": ("us", lambda tape: tape.calibration.reference_us if tape.calibration else None),
    "warmup.samples": ("1", lambda tape: len(tape.warmup_us)),
    "warmup.steady": ("1", lambda tape: float(tape.steady)),
    "wall.samples": ("1", lambda tape: len(tape.wall_us)),
}


def make_series(tapes: Sequence[Tape]) -> tuple[Series, ...]:
    """Everything raw.

    Samples of all processes follow each other; `wall.samples` tells where each one ends, `chunk.samples` each chunk.
    """
    long = {
        "wall": [x for tape in tapes for x in tape.wall_us],
        "cpu": [x for tape in tapes for x in tape.cpu_us],
        "warmup": [x for tape in tapes for x in tape.warmup_us],
    }
    rows = [Series(name=name, unit="us", data=tuple(data)) for name, data in long.items()]
    counts = tuple(float(count) for tape in tapes for count in tape.chunks)
    rows.append(Series(name="chunk.samples", unit="1", data=counts))
    for name, (unit, read) in PER_PROCESS.items():
        values = [read(tape) for tape in tapes]
        if any(value is not None for value in values):
            data = tuple(float("nan") if value is None else float(value) for value in values)
            rows.append(Series(name=name, unit=unit, data=data))
    return (*rows, *sensor_series(tapes))


def sensor_series(tapes: Sequence[Tape]) -> list[Series]:
    """Temperature and frequency at the end of each chunk of samples, where there are sensors."""
    ends = [after for tape in tapes for _, after, _, _ in tape.readings]
    found = {
        "temperature": ("degC", [end.temperature_c for end in ends]),
        "frequency": ("kHz", [end.frequency_khz for end in ends]),
    }
    return [
        Series(name=name, unit=unit, data=tuple(value for value in values if value is not None))
        for name, (unit, values) in found.items()
        if any(value is not None for value in values)
    ]


def process_medians(tapes: Sequence[Tape]) -> list[float]:
    """Median wall time of each process that took samples, microseconds."""
    return [median(tape.wall_us) for tape in tapes if tape.wall_us]


def chunk_medians(tapes: Sequence[Tape]) -> list[list[float]]:
    """Median wall time of each chunk, microseconds: one list per process that took samples."""
    return [cut_medians(tape.wall_us, tape.chunks) for tape in tapes if tape.wall_us]


def stored_medians(run: Run) -> list[list[float]]:
    """`chunk_medians` from a run's series; what is no time (an imported run may hold anything) is left out."""
    series = {row.name: row.data for row in run.series}
    chunks = as_counts(series.get("chunk.samples", ()))
    found = []
    for samples in cut(series.get("wall", ()), as_counts(series.get("wall.samples", ()))):
        taken = chunks_of(len(samples), chunks)
        medians = [one for one in cut_medians(samples, taken) if 0 < one < inf]
        if medians:
            found.append(medians)
    return found


def as_counts(values: Sequence[float]) -> list[int]:
    """Counts that were stored as samples; what is none counts nothing."""
    return [int(value) if 0 <= value < inf else 0 for value in values]


def chunks_of(samples: int, chunks: list[int]) -> list[int]:
    """Take the sizes of one process's chunks off the front of the list; what they leave over is one chunk more."""
    taken: list[int] = []
    while sum(taken) < samples and chunks:
        taken.append(chunks.pop(0))
    return [*taken, samples - sum(taken)]


def cut(samples: Sequence[float], counts: Sequence[int]) -> list[Sequence[float]]:
    """The samples in pieces of these lengths."""
    ends = list(accumulate(counts))
    return [samples[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def cut_medians(samples: Sequence[float], counts: Sequence[int]) -> list[float]:
    return [median(piece) for piece in cut(samples, counts) if piece]


def make_metrics(
    tapes: Sequence[Tape], file_bytes: int, energy: Energy, report: LayerReport | None
) -> tuple[Metric, ...]:
    """The summaries of a run, in the order in which they are shown."""
    return (
        *timing("latency", [list(tape.wall_us) for tape in tapes]),
        *timing("cpu", [list(tape.cpu_us) for tape in tapes]),
        *(row for name in PER_PROCESS for row in process_metric(name, tapes)),
        *cold_start(tapes),
        Metric(name="model.file", unit="bytes", value=float(file_bytes)),
        Metric(name="energy", unit="uJ", value=energy.uj_per_inference, n=energy.inferences),
        *(layer_metrics(report) if report else ()),
    )


def timing(name: str, processes: Sequence[Sequence[float]]) -> list[Metric]:
    """p50 is the median of the processes' medians, with its interval; everything else is of all samples together."""
    middles = [median(samples) for samples in processes if samples]
    if not middles:
        return []
    pooled = np.concatenate([np.asarray(samples, dtype=np.float64) for samples in processes if samples])
    n = len(pooled)
    middle = median_interval(middles)
    rest = {
        "p90": np.percentile(pooled, 90),
        "p99": np.percentile(pooled, 99),
        "mean": pooled.mean(),
        "stdev": pooled.std(ddof=1) if n > 1 else 0.0,
        "min": pooled.min(),
        "max": pooled.max(),
    }
    return [
        Metric(name=f"{name}.p50", unit="us", value=middle.value, low=middle.low, high=middle.high, n=n),
        Metric(name=f"{name}.p50_confidence", unit="1", value=middle.confidence, n=len(middles)),
        *(Metric(name=f"{name}.{key}", unit="us", value=float(value), n=n) for key, value in rest.items()),
    ]


def process_metric(name: str, tapes: Sequence[Tape]) -> list[Metric]:
    """Median over the processes; the peak of memory is the highest of all."""
    unit, read = PER_PROCESS[name]
    values = [float(value) for tape in tapes if (value := read(tape)) is not None]
    if not values:
        return []
    if name == "memory.peak":  # the interval of a median does not bound it
        return [Metric(name=name, unit=unit, value=max(values), n=len(values))]
    return [interval_metric(name, unit, values)]


def interval_metric(name: str, unit: str, values: Sequence[float]) -> Metric:
    middle = median_interval(values)
    return Metric(name=name, unit=unit, value=middle.value, low=middle.low, high=middle.high, n=len(values))


def cold_start(tapes: Sequence[Tape]) -> list[Metric]:
    """Load and first inference in a fresh process, summed process by process."""
    values = [tape.load_us + tape.first_us for tape in tapes if tape.load_us and tape.first_us]
    return [interval_metric("cold_start", "us", values)] if values else []


def layer_metrics(report: LayerReport) -> list[Metric]:
    """The layers against the whole, and the share of time per unit and backend."""
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


def moment_metrics(when: str, moment: Mapping[str, float]) -> list[Metric]:
    """Load, pressure, free memory and swap as the device told them before or after the session."""
    return [
        Metric(name=f"{when}.{name}", unit="bytes" if name.endswith("_bytes") else "1", value=value)
        for name, value in moment.items()
    ]
