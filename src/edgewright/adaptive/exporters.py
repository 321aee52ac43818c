"""Counters, histograms and spans in the formats of Prometheus, OpenTelemetry and Perfetto.

Sources: the text exposition format 0.0.4 of Prometheus; OTLP/JSON 1.x, one ExportMetricsServiceRequest per line as the
collector's file receiver reads it; the Trace Event Format that Perfetto reads. Nothing here sends anything.
"""

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CUMULATIVE = 2  # AGGREGATION_TEMPORALITY_CUMULATIVE


class Histogram:
    """Counts of times in seconds by bucket; its size is fixed."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.sum += seconds


class MetricFamily(Struct, frozen=True):
    """The samples of one metric by their labels: a number, or a histogram."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    samples: Sequence[tuple[Mapping[str, str], float | Histogram]]


class TraceSpan(Struct, frozen=True, kw_only=True):
    """A piece of work on a thread, in microseconds."""

    name: str
    category: str
    thread: int
    start_us: float
    length_us: float
    values: Mapping[str, Any] = {}


def render_prometheus(families: Iterable[MetricFamily]) -> str:
    """Return the families as text."""
    return "\n".join((*(line for family in families for line in _list_lines(family)), ""))


def _list_lines(family: MetricFamily) -> Iterator[str]:
    yield f"# TYPE {family.name} {family.kind}"
    for labels, value in family.samples:
        if not isinstance(value, Histogram):
            yield f"{family.name}{_show_labels(labels)} {value:.16g}"
            continue
        below = 0
        for bound, number in zip((*BUCKETS_S, "+Inf"), value.counts, strict=True):
            below += number
            yield f"{family.name}_bucket{_show_labels({**labels, 'le': str(bound)})} {below}"
        yield f"{family.name}_sum{_show_labels(labels)} {value.sum:.6f}"
        yield f"{family.name}_count{_show_labels(labels)} {below}"


def _show_labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escape(text)}"' for name, text in labels.items()) + "}" if labels else ""


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def render_otlp(families: Iterable[MetricFamily], start_ns: int, now_ns: int) -> str:
    """Return the families as one line of OTLP/JSON; times are nanoseconds since 1970."""
    times = {"startTimeUnixNano": str(start_ns), "timeUnixNano": str(now_ns)}
    metrics = [_make_otlp_metric(one, times) for one in families]
    scope = {"scope": {"name": "edgewright"}, "metrics": metrics}
    resource = {"attributes": _list_attributes({"service.name": "edgewright"})}
    return json.dumps({"resourceMetrics": [{"resource": resource, "scopeMetrics": [scope]}]}, separators=(",", ":"))


def _make_otlp_metric(family: MetricFamily, times: Mapping[str, str]) -> dict[str, Any]:
    points = [
        {"attributes": _list_attributes(labels), **times, **_show_point(value)} for labels, value in family.samples
    ]
    total = {"aggregationTemporality": CUMULATIVE}
    shapes: dict[str, dict[str, Any]] = {
        "counter": {"sum": {"dataPoints": points, "isMonotonic": True, **total}},
        "gauge": {"gauge": {"dataPoints": points}},
        "histogram": {"histogram": {"dataPoints": points, **total}},
    }
    return {"name": family.name, **shapes[family.kind]}


def _show_point(value: float | Histogram) -> dict[str, Any]:
    if not isinstance(value, Histogram):
        return {"asDouble": value}
    counts = [str(one) for one in value.counts]
    return {"count": str(sum(value.counts)), "sum": value.sum, "bucketCounts": counts, "explicitBounds": BUCKETS_S}


def _list_attributes(labels: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"key": name, "value": {"stringValue": text}} for name, text in labels.items()]


def make_trace(
    process: str, threads: Mapping[int, str], spans: Iterable[TraceSpan], other: Mapping[str, str]
) -> dict[str, Any]:
    """Return the spans as a trace with one process; `other` is printed as its description."""
    events: list[dict[str, Any]] = [
        {"name": "process_name", "ph": "M", "pid": 1, "args": {"name": process}},
        *({"name": "thread_name", "ph": "M", "pid": 1, "tid": one, "args": {"name": threads[one]}} for one in threads),
    ]
    events += [
        {
            "name": span.name,
            "cat": span.category,
            "ph": "X",
            "pid": 1,
            "tid": span.thread,
            "ts": span.start_us,
            "dur": span.length_us,
            "args": dict(span.values),
        }
        for span in spans
    ]
    return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": dict(other)}
