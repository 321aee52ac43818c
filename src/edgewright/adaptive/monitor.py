"""What happens in a stream: times of its frames, states and events, in memory of a fixed size.

Exports are files and texts; nothing is sent. A summary has no identifiers, times of day, paths or inputs.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from msgspec import Struct

from edgewright.adaptive.exporters import Histogram, MetricFamily, TraceSpan, make_trace, render_otlp, render_prometheus
from edgewright.adaptive.signals import RANGES, SignalReading

FRAMES, EVENTS = 4096, 256  # kept; what is older is counted only
STAGES = ("pre", "infer", "post")
LONGEST_TEXT = 300

Outcome = Literal["on_time", "late", "dropped", "skipped", "failed"]
OUTCOMES: tuple[Outcome, ...] = ("on_time", "late", "dropped", "skipped", "failed")


class FrameRecord(Struct, kw_only=True):
    """One frame: when it was offered, and start and end of its stages, in seconds of a clock that does not jump.

    `late` frames have results after their deadline; `dropped` ones were replaced by newer frames or past their
    deadline; `skipped` ones were left out by the policy; `failed` ones raised an error. `token` is what the
    caller gave with the frame.
    """

    number: int
    offered_s: float
    deadline_s: float
    variant: str = ""
    outcome: Outcome = "dropped"
    stages: dict[str, tuple[float, float]] = {}
    token: Any = None


class MonitorEvent(Struct, frozen=True, kw_only=True):
    """Something that happened once: a change of the state, a sensor that vanished, a variant that failed."""

    t_s: float
    kind: str
    text: str


class StreamSummary(Struct, frozen=True, kw_only=True):
    """Counts and quantiles of a stream; times in milliseconds over the frames that are kept, None without any."""

    frames: int
    on_time: int
    late: int
    dropped: int
    skipped: int
    failed: int
    switches: int
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    events: dict[str, int]


class Monitor:
    """Records frames and events. Calls may come from several threads."""

    def __init__(self) -> None:
        self._frames: deque[FrameRecord] = deque(maxlen=FRAMES)
        self._events: deque[MonitorEvent] = deque(maxlen=EVENTS)
        self._outcomes: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        self._times = {one: Histogram() for one in (*STAGES, "queue")}
        self._reading: SignalReading | None = None
        self._gauges: dict[str, float] = {}
        self._started_ns = time.time_ns()
        self._lock = threading.Lock()

    def add_frame(self, frame: FrameRecord) -> None:
        """Add a frame that has left the stream."""
        with self._lock:
            self._frames.append(frame)
            self._outcomes[frame.outcome] += 1
            before = frame.offered_s
            for stage, (start, end) in frame.stages.items():
                self._times["queue"].add(max(0.0, start - before))
                self._times[stage].add(end - start)
                before = end

    def note(self, kind: str, text: str) -> None:
        """Add an event."""
        with self._lock:
            self._events.append(MonitorEvent(t_s=time.monotonic(), kind=kind, text=text[:LONGEST_TEXT]))
            self._kinds[kind] += 1

    def set_reading(self, reading: SignalReading) -> None:
        """Set the signals that are shown as gauges."""
        self._reading = reading

    def set_gauge(self, name: str, value: float) -> None:
        """Set a further gauge, such as memory in bytes."""
        self._gauges[name] = value

    def list_events(self) -> Sequence[MonitorEvent]:
        """Return the newest events, the oldest first."""
        with self._lock:
            return tuple(self._events)

    def summarize(self) -> StreamSummary:
        """Return counts and quantiles."""
        with self._lock:
            ended = [one for one in self._frames if one.outcome in ("on_time", "late")]
            counts = {name: self._outcomes[name] for name in OUTCOMES}
            events = dict(self._kinds)
        times = sorted((max(end for _, end in one.stages.values()) - one.offered_s) * 1e3 for one in ended)
        return StreamSummary(
            frames=sum(counts.values()),
            **counts,
            switches=events.get("switch", 0),
            latency_p50_ms=times[len(times) // 2] if times else None,
            latency_p95_ms=times[int(len(times) * 0.95)] if times else None,
            events=events,
        )

    def render_prometheus(self) -> str:
        """Return all counters as text for Prometheus."""
        with self._lock:
            return render_prometheus(self._list_families())

    def render_otlp(self) -> str:
        """Return all counters as one line of OTLP/JSON, for a file."""
        with self._lock:
            return render_otlp(self._list_families(), self._started_ns, time.time_ns())

    def make_trace(self) -> dict[str, Any]:
        """Return the kept frames as a trace for Perfetto, with a thread for each stage."""
        with self._lock:
            frames = tuple(self._frames)
        origin = frames[0].offered_s if frames else 0.0
        spans = [span for frame in frames for span in _list_spans(frame, origin)]
        return make_trace("edgewright stream", dict(enumerate(STAGES)), spans, {"frames": str(len(frames))})

    def _list_families(self) -> Iterator[MetricFamily]:
        frames = [({"outcome": name}, float(self._outcomes[name])) for name in OUTCOMES]
        yield MetricFamily("edgewright_stream_frames_total", "counter", frames)
        events = [({"kind": kind}, float(number)) for kind, number in sorted(self._kinds.items())]
        yield MetricFamily("edgewright_stream_events_total", "counter", events)
        times = [({"stage": stage}, histogram) for stage, histogram in self._times.items()]
        yield MetricFamily("edgewright_stream_seconds", "histogram", times)
        known = {name: getattr(self._reading, name) for name in RANGES} if self._reading else {}
        for name, value in {**known, **self._gauges}.items():
            if value is not None:
                yield MetricFamily(f"edgewright_{name}", "gauge", [({}, float(value))])


def _list_spans(frame: FrameRecord, origin: float) -> Iterator[TraceSpan]:
    for stage, (start, end) in frame.stages.items():
        yield TraceSpan(
            name=f"{stage} {frame.number}",
            category=frame.outcome,
            thread=STAGES.index(stage),
            start_us=(start - origin) * 1e6,
            length_us=(end - start) * 1e6,
            values={"variant": frame.variant},
        )
