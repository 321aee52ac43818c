"""Frames through the pipeline, and what happens to the stream when sensors, policies and variants fail."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from edgewright.adaptive import steering
from edgewright.adaptive.governor import BUILT_IN
from edgewright.adaptive.monitor import FRAMES, FrameRecord, Monitor
from edgewright.adaptive.pipeline import FrameQueue, Pipeline, StreamSettings
from edgewright.adaptive.policy import Action, StateMachine
from edgewright.adaptive.signals import SignalReading
from edgewright.adaptive.steering import Choice, Steering, SteeringHandlers

LONG_S = 60.0


class Adder:
    """Adds the frame to a running sum, which is a recurrent state, times a factor."""

    def __init__(self, name: str, factor: float = 1.0) -> None:
        self.name, self.factor, self.closed = name, factor, False

    def __call__(self, inputs: Mapping[str, Any], /) -> Mapping[str, Any]:
        assert not self.closed
        return {"sum": inputs["before"] + self.factor * inputs["x"]}

    def close(self) -> None:
        self.closed = True


def wait_for(done: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG_S
    while not done():
        assert time.monotonic() < end
        time.sleep(0.002)


def open_pipeline(monitor: Monitor, results: list[float], pre: Callable[[float], Any] = lambda x: {"x": x}) -> Pipeline:
    settings = StreamSettings(deadline_s=LONG_S, keep="every", carried={"before": "sum"}, start={"before": 0.0})
    pipeline = Pipeline(Adder("full"), pre, lambda outputs: outputs["sum"], monitor, settings)
    pipeline.on_end = lambda frame, result: results.append(result) if "post" in frame.stages else None
    return pipeline


def test_every_frame_is_run_in_order_and_the_state_survives_a_switch() -> None:
    monitor, results = Monitor(), list[float]()
    pipeline, lite = open_pipeline(monitor, results), Adder("lite", 10.0)
    for frame in range(20):
        pipeline.offer(float(frame))
    wait_for(lambda: len(results) == 20)
    pipeline.switch(Adder("unused"))
    pipeline.switch(lite)
    pipeline.offer(1.0)
    pipeline.close()
    assert results[:20] == [sum(range(one + 1)) for one in range(20)]
    assert results[20:] == [190.0 + 10.0]
    assert lite.closed and pipeline.variant == "lite"
    summary = monitor.summarize()
    assert (summary.frames, summary.on_time, summary.switches) == (21, 21, 1)
    assert summary.latency_p50_ms is not None and summary.latency_p50_ms >= 0


def test_an_error_fails_its_frame_only_and_is_noted_once() -> None:
    monitor, results = Monitor(), list[float]()

    def prepare(frame: float) -> dict[str, float]:
        if frame < 0:
            raise ValueError("negative")
        return {"x": frame}

    pipeline = open_pipeline(monitor, results, prepare)
    for one in (1.0, -1.0, -1.0, 2.0):
        pipeline.offer(one)
    pipeline.close()
    assert results == [1.0, 3.0]
    assert monitor.summarize().failed == 2
    assert [one.text for one in monitor.list_events() if one.kind == "error"][:1] == ["pre: ValueError: negative"]


def test_the_newest_frame_replaces_the_one_that_waits() -> None:
    queue = FrameQueue(1, replace=True)
    assert [queue.put(one) for one in (1, 2, 3)] == [None, 1, 2]
    assert queue.get() == 3
    queue.close()
    assert queue.get() is None
    assert queue.put(4) == 4


def test_frames_past_their_deadline_are_dropped_before_the_next_stage() -> None:
    monitor, results = Monitor(), list[Any]()
    pipeline = Pipeline(Adder("full"), lambda x: x, results.append, monitor, StreamSettings(deadline_s=1.0))
    pipeline.offer(1.0, offered_s=time.monotonic() - 2.0)
    pipeline.close()
    assert results == []
    assert monitor.summarize().dropped == 1


def test_the_duty_skips_frames_evenly() -> None:
    monitor, results = Monitor(), list[float]()
    pipeline = open_pipeline(monitor, results)
    pipeline.duty = 0.3
    for _ in range(100):
        pipeline.offer(1.0)
    pipeline.duty = 0.0
    pipeline.offer(1.0)
    pipeline.close()
    assert monitor.summarize().skipped == 71
    assert len(results) == 30


class Stubborn:
    """A policy that raises, hangs until it is released, and then chooses the lite variant."""

    state, why, action = "own", "because", Action("full")

    def __init__(self) -> None:
        self.calls, self.release = 0, threading.Event()

    def update(self, reading: SignalReading) -> None:
        self.calls += 1
        if self.calls == 1:
            raise ZeroDivisionError("own")
        self.release.wait(LONG_S)
        self.action = Action("lite", 0.5)


def choose(action: Action) -> Choice:
    return Choice(action.variant, action.duty)


def steer(pipeline: Pipeline, policy: steering.ExecutionPolicy, monitor: Monitor, **handlers: Any) -> Steering:
    defaults: dict[str, Any] = {"source": dict, "choose": choose, "load": Adder, "period_s": 0.001}
    return Steering(pipeline, policy, monitor, SteeringHandlers(**{**defaults, **handlers}))


def list_kinds(monitor: Monitor) -> set[str]:
    return {one.kind for one in monitor.list_events()}


def test_a_policy_that_raises_or_hangs_does_not_stop_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "HANG_S", 0.0)
    monitor, results, policy = Monitor(), list[float](), Stubborn()
    pipeline = open_pipeline(monitor, results)
    steered = steer(pipeline, policy, monitor)
    wait_for(lambda: {"policy", "hang"} <= list_kinds(monitor))
    pipeline.offer(1.0)
    wait_for(lambda: results == [1.0])
    policy.release.set()
    wait_for(lambda: pipeline.duty == 0.5)
    steered.close()
    pipeline.close()
    assert "ZeroDivisionError: own" in [one.text for one in monitor.list_events()]


def test_sensors_that_raise_and_a_variant_that_does_not_load_are_noted() -> None:
    monitor, results, loads = Monitor(), list[float](), list[str]()
    pipeline = open_pipeline(monitor, results)

    def read() -> dict[str, float]:
        if not loads:
            return {"temperature_c": 47.0, "battery_pct": -1.0}
        raise OSError("gone")

    def load(name: str) -> Adder:
        loads.append(name)
        raise MemoryError("no room")

    steered = steer(
        pipeline, StateMachine(BUILT_IN["none"]), monitor, source=read, load=load, choose=lambda _: Choice("lite", 1.0)
    )
    wait_for(lambda: {"load", "sensors"} <= list_kinds(monitor))
    pipeline.offer(1.0)
    steered.close()
    pipeline.close()
    assert results == [1.0]
    assert loads == ["lite"]  # the next attempt is half a minute later
    assert pipeline.variant == "full"


def test_memory_pressure_releases_caches_first(monkeypatch: pytest.MonkeyPatch) -> None:
    released = list[int]()
    monkeypatch.setattr(steering, "_release_memory", lambda: released.append(1))
    monitor, results = Monitor(), list[float]()
    pipeline = open_pipeline(monitor, results)
    steered = steer(pipeline, StateMachine(BUILT_IN["governor"]), monitor, source=lambda: {"pressure": 15.0})
    wait_for(lambda: bool(released))
    steered.close()
    pipeline.close()
    assert released == [1]


def test_the_monitor_has_a_fixed_size_and_three_exports() -> None:
    monitor = Monitor()
    for number in range(FRAMES + 10):
        stages = {"pre": (0.5, 0.502), "infer": (0.503, 0.513), "post": (0.514, 0.515)}
        monitor.add_frame(
            FrameRecord(number=number, offered_s=0.4, deadline_s=1.0, variant="full", outcome="on_time", stages=stages)
        )
    monitor.note("state", "lite: hot\n")
    monitor.set_reading(SignalReading(t_s=0.0, temperature_c=41.5))
    monitor.set_gauge("memory_bytes", 5e6)
    lines = monitor.render_prometheus().splitlines()
    assert f'edgewright_stream_frames_total{{outcome="on_time"}} {FRAMES + 10}' in lines
    assert f'edgewright_stream_seconds_bucket{{stage="infer",le="0.025"}} {FRAMES + 10}' in lines
    assert "edgewright_temperature_c 41.5" in lines and "edgewright_memory_bytes 5000000" in lines
    assert not any("battery" in line for line in lines)  # unknown is not 0
    (resource,) = json.loads(monitor.render_otlp())["resourceMetrics"]
    points = {one["name"]: one for one in resource["scopeMetrics"][0]["metrics"]}
    histogram = points["edgewright_stream_seconds"]["histogram"]["dataPoints"][0]
    assert len(histogram["bucketCounts"]) == len(histogram["explicitBounds"]) + 1
    assert histogram["count"] == str(FRAMES + 10)
    trace = monitor.make_trace()
    spans = [one for one in trace["traceEvents"] if one["ph"] == "X"]
    assert len(spans) == 3 * FRAMES  # the oldest frames are counted only
    assert spans[1]["ts"] == pytest.approx(103_000) and spans[1]["dur"] == pytest.approx(10_000)
    summary = monitor.summarize()
    assert (summary.frames, summary.on_time) == (FRAMES + 10, FRAMES + 10)
    assert summary.latency_p95_ms == pytest.approx(115.0)
