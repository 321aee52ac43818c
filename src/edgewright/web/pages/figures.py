"""Figures of a run with their titles, in display order."""

import shlex
from collections.abc import Mapping

import msgspec
from markupsafe import Markup
from msgspec import Struct

from edgewright.bench.summary import parse_counts, read_chunk_medians
from edgewright.flows.candidates import get_flag
from edgewright.report.charts import run as charts
from edgewright.report.charts.run import BarSegment
from edgewright.report.numbers import format_exact, format_value, get_unit
from edgewright.schema.metrics import METRICS, get_metric_info
from edgewright.schema.plan import BenchmarkPlan
from edgewright.schema.run import Metric, Run

COLD_START_PHASES = (("start", "interpreter and imports"), ("load", "load"), ("first_inference", "first inference"))
MEMORY_PHASES = (("memory.before_load", "before load"), ("memory.after_load", "model loaded"), ("memory.peak", "peak"))
SENSORS = (("temperature", "Temperature"), ("frequency", "Frequency"), ("power", "Power"))
# Fields of a plan that `make_command` does not write as `--name value`. Inputs and a task's file are not in the store.
NO_OPTIONS = (
    *("schema", "candidates", "inputs", "inputs_sha256", "shapes", "fixed", "layers"),
    *("phase_task", "phase_data"),
)
UNIT_ORDER = ("CPU", "GPU", "NPU", "UNKNOWN")


class Figure(Struct, frozen=True, kw_only=True):
    """Main figure: title, value, interval and a note."""

    name: str
    title: str
    unit: str
    value: float | None
    low: float | None
    high: float | None
    note: str


def index_metrics(run: Run) -> dict[str, Metric]:
    """Return the metrics by name; the first one with a name counts."""
    return {metric.name: metric for metric in reversed(run.metrics)}


def list_figures(run: Run) -> list[Figure]:
    """Return the metrics of the run that have a title, in the order of `METRICS`."""
    metrics = index_metrics(run)
    titles = [(name, info.title) for name, info in METRICS.items() if info.title and name in metrics]
    return [_make_figure(metrics[name], title, run, metrics) for name, title in titles]


def _make_figure(metric: Metric, title: str, run: Run, metrics: Mapping[str, Metric]) -> Figure:
    return Figure(
        name=metric.name,
        title=title,
        unit=get_unit(metric),
        value=metric.value,
        low=metric.low,
        high=metric.high,
        note=_make_note(metric, run, metrics),
    )


def _make_note(metric: Metric, run: Run, metrics: Mapping[str, Metric]) -> str:
    """Return a short note for a main figure."""
    if metric.name == "energy":
        return run.tags.get("energy-evidence", "") if metric.value is not None else "no sensor"
    if metric.name == "latency.p50":
        confidence = metrics.get("latency.p50_confidence")
        share = f"{confidence.value:.0%} interval, " if confidence and confidence.value and metric.low else ""
        return f"{share}{metric.n:,} samples"
    if get_metric_info(metric.name).basis:
        return f"{metric.n:,} samples" if metric.low is None else f"95 % interval, {metric.n:,} samples"
    if metric.low is None:
        return ""
    return f"{metric.n:,} samples" if metric.name.endswith(".p50") else f"{metric.n:,} processes"


def find_series(run: Run, name: str) -> tuple[float, ...]:
    return next((series.data for series in run.series if series.name == name), ())


def find_main_samples(run: Run) -> tuple[str, tuple[float, ...]]:
    """Return name and values of the wall times, or of the longest series if there are none."""
    if wall := find_series(run, "wall"):
        return "wall", wall
    timed = [series for series in run.series if series.unit == "us"]
    longest = max(timed, key=lambda series: len(series.data), default=None)
    return (longest.name, longest.data) if longest and len(longest.data) > 1 else ("", ())


def count_process_samples(run: Run) -> list[int]:
    """Return the number of wall samples of each process."""
    return parse_counts(find_series(run, "wall.samples"))


def draw_distribution(run: Run) -> Markup:
    metrics = index_metrics(run)
    _, samples = find_main_samples(run)
    p50 = metrics.get("latency.p50")
    marks = [(name, metrics[f"latency.{name}"].value) for name in ("p50", "p90", "p99") if f"latency.{name}" in metrics]
    interval = (p50.low, p50.high) if p50 else (None, None)
    return charts.draw_histogram(samples, "us", marks, interval)


def draw_samples(run: Run) -> Markup:
    name, samples = find_main_samples(run)
    return charts.draw_over_time(samples, "us", count_process_samples(run) if name == "wall" else ())


def draw_sensors(run: Run) -> list[tuple[str, Markup]]:
    """Draw one small chart for each sensor that was read."""
    known = [(title, series) for name, title in SENSORS for series in run.series if series.name == name]
    drawn = [(title, charts.draw_over_time(series.data, series.unit, (), title, 110.0)) for title, series in known]
    return [(title, picture) for title, picture in drawn if picture]


def draw_cold_start(run: Run) -> Markup:
    return charts.draw_levels(_make_phase_segments(run, COLD_START_PHASES, "phase"), "us", "Cold start by phase")


def draw_memory(run: Run) -> Markup:
    return charts.draw_levels(_make_phase_segments(run, MEMORY_PHASES, "memory"), "bytes", "Memory by phase")


def _make_phase_segments(run: Run, names: tuple[tuple[str, str], ...], css: str) -> list[BarSegment]:
    metrics = index_metrics(run)
    known = [(metrics[name], title) for name, title in names if name in metrics and metrics[name].value is not None]
    return [BarSegment(css, title, metric.value or 0.0, _describe_metric(metric)) for metric, title in known]


def _describe_metric(metric: Metric) -> str:
    """Return a metric in one line, for a tooltip."""
    unit = get_unit(metric)
    interval = (
        f" ({format_value(metric.low, unit)} to {format_value(metric.high, unit)})" if metric.low is not None else ""
    )
    return f"{metric.name}: {format_exact(metric.value, unit)}{interval}, n = {metric.n}"


def draw_units(run: Run) -> Markup:
    """Draw the layer time per unit, divided by the evidence for the unit."""
    sizes: dict[tuple[str, str], float] = {}
    for layer in run.layers:
        if layer.median_us == layer.median_us:
            key = (layer.unit, layer.evidence)
            sizes[key] = sizes.get(key, 0.0) + layer.median_us
    order = sorted(sizes, key=lambda key: (UNIT_ORDER.index(key[0]) if key[0] in UNIT_ORDER else 9, key[1]))
    parts = [
        BarSegment(
            f"{unit.lower()} {evidence}",
            f"{unit} · {evidence}",
            sizes[unit, evidence],
            f"{unit}, {evidence}: {format_value(sizes[unit, evidence], 'us')}",
        )
        for unit, evidence in order
    ]
    return charts.draw_shares(parts, "Time per unit, with the evidence for the unit")


def compute_process_medians(run: Run) -> list[float]:
    """Return the median of each process's chunks."""
    return [sorted(chunks)[len(chunks) // 2] for chunks in read_chunk_medians(run) if chunks]


def draw_processes(run: Run) -> Markup:
    """Draw the process medians with the overall median and its interval; nothing for a single process."""
    medians, p50 = compute_process_medians(run), index_metrics(run).get("latency.p50")
    if len(medians) < 2 or p50 is None:
        return Markup("")
    return charts.draw_strip_plot([("", medians, p50.value, p50.low, p50.high)], "us", width=charts.WIDTH)


def make_command(run: Run) -> str:
    """Return the command that repeats the measurement without the store; empty if the plan is not valid."""
    try:
        plan = msgspec.convert(run.plan, BenchmarkPlan)
    except msgspec.ValidationError:
        return ""
    if run.kind != "benchmark" or run.model is None or not plan.candidates:
        return ""
    words = ["edgewright", "benchmark", run.model.name, "--runtime", run.runtime]
    usual = BenchmarkPlan(candidates=plan.candidates)
    for name in BenchmarkPlan.__struct_fields__:
        value = getattr(plan, name)
        if name not in NO_OPTIONS and value != getattr(usual, name):
            words += [get_flag(name), ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    words += [] if plan.layers else ["--no-layers"]
    words += ["--phases", "--task", "TASK.toml", "--data", plan.phase_data] if plan.phase_data else []
    for key, sizes in plan.shapes.items():
        words += ["--shape", f"{key}={','.join(map(str, sizes))}"]
    for key, numbers in plan.fixed.items():
        words += ["--fix", f"{key}={','.join(map(str, numbers))}"]
    for key, option in plan.candidates[0].options.items():
        words += ["-p", f"{key}={option}"]
    return shlex.join(words)
