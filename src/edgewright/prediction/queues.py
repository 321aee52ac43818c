"""Requests that pass through tiers of servers: device, edge, cloud. A simulation with queues.

A request is answered by a tier or goes on to the next one, so that a tier's arrivals never depend on a later tier: the
tiers are simulated one after the other, each in the order of arrivals. A tier has servers that take the first waiting
request (FIFO), or one server for each device.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heapreplace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
# Milliseconds for each of n requests.
Draw = Callable[[int], Floats]


@dataclass(frozen=True)
class Tier:
    """One tier.

    Attributes:
        servers: number of servers; None for one server per device.
        queue: largest number of requests that wait at the tier, or at each device; further ones are dropped.
        share: of the requests that it answers; the others go on.
        service, link: draw the times of the inference, and of the way to the tier and back.
    """

    name: str
    servers: int | None
    queue: int
    share: float
    service: Draw
    link: Draw


@dataclass(frozen=True)
class TierOutcome:
    """What a tier did: requests that came, were dropped and answered, busy share, and the mean time in the queue."""

    name: str
    arrived: int
    dropped: int
    answered: int
    utilization: float
    wait_ms: float


@dataclass(frozen=True)
class FleetOutcome:
    """Latencies of the answered requests in milliseconds, and the tiers."""

    latency_ms: Floats
    tiers: tuple[TierOutcome, ...]


def draw_arrivals(
    devices: int, rate_per_s: float, seconds: float, random: np.random.Generator
) -> tuple[Floats, Integers]:
    """Return times in milliseconds and devices of independent requests at a constant mean rate of each device."""
    count = int(random.poisson(devices * rate_per_s * seconds))
    times = np.sort(random.uniform(0, seconds * 1e3, count))
    return times, random.integers(0, devices, count)


def simulate_tiers(
    tiers: tuple[Tier, ...], arrivals: tuple[Floats, Integers], random: np.random.Generator, warmup_ms: float = 0.0
) -> FleetOutcome:
    """Return the latencies, without requests that arrive in the warm-up, and the outcome of each tier."""
    times, devices = arrivals
    born = times.copy()
    span = float(times[-1]) if len(times) else 1.0
    latencies, outcomes = [], []
    for number, tier in enumerate(tiers):
        way = tier.link(len(times))
        order = np.argsort(times + way / 2, kind="stable")
        times, devices, born, way = times[order] + way[order] / 2, devices[order], born[order], way[order]
        service = tier.service(len(times))
        starts = (
            _run_per_device(times, service, devices, tier.queue) if tier.servers is None else _run(times, service, tier)
        )
        taken = np.isfinite(starts)
        done = starts + service + way / 2
        is_last = number == len(tiers) - 1  # there is nowhere to go on to
        is_answered = taken & (is_last | (random.random(len(times)) < tier.share))
        latencies.append((done - born)[is_answered & (born >= warmup_ms)])
        outcomes.append(_sum_up(tier, times, starts, service, span, len(set(devices.tolist()))))
        goes_on = taken & ~is_answered
        times, devices, born = done[goes_on], devices[goes_on], born[goes_on]
    return FleetOutcome(np.concatenate(latencies) if latencies else np.zeros(0), tuple(outcomes))


def _sum_up(tier: Tier, times: Floats, starts: Floats, service: Floats, span: float, devices: int) -> TierOutcome:
    taken = np.isfinite(starts)
    busy = float(service[taken].sum())
    end = max(span, float((starts + service)[taken].max())) if taken.any() else span
    return TierOutcome(
        name=tier.name,
        arrived=len(times),
        dropped=int((~taken).sum()),
        answered=int(taken.sum()),
        utilization=busy / (end * (tier.servers or max(devices, 1))),
        wait_ms=float((starts - times)[taken].mean()) if taken.any() else 0.0,
    )


def _run(times: Floats, service: Floats, tier: Tier) -> Floats:
    """Return when each request is started; inf if it is dropped. The servers take turns as they become free."""
    free = [0.0] * (tier.servers or 1)
    waiting: deque[float] = deque()  # when those that wait will start; it never decreases
    starts = np.full(len(times), np.inf)
    for number, (time, need) in enumerate(zip(times.tolist(), service.tolist(), strict=True)):
        while waiting and waiting[0] <= time:
            waiting.popleft()
        start = max(time, free[0])
        if start > time:
            if len(waiting) >= tier.queue:
                continue
            waiting.append(start)
        heapreplace(free, start + need)
        starts[number] = start
    return starts


def _run_per_device(times: Floats, service: Floats, devices: Integers, queue: int) -> Floats:
    free: dict[int, float] = {}
    waiting: dict[int, deque[float]] = {}
    starts = np.full(len(times), np.inf)
    rows = zip(times.tolist(), service.tolist(), devices.tolist(), strict=True)
    for number, (time, need, device) in enumerate(rows):
        own = waiting.setdefault(device, deque())
        while own and own[0] <= time:
            own.popleft()
        start = max(time, free.get(device, 0.0))
        if start > time:
            if len(own) >= queue:
                continue
            own.append(start)
        free[device] = start + need
        starts[number] = start
    return starts
