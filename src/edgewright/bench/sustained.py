"""Sustained load: candidates alternate for minutes at full speed or at a frame rate, with temperature and frequency."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from math import isnan, nan
from pathlib import Path
from statistics import median
from time import monotonic, sleep

from msgspec import Struct

from edgewright.bench.session import CandidateProcesses, ProcessSamples, capture_failure, end_on_failure, load_worker
from edgewright.devices.connection import Connection
from edgewright.devices.protocol import Device, Reading
from edgewright.runtimes.wire import TimeRuns, Times
from edgewright.schema.plan import BenchmarkPlan
from edgewright.schema.run import Series

WINDOW_SECONDS = 5.0
MAX_WINDOW_RUNS = 1_000_000
RATE_SECONDS = 10.0  # of a frame rate without a duration
SLOWER = 1.10  # than the fastest window: throttled
COOL_POLL_SECONDS = 2.0
COOL_SECONDS = 1800.0
FIELDS = ("seconds", "p50", "temperature", "frequency", "frames", "missed", "energy")
UNITS = {"seconds": "s", "p50": "us", "temperature": "C", "frequency": "kHz", "energy": "uJ"}

Progress = Callable[[str], None]


class SustainedMinute(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Medians of one minute, counted from 1; None if the device reports no value."""

    minute: int
    p50_us: float
    temperature_c: float | None
    frequency_mhz: float | None


class SustainedLoad(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Speed under load: `ratio` is the speed of the last minute over that of the fastest window.

    `throttled_at_s` is the time from the beginning after which an inference took 10 % longer than in the fastest
    window, in every window until the end; None if that did not happen. `why` has the reason of each value that is None.
    """

    minutes: tuple[SustainedMinute, ...]
    ratio: float | None
    throttled_at_s: float | None
    why: dict[str, str] = {}


class FrameDeadlines(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Inferences at a frame rate: those that did not end before the next frame are missed."""

    rate: float
    frames: int
    missed: int
    uj_per_frame: float | None = None
    why: str = ""


def cool_down(device: Device, plan: BenchmarkPlan, progress: Progress) -> str:
    """Wait until the device is cooler than the plan asks; return why it did not, or an empty text."""
    if plan.cool_below is None:
        return ""
    deadline = monotonic() + COOL_SECONDS
    while (celsius := device.sensors().temperature_c) is not None and celsius >= plan.cool_below:
        if monotonic() > deadline:
            return f"the device still had {celsius:.0f} °C after {COOL_SECONDS / 60:.0f} minutes"
        progress(f"cooling down: {celsius:.0f} °C, {plan.cool_below:g} °C is wanted")
        sleep(COOL_POLL_SECONDS)
    return "" if celsius is not None else "the device reports no temperature, so nobody waited for it to cool"


def sustain(
    device: Device, candidates: Sequence[CandidateProcesses], plan: BenchmarkPlan, logs: Path, progress: Progress
) -> None:
    """Run the candidates window by window in turn until the plan's time is over, each in one fresh process.

    Every candidate gets its windows in `sustained`; one that fails keeps those it has.
    """
    with ExitStack() as stack:
        workers: dict[int, Connection] = {}
        for position, candidate in enumerate(candidates):
            if candidate.failure is None:
                with capture_failure(candidate):
                    process = ProcessSamples(log=logs / f"sustained-{position}.log")
                    workers[position] = stack.enter_context(load_worker(device, candidate, process, plan))
        began = monotonic()
        duration = plan.sustain_seconds or RATE_SECONDS
        while workers and monotonic() - began < duration:
            progress(f"sustained load: {monotonic() - began:.0f} of {duration:.0f} s")
            for position in list(workers):
                left = duration - (monotonic() - began)
                if left > 0 and not _take_window(device, workers[position], candidates[position], plan, (began, left)):
                    workers.pop(position).end()


def _take_window(
    device: Device,
    worker: Connection,
    candidate: CandidateProcesses,
    plan: BenchmarkPlan,
    moment: tuple[float, float],
) -> bool:
    """Measure one window; return whether the candidate is still sound."""
    began, left = moment
    seconds = min(WINDOW_SECONDS, left)
    interval_ns = round(1e9 / plan.rate) if plan.rate else 0
    with capture_failure(candidate), end_on_failure(worker):
        before = device.sensors()
        command = TimeRuns(runs=MAX_WINDOW_RUNS, seconds=seconds, interval_ns=interval_ns)
        times = worker.ask(command, Times, expected_s=seconds)
        candidate.sustained.append(_make_window(monotonic() - began, times, before, device.sensors()))
    return candidate.failure is None


def _make_window(seconds: float, times: Times, before: Reading, after: Reading) -> dict[str, float]:
    energy = nan
    if before.energy_uj is not None and after.energy_uj is not None:
        energy = float(after.energy_uj - before.energy_uj)
    return {
        "seconds": seconds,
        "p50": median(times.wall_ns) / 1e3,
        "temperature": nan if after.temperature_c is None else after.temperature_c,
        "frequency": nan if after.frequency_khz is None else after.frequency_khz,
        "frames": float(len(times.wall_ns)),
        "missed": float(times.missed),
        "energy": energy,
    }


def make_sustained_series(windows: Sequence[Mapping[str, float]]) -> tuple[Series, ...]:
    """Return the windows as series of a run."""
    if not windows:
        return ()
    return tuple(
        Series(name=f"sustained.{name}", unit=UNITS.get(name, "1"), data=tuple(one[name] for one in windows))
        for name in FIELDS
    )


def read_windows(series: Mapping[str, Series]) -> list[dict[str, float]]:
    """Return the windows of a stored run."""
    columns = [series[f"sustained.{name}"].data for name in FIELDS if f"sustained.{name}" in series]
    if len(columns) != len(FIELDS):
        return []
    return [dict(zip(FIELDS, row, strict=True)) for row in zip(*columns, strict=False)]


def summarize_load(windows: Sequence[Mapping[str, float]]) -> SustainedLoad | None:
    """Return the minutes and the slowdown of a candidate's windows; None without any."""
    if not windows:
        return None
    minutes = tuple(_list_minutes(windows))
    fastest = min(one["p50"] for one in windows)
    throttled = _find_throttling(windows, fastest)
    why = {}
    if throttled is None:
        why["throttled_at_s"] = "no lasting slowdown of 10 % was observed"
    for name in ("temperature_c", "frequency_mhz"):
        if all(getattr(one, name) is None for one in minutes):
            why[name] = "the device has no sensor for it"
    return SustainedLoad(minutes=minutes, ratio=fastest / minutes[-1].p50_us, throttled_at_s=throttled, why=why)


def _list_minutes(windows: Sequence[Mapping[str, float]]) -> Iterator[SustainedMinute]:
    grouped: dict[int, list[Mapping[str, float]]] = {}
    for one in windows:
        grouped.setdefault(int(max(0.0, one["seconds"] - 1e-6) // 60), []).append(one)
    for minute, rows in sorted(grouped.items()):
        khz = _find_median(rows, "frequency")
        yield SustainedMinute(
            minute=minute + 1,
            p50_us=median(one["p50"] for one in rows),
            temperature_c=_find_median(rows, "temperature"),
            frequency_mhz=None if khz is None else khz / 1e3,
        )


def _find_median(rows: Sequence[Mapping[str, float]], name: str) -> float | None:
    known = [one[name] for one in rows if not isnan(one[name])]
    return median(known) if known else None


def _find_throttling(windows: Sequence[Mapping[str, float]], fastest: float) -> float | None:
    """Return the end of the first window of the slow ones at the end."""
    slow = [one["p50"] > SLOWER * fastest for one in windows]
    if not slow[-1] or all(slow):
        return None
    last_fast = len(slow) - 1 - slow[::-1].index(False)
    return windows[last_fast + 1]["seconds"]


def summarize_frames(windows: Sequence[Mapping[str, float]], rate: float | None) -> FrameDeadlines | None:
    """Return the missed frames; None without a rate."""
    if not windows or not rate:
        return None
    frames = int(sum(one["frames"] for one in windows))
    energy = sum(one["energy"] for one in windows)  # NaN if any is unknown
    return FrameDeadlines(
        rate=rate,
        frames=frames,
        missed=int(sum(one["missed"] for one in windows)),
        uj_per_frame=None if isnan(energy) or not frames else energy / frames,
        why="the device has no energy counter" if isnan(energy) else "",
    )
