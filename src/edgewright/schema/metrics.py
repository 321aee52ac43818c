"""What is known about each metric by its name: one table for the commands, the pages and the reports."""

from math import isfinite, log10
from typing import Literal, NamedTuple

EQUAL_DB = 200.0  # the largest value, which stands for bitwise equality


class MetricInfo(NamedTuple):
    """One row of the table.

    Attributes:
        title: what a page or a report calls it; "" for one that is not listed there.
        unit: its unit; `share` for a value from 0 to 1, "" where the recorded metric names its own.
        better: whether a higher or a lower value is better; "" if neither is.
        basis: `task` for a metric of a task's samples, `outputs` for a comparison with a reference's outputs, "" for a
            value that is measured once or per process.
        is_mean: whether it is a mean over samples, so that two runs can be compared sample by sample.
    """

    title: str
    unit: str = ""
    better: Literal["higher", "lower", ""] = ""
    basis: Literal["task", "outputs", ""] = ""
    is_mean: bool = False


UNKNOWN_METRIC = MetricInfo("")
# In the order in which pages show them.
METRICS: dict[str, MetricInfo] = {
    "latency.p50": MetricInfo("Median latency", "us", "lower"),
    "accuracy": MetricInfo("Accuracy", "share", "higher", "task", is_mean=True),
    "top1": MetricInfo("Top-1 accuracy", "share", "higher", "task", is_mean=True),
    "top5": MetricInfo("Top-5 accuracy", "share", "higher", "task", is_mean=True),
    "auc": MetricInfo("Area under ROC", "share", "higher", "task"),
    "map": MetricInfo("Mean average precision", "share", "higher", "task"),
    "map50": MetricInfo("Mean average precision at 0.5", "share", "higher", "task"),
    "mae": MetricInfo("Mean absolute error", "", "lower", "task", is_mean=True),
    "perplexity": MetricInfo("Perplexity", "", "lower", "task"),
    "agreement": MetricInfo("Agreement with reference", "share", "higher", "outputs", is_mean=True),
    "sqnr": MetricInfo("SQNR to reference", "dB", "higher", "outputs"),
    "latency.p90": MetricInfo("90th percentile", "us", "lower"),
    "cold_start": MetricInfo("Cold start", "us", "lower"),
    "memory.peak": MetricInfo("Peak memory", "bytes", "lower"),
    "model.file": MetricInfo("Model on disk", "bytes", "lower"),
    "energy": MetricInfo("Energy per inference", "uJ", "lower"),
    "cpu.p50": MetricInfo("CPU time, median", "us", "lower"),
    "artifact.bytes": MetricInfo("Artifact", "bytes", "lower"),
    "compile.seconds": MetricInfo("Compile time", "s", "lower"),
    "quantize.sqnr": MetricInfo("SQNR to source", "dB", "higher"),
    "quantize.seconds": MetricInfo("Quantization time", "s", "lower"),
    "numerics.sqnr": MetricInfo("SQNR to source", "dB", "higher"),
    "numerics.cosine": MetricInfo("Cosine to source", "1", "higher"),
    "numerics.max-abs": MetricInfo("Largest difference", "1", "lower"),
    "numerics.argmax-agreement": MetricInfo("Argmax agreement", "share", "higher"),
    "policy.on_time": MetricInfo("Frames on time", "share", "higher"),
    "policy.missed": MetricInfo("Frames missed", "share", "lower"),
    "policy.skipped": MetricInfo("Frames left out by the policy", "share"),
    "policy.switches": MetricInfo("Changes of the variant", "1"),
    "policy.kills": MetricInfo("Processes ended by the system", "1", "lower"),
    "policy.temperature": MetricInfo("Highest temperature", "C", "lower"),
    "layers.fallback_share": MetricInfo("", "share", "lower"),
    "latency.p50_confidence": MetricInfo("", "share"),
    "cpu.p50_confidence": MetricInfo("", "share"),
}
# Names of `evaluate` and of the demo for the share of correctly classified samples.
ACCURACIES = ("accuracy", "top1")


def get_metric_info(name: str) -> MetricInfo:
    """Return the row of a metric; a row without title, unit and direction for a metric that is not in the table."""
    return METRICS.get(name, UNKNOWN_METRIC)


def list_task_metrics() -> tuple[str, ...]:
    """Return the names of the metrics of a task's samples."""
    return tuple(name for name, info in METRICS.items() if info.basis == "task")


def is_share(name: str) -> bool:
    """Return whether the metric is a share, whose differences are given in points."""
    return get_metric_info(name).unit == "share" or name.startswith("share.")


def compute_sqnr_db(signal: float, noise: float) -> float:
    """Return 10 log10 of the power of a signal over that of the difference from it, within ±`EQUAL_DB`."""
    if noise <= 0.0:
        return EQUAL_DB
    if signal <= 0.0 or not isfinite(noise):
        return -EQUAL_DB
    return min(EQUAL_DB, 10 * log10(signal / noise))
