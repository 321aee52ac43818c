"""`heat`: speed and temperature of a device over time, as a scenario."""

from msgspec import Struct
from msgspec.structs import replace

from edgewright.errors import UsageError
from edgewright.prediction.heat import (
    DEVICE_CLASSES,
    UNCERTAINTY,
    HeatCurve,
    HeatParameters,
    ModelName,
    compute_band,
    compute_linear,
    find_duty_cycle,
    simulate_heat,
)

LONGEST_MINUTES = 24 * 60
RATED_MINUTE = 30
SECONDS_PER_HOUR = 3600


class HeatRequest(Struct, frozen=True, kw_only=True):
    """What is asked for; `power_w` and `ambient_c` replace those of the device class."""

    model: ModelName = "two-node"
    device_class: str = "flagship"
    minutes: int = 30
    load: float = 1.0
    power_w: float | None = None
    ambient_c: float | None = None
    limit_c: float = 43.0
    battery_wh: float = 17.0


class HeatReport(Struct, frozen=True, kw_only=True):
    """The answer (edgewright.heat/1); what the model does not give is None.

    Attributes:
        speed: shares of the full speed by minute, from minute 0; `low` and `high` are their band.
        temperature_c: of the body, by minute.
        speed_30: speed in minute 30 as a share of the full speed.
        duty_cycle: largest share of the time under load that keeps the body at or below `limit_c`.
        evidence: `scenario`, or `fitted` if the parameters come from a measured run.
    """

    schema: str = "edgewright.heat/1"
    model: str
    device_class: str | None
    minutes: int
    load: float
    speed: tuple[float, ...]
    low: tuple[float, ...] | None
    high: tuple[float, ...] | None
    temperature_c: tuple[float, ...]
    throttles_at_s: float | None
    speed_30: float | None
    battery_pct: float | None
    limit_c: float
    duty_cycle: float | None
    parameters: HeatParameters | None
    evidence: str
    answer: str
    notes: tuple[str, ...]


def predict_heat(request: HeatRequest) -> HeatReport:
    """Return the speed and the temperature by minute. Raises UsageError for values that mean nothing."""
    _check(request)
    if request.model == "linear":
        curve = compute_linear(request.minutes)
        note = "the linear model has no equilibrium: the temperature rises for ever, at any power"
        return _make_report(request, curve, None, (note,))
    parameters = _choose_parameters(request)
    curve = simulate_heat(parameters, request.minutes, request.load)
    return _make_report(request, curve, parameters, ())


def _make_report(
    request: HeatRequest, curve: HeatCurve, parameters: HeatParameters | None, notes: tuple[str, ...]
) -> HeatReport:
    band = compute_band(parameters, request.minutes, request.load) if parameters else None
    duty = find_duty_cycle(parameters, request.limit_c, request.minutes) if parameters else None
    used = curve.energy_j / SECONDS_PER_HOUR / request.battery_wh * 100 if curve.energy_j is not None else None
    return HeatReport(
        model=request.model,
        device_class=request.device_class if parameters else None,
        minutes=request.minutes,
        load=request.load,
        speed=tuple(round(one, 4) for one in curve.speed),
        low=tuple(round(one, 4) for one in band.low) if band else None,
        high=tuple(round(one, 4) for one in band.high) if band else None,
        temperature_c=tuple(round(one, 2) for one in curve.temperature_c),
        throttles_at_s=curve.throttles_at_s,
        speed_30=round(curve.speed[RATED_MINUTE - 1], 4) if request.minutes >= RATED_MINUTE else None,
        battery_pct=round(min(used, 100.0), 1) if used is not None else None,
        limit_c=request.limit_c,
        duty_cycle=round(duty, 2) if duty is not None else None,
        parameters=parameters,
        evidence="scenario",
        answer=_answer(request, curve, duty),
        notes=(f"scenario, speed ±{UNCERTAINTY:.0%}: no device was measured", *notes),
    )


def _answer(request: HeatRequest, curve: HeatCurve, duty: float | None) -> str:
    end = f"speed after {request.minutes} min: {curve.speed[-1]:.0%} of full at {curve.temperature_c[-1]:.0f} °C"
    start = "no throttling" if curve.throttles_at_s is None else f"throttles after {curve.throttles_at_s / 60:.1f} min"
    share = "" if duty is None else f"; {duty:.0%} of the time under load stays at or below {request.limit_c:g} °C"
    return f"Scenario, ±{UNCERTAINTY:.0%}: {start}; {end}{share}."


def _choose_parameters(request: HeatRequest) -> HeatParameters:
    known = DEVICE_CLASSES.get(request.device_class)
    if known is None:
        names = ", ".join(DEVICE_CLASSES)
        raise UsageError(f"--device-class {request.device_class} is unknown", f"known: {names}", "choose one of them")
    changes = {"power_w": request.power_w, "ambient_c": request.ambient_c}
    return replace(known, **{key: value for key, value in changes.items() if value is not None})


def _check(request: HeatRequest) -> None:
    limits = (
        ("--minutes", request.minutes, 1, LONGEST_MINUTES),
        ("--load", request.load, 0, 1),
        ("--power-w", request.power_w, 0, 100),
        ("--ambient-c", request.ambient_c, -40, 80),
        ("--limit-c", request.limit_c, -40, 120),
        ("--battery-wh", request.battery_wh, 0.01, 1000),
    )
    for name, value, low, high in limits:
        if value is not None and not low <= value <= high:
            raise UsageError(f"{name} {value:g} is not possible", f"it must be {low:g} to {high:g}", f"{name} {low:g}")
