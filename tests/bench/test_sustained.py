"""Sustained load: minutes, slowdown and deadlines from windows; and frames in the worker."""

from math import isnan, nan
from time import sleep

import pytest

from edgewright.bench.sustained import make_sustained_series, read_windows, summarize_frames, summarize_load
from edgewright.runtimes.wire import TimeRuns
from edgewright.runtimes.worker import _time_frames


def window(
    seconds: float, p50: float, temperature: float = nan, missed: int = 0, energy: float = nan
) -> dict[str, float]:
    return {
        "seconds": seconds,
        "p50": p50,
        "temperature": temperature,
        "frequency": 2_000_000.0,
        "frames": 50.0,
        "missed": float(missed),
        "energy": energy,
    }


def test_a_device_that_slows_down() -> None:
    windows = [window(5.0 * i, 100.0 if i < 13 else 150.0, 40.0 + i) for i in range(1, 25)]
    load = summarize_load(windows)
    assert load is not None
    assert [(one.minute, one.p50_us) for one in load.minutes] == [(1, 100.0), (2, 150.0)]
    assert load.minutes[0].temperature_c == 46.5
    assert load.minutes[0].frequency_mhz == 2000.0
    assert load.ratio == pytest.approx(100 / 150)
    assert load.throttled_at_s == 65.0
    assert load.why == {}


def test_a_device_that_does_not() -> None:
    load = summarize_load([window(5, 100), window(10, 130), window(15, 101)])
    assert load is not None
    assert load.throttled_at_s is None
    assert load.minutes[0].temperature_c is None
    assert load.why.keys() == {"throttled_at_s", "temperature_c"}
    assert summarize_load([]) is None


def test_deadlines() -> None:
    found = summarize_frames([window(5, 100, missed=2, energy=500), window(10, 100, missed=1, energy=1500)], 10.0)
    assert found is not None
    assert (found.frames, found.missed, found.uj_per_frame, found.why) == (100, 3, 20.0, "")
    unknown = summarize_frames([window(5, 100)], 10.0)
    assert unknown is not None
    assert (unknown.uj_per_frame, unknown.why) == (None, "the device has no energy counter")
    assert summarize_frames([window(5, 100)], None) is None


def test_windows_are_stored_as_series() -> None:
    windows = [window(5, 100, 40.0, 1), window(10, 120)]
    series = {one.name: one for one in make_sustained_series(windows)}
    again = read_windows(series)
    assert [one["p50"] for one in again] == [100, 120]
    assert isnan(again[1]["temperature"])
    assert read_windows({}) == []
    assert make_sustained_series([]) == ()


def test_frames_that_end_late_are_missed() -> None:
    """Every call takes longer than two intervals, so that at least two frames come meanwhile."""
    times = _time_frames(lambda: sleep(0.025), TimeRuns(runs=2, seconds=10, interval_ns=10_000_000))
    assert len(times.wall_ns) == len(times.cpu_ns) == 2
    assert times.missed >= 4
    assert _time_frames(lambda: None, TimeRuns(runs=3, seconds=0.0, interval_ns=10_000_000)).wall_ns == ()
