"""`simulate`: the latencies of a fleet, and the smallest number of servers that meets a goal."""

from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from edgewright.errors import UsageError
from edgewright.flows.simulate.spec import FleetSpec, make_tier, read_fleet
from edgewright.prediction.queues import FleetOutcome, draw_arrivals, simulate_tiers
from edgewright.schema.goals import Goal, parse_goals

PERCENTILES = {"latency": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0}
MOST_SERVERS = 100_000
BLOCKS = 20  # of the latencies, in order, for the interval


class TierReport(Struct, frozen=True, kw_only=True):
    """One tier; `servers` is None for one on each device."""

    name: str
    servers: int | None
    arrived: int
    answered: int
    dropped: int
    utilization: float
    wait_ms: float


class SimulationReport(Struct, frozen=True, kw_only=True):
    """Latencies of the answered requests (edgewright.simulation/1); None if none was answered.

    Attributes:
        low, high: 95 % interval of each percentile, from the latencies in 20 blocks of their order.
        dropped: requests that found a full queue. missed: goals that are missed, with their values.
    """

    schema: str = "edgewright.simulation/1"
    requests: int
    dropped: int
    p50_ms: float | None
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    low: dict[str, float]
    high: dict[str, float]
    utilization: dict[str, float]
    tiers: tuple[TierReport, ...]
    goal: str | None
    missed: tuple[str, ...]
    servers: dict[str, int]
    answer: str


def simulate_fleet(path: Path, *, goals: str = "", find: str = "") -> SimulationReport:
    """Simulate the fleet of a file.

    Args:
        goals: such as `p99<=200ms`; metrics are latency (median), p90, p95 and p99.
        find: a tier whose smallest number of servers that meets the goals is searched.

    Raises UsageError or ConfigError.
    """
    fleet = read_fleet(path)
    wanted = parse_goals(goals, tuple(PERCENTILES)) if goals else ()
    if any(one.is_relative for one in wanted):
        raise UsageError("a simulation has no reference", "x means times the reference", 'write "p99<=200ms"')
    if not find:
        return _report(fleet, _run(fleet, path.parent), wanted, {})
    if find not in [one.name for one in fleet.tiers]:
        names = ", ".join(one.name for one in fleet.tiers)
        raise UsageError(f"there is no tier {find}", f"{path} has {names}", "choose one of them")
    if not wanted:
        raise UsageError("a search needs a goal", "--find is the smallest number that meets it", '--goal "p99<=200ms"')
    servers = _find_servers(fleet, path.parent, find, wanted)
    best = _set_servers(fleet, find, servers)
    return _report(best, _run(best, path.parent), wanted, {find: servers})


def _run(fleet: FleetSpec, folder: Path) -> FleetOutcome:
    random = np.random.default_rng(fleet.seed)
    arrivals = draw_arrivals(fleet.arrivals.devices, fleet.arrivals.rate_per_s, fleet.seconds, random)
    tiers = [make_tier(one, folder, random) for one in fleet.tiers]
    return simulate_tiers(tuple(tiers), arrivals, random, fleet.warmup_seconds * 1e3)


def _set_servers(fleet: FleetSpec, name: str, servers: int) -> FleetSpec:
    tiers = [msgspec.structs.replace(one, servers=servers) if one.name == name else one for one in fleet.tiers]
    return msgspec.structs.replace(fleet, tiers=tiers)


def _find_servers(fleet: FleetSpec, folder: Path, name: str, goals: tuple[Goal, ...]) -> int:
    """Return the smallest number of servers for which every goal is met and nothing is dropped."""

    def meets(servers: int) -> bool:
        outcome = _run(_set_servers(fleet, name, servers), folder)
        return not any(one.dropped for one in outcome.tiers) and not _list_missed(outcome, goals)

    high = 1
    while not meets(high):
        if high >= MOST_SERVERS:
            what = f"no number of servers of {name} meets the goal"
            raise UsageError(what, f"{MOST_SERVERS} were tried", "look at the times of the other tiers and links")
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if meets(middle) else (middle, high)
    return high


def _list_missed(outcome: FleetOutcome, goals: tuple[Goal, ...]) -> tuple[str, ...]:
    """Return the goals that are missed with their values; all are if no request was answered."""
    missed = []
    for one in goals:
        if not len(outcome.latency_ms):
            missed.append(f"{one}: no request was answered")
            continue
        value = one.convert(float(np.percentile(outcome.latency_ms, PERCENTILES[one.metric])) * 1e3)
        if one.decide(value, value) == "missed":
            missed.append(f"{one}: it is {value:.4g} {one.unit}")
    return tuple(missed)


def _report(
    fleet: FleetSpec, outcome: FleetOutcome, goals: tuple[Goal, ...], servers: dict[str, int]
) -> SimulationReport:
    values: dict[str, float] = {}
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for name, share in PERCENTILES.items():
        if len(outcome.latency_ms):
            key = f"{'p50' if name == 'latency' else name}_ms"
            values[key] = float(np.percentile(outcome.latency_ms, share))
            low[key], high[key] = _get_interval(outcome, share, values[key])
    tiers = tuple(
        TierReport(
            name=one.name,
            servers=spec.servers if isinstance(spec.servers, int) else None,
            arrived=one.arrived,
            answered=one.answered,
            dropped=one.dropped,
            utilization=round(one.utilization, 4),
            wait_ms=round(one.wait_ms, 4),
        )
        for one, spec in zip(outcome.tiers, fleet.tiers, strict=True)
    )
    dropped, text = sum(one.dropped for one in outcome.tiers), ", ".join(map(str, goals))
    return SimulationReport(
        requests=outcome.tiers[0].arrived,
        dropped=dropped,
        p50_ms=values.get("p50_ms"),
        p90_ms=values.get("p90_ms"),
        p95_ms=values.get("p95_ms"),
        p99_ms=values.get("p99_ms"),
        low=low,
        high=high,
        utilization={one.name: one.utilization for one in tiers},
        tiers=tiers,
        goal=text or None,
        missed=_list_missed(outcome, goals),
        servers=servers,
        answer=_answer(values, dropped, servers, text),
    )


def _get_interval(outcome: FleetOutcome, share: float, value: float) -> tuple[float, float]:
    """Return the 95 % interval of a percentile from its values in blocks of the requests' order."""
    blocks = [float(np.percentile(one, share)) for one in np.array_split(outcome.latency_ms, BLOCKS) if len(one)]
    half = 2.093 * float(np.std(blocks, ddof=1)) / len(blocks) ** 0.5 if len(blocks) == BLOCKS else float("inf")
    return max(0.0, value - half), value + half


def _answer(values: dict[str, float], dropped: int, servers: dict[str, int], goals: str) -> str:
    if not values:
        return "No request was answered."
    found = "".join(f"{number} servers of {name} meet {goals}: " for name, number in servers.items())
    lost = "nothing is dropped" if not dropped else f"{dropped} requests are dropped"
    return (
        f"{found}p50 {values['p50_ms']:.1f} ms, p95 {values['p95_ms']:.1f} ms, p99 {values['p99_ms']:.1f} ms; {lost}."
    )
