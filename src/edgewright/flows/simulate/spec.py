"""The description of a fleet: a TOML file with arrivals and tiers."""

from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from edgewright.errors import ConfigError
from edgewright.formats.toml import TomlError, read_toml
from edgewright.prediction.queues import Draw, Floats, Tier
from edgewright.system.files import read_regular

_ADVICE = "docs/simulate.md has a commented example"
LARGEST_FILE = 100_000_000


class Arrivals(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests of the devices: `rate_per_s` is that of each one."""

    devices: int = 1
    rate_per_s: float


class TierLink(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The way to a tier and back: a round trip, and the bytes of a request at a rate.

    Attributes:
        trace: file with a line `rtt_ms,mbit` for each measurement; requests draw from it.
    """

    rtt_ms: float = 0.0
    mbit: float | None = None
    bytes: float = 0.0
    trace: str | None = None


class TierSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tier. `service_ms` is a constant, or a list of measured times; `profile` is a file with
    them: a list of microseconds, or a stored run.

    Attributes:
        servers: number, or "device" for one on each device.
    """

    name: str
    servers: int | str = 1
    service_ms: float | list[float] | None = None
    profile: str | None = None
    queue: int = 1_000_000
    share: float = 1.0
    link: TierLink = TierLink()


class _MeasuredSeries(Struct):
    name: str
    unit: str
    data: list[float]


class _RunPart(Struct):
    series: list[_MeasuredSeries]


class _MeasuredRun(Struct):
    """What is read of a stored run (edgewright.run/1)."""

    run: _RunPart


class FleetSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arrivals and tiers, from the device outward; the last tier answers all that reach it."""

    seconds: float = 60.0
    warmup_seconds: float = 0.0
    seed: int = 0
    arrivals: Arrivals
    tiers: list[TierSpec]


def read_fleet(path: Path) -> FleetSpec:
    """Return the fleet of a file. Raises ConfigError that names what is wrong with it."""
    try:
        fleet = msgspec.convert(read_toml(path)[0], FleetSpec)
    except (FileNotFoundError, TomlError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path} does not describe a fleet", str(error), _ADVICE) from None
    _check(path, fleet)
    return fleet


def _read_small(path: Path) -> bytes:
    """Return the content of a file that the fleet names; raise ConfigError if it cannot be read, or is too large."""
    try:
        return read_regular(path, LARGEST_FILE)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read", error.strerror or str(error), "check the path") from None


def _check(path: Path, fleet: FleetSpec) -> None:
    def reject(why: str) -> None:
        raise ConfigError(f"{path} does not describe a possible fleet", why, _ADVICE)

    numbers = [
        ("seconds", fleet.seconds, 0.001, 1e7),
        ("warmup_seconds", fleet.warmup_seconds, 0, fleet.seconds),
        ("seed", fleet.seed, 0, 2**63),
        ("arrivals.devices", fleet.arrivals.devices, 1, 1e7),
        ("arrivals.rate_per_s", fleet.arrivals.rate_per_s, 1e-9, 1e6),
    ]
    names = [one.name for one in fleet.tiers]
    if not names or len(set(names)) < len(names):
        reject("tiers need names that differ, and at least one is needed")
    for one in fleet.tiers:
        where = f"tiers.{one.name}"
        numbers += [(f"{where}.queue", one.queue, 0, 1e9), (f"{where}.share", one.share, 0, 1)]
        if isinstance(one.servers, str):
            if one.servers != "device":
                reject(f'{where}.servers is a number, or "device"')
        else:
            numbers.append((f"{where}.servers", one.servers, 1, 1e6))
        if (one.service_ms is None) == (one.profile is None):
            reject(f"{where} needs service_ms or profile")
        if isinstance(one.service_ms, list) and not one.service_ms:
            reject(f"{where}.service_ms is empty")
        times = one.service_ms if isinstance(one.service_ms, list) else [one.service_ms or 0.0]
        numbers += [(f"{where}.service_ms", value, 0, 1e9) for value in times]
        link = one.link
        numbers += [(f"{where}.link.rtt_ms", link.rtt_ms, 0, 1e9), (f"{where}.link.bytes", link.bytes, 0, 1e12)]
        numbers.append((f"{where}.link.mbit", 1.0 if link.mbit is None else link.mbit, 1e-6, 1e9))
    for name, value, low, high in numbers:
        if not low <= value <= high:
            reject(f"{name} is {value:g}, and it must be {low:g} to {high:g}")
    if fleet.arrivals.devices * fleet.arrivals.rate_per_s * fleet.seconds > 5e7:
        reject("it has more than 50 million requests: shorten seconds")


def make_tier(spec: TierSpec, folder: Path, random: np.random.Generator) -> Tier:
    """Return the tier with its draws. Raises ConfigError if a file of it cannot be read."""
    return Tier(
        name=spec.name,
        servers=spec.servers if isinstance(spec.servers, int) else None,
        queue=spec.queue,
        share=spec.share,
        service=_make_draw(_read_service(spec, folder), random),
        link=_make_link(spec, folder, random),
    )


def _make_draw(values: Floats, random: np.random.Generator) -> Draw:
    if len(values) == 1:
        return lambda count: np.full(count, values[0])
    return lambda count: random.choice(values, count)


def _read_service(spec: TierSpec, folder: Path) -> Floats:
    if spec.profile is None:
        return np.array(spec.service_ms if isinstance(spec.service_ms, list) else [spec.service_ms], dtype=float)
    path = folder / spec.profile
    try:
        found = msgspec.json.decode(_read_small(path), type=list[float] | _MeasuredRun)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no profile", str(error), _ADVICE) from None
    samples = found if isinstance(found, list) else _choose_latencies(found)
    if not samples or min(samples) < 0:
        why = "it is neither a list of microseconds nor a run with latencies"
        raise ConfigError(f"{path} is no profile", why, "edgewright runs show ID --json > profile.json")
    return np.array(samples, dtype=float) / 1e3


def _choose_latencies(run: _MeasuredRun) -> list[float]:
    return [value for one in run.run.series if one.name == "wall" and one.unit == "us" for value in one.data]


def _make_link(spec: TierSpec, folder: Path, random: np.random.Generator) -> Draw:
    link = spec.link
    if link.trace is None:
        rate = link.bytes * 8 / (link.mbit * 1e3) if link.mbit else 0.0
        return _make_draw(np.array([link.rtt_ms + rate]), random)
    path = folder / link.trace
    lines = _read_small(path).decode("utf-8", "replace").split()
    try:
        rows = np.array([[float(cell) for cell in line.split(",")] for line in lines if line[0].isdigit()])
        times = rows[:, 0] + (link.bytes * 8 / (rows[:, 1] * 1e3))
    except (ValueError, IndexError) as error:
        raise ConfigError(f"{path} is no link trace", str(error), "a line is rtt_ms,mbit") from None
    if not (np.isfinite(times).all() and (times >= 0).all() and len(times)):
        raise ConfigError(f"{path} is no link trace", "a time is negative or a rate is 0", "a line is rtt_ms,mbit")
    return _make_draw(times, random)
