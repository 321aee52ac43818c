"""Heat models keep energy, throttle at their trips, and give the linear rule's values."""

import csv
import statistics
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.prediction.heat import (
    DEVICE_CLASSES,
    HeatParameters,
    TwoNodeDevice,
    compute_band,
    compute_linear,
    find_duty_cycle,
    simulate_heat,
)

RECORDINGS = Path(__file__).parents[3] / "shared/data/latency"


@settings(max_examples=25, deadline=None)
@given(
    power=st.floats(0, 15),
    ambient=st.floats(-20, 45),
    start=st.floats(-20, 60),
    load=st.floats(0, 1),
    body=st.floats(40, 200),
    resistance=st.floats(1, 10),
)
def test_energy_is_neither_made_nor_lost(
    power: float, ambient: float, start: float, load: float, body: float, resistance: float
) -> None:
    """What was produced is either stored in the two nodes or given to the air."""
    parameters = HeatParameters(
        levels=(1.0, 0.6), trips_c=(45.0,), power_w=power, ambient_c=ambient, body_j_k=body, body_k_w=resistance
    )
    device = TwoNodeDevice(parameters, start)
    for _ in range(600):
        device.advance(load)
    state = device.state
    stored = parameters.board_j_k * (state.board_c - start) + parameters.body_j_k * (state.body_c - start)
    assert state.produced_j - state.lost_j == pytest.approx(stored, abs=1e-6 * max(1.0, state.produced_j))


def test_linear_rule() -> None:
    curve = compute_linear(30)
    assert [round(curve.speed[minute], 4) for minute in (10, 11, 12)] == [1.0, 0.9333, 0.8667]
    assert set(curve.speed[18:]) == {0.5}
    assert curve.throttles_at_s == 660


def test_a_stronger_load_is_never_cooler_and_never_faster() -> None:
    for parameters in DEVICE_CLASSES.values():
        light, full = simulate_heat(parameters, 30, 0.4), simulate_heat(parameters, 30)
        assert all(one <= other for one, other in zip(light.temperature_c, full.temperature_c, strict=True))
        assert sum(light.speed) >= sum(full.speed)


def test_the_governor_steps_back_only_below_the_hysteresis() -> None:
    parameters = HeatParameters(levels=(1.0, 0.5), trips_c=(40.0,), hysteresis_k=3.0)
    device = TwoNodeDevice(parameters, 45.0)
    assert device.advance(0.0) == 0.5
    while device.speed < 1:
        above = device.state.board_c
        device.advance(0.0)
    assert above < 37.0


def test_end_speeds_of_the_classes_are_those_of_recorded_phones() -> None:
    """Ranges after 30 minutes, from the recordings: flagship .5–.77, upper middle .77, middle .85–1."""
    end = {name: simulate_heat(one, 30).speed[-1] for name, one in DEVICE_CLASSES.items()}
    assert 0.5 <= end["flagship"] <= 0.77
    assert end["upper-mid"] == pytest.approx(0.77)
    assert 0.85 <= end["mid"] <= 1.0


def test_the_band_holds_the_class_itself() -> None:
    for parameters in DEVICE_CLASSES.values():
        band, curve = compute_band(parameters, 30), simulate_heat(parameters, 30)
        assert all(a <= b <= c for a, b, c in zip(band.low, curve.speed, band.high, strict=True))


def test_duty_cycle_keeps_the_temperature() -> None:
    parameters = DEVICE_CLASSES["upper-mid"]
    share = find_duty_cycle(parameters, 38.0, 30)
    assert 0.1 < share < 0.9
    assert max(simulate_heat(parameters, 30, share).temperature_c) <= 38.0
    assert max(simulate_heat(parameters, 30, share + 0.02).temperature_c) > 38.0
    assert find_duty_cycle(parameters, 24.0, 30) == 0.0
    assert find_duty_cycle(parameters, 90.0, 30) == 1.0


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recordings of phones are not in ../shared/data")
def test_recorded_phones_are_reproduced_with_their_fitted_parameters() -> None:
    """The fits are given with the recordings; this checks that the equations are those they were fitted with."""
    with (RECORDINGS / "thermal_rc_fits.csv").open() as file:
        fits = {row["run"]: row for row in csv.DictReader(file)}
    with (RECORDINGS / "thermal_sustained.csv").open() as file:
        rows = list(csv.DictReader(file))
    for run in ("pixel8pro_g3_clean", "s24fe_exynos2400e", "m53_dimensity900"):
        own = [row for row in rows if row["run"] == run]
        curve = simulate_heat(make_parameters(fits[run]), len(own), start_c=float(own[0]["battery_temp_c"]))
        latency = [float(row["median_ms"]) for row in own]
        scale = statistics.median(one * speed for one, speed in zip(latency, curve.speed, strict=True))
        errors = [abs(scale / speed / one - 1) for speed, one in zip(curve.speed, latency, strict=True)]
        assert statistics.mean(errors) < 0.06, run


def make_parameters(fit: dict[str, str]) -> HeatParameters:
    levels = tuple(float(one) for one in fit["levels"].split("/"))
    trips = [float(fit["trip1"]) + float(fit["gaps"] or 0) * step for step in range(len(levels) - 1)]
    return HeatParameters(
        levels=levels,
        trips_c=tuple(trips),
        hysteresis_k=float(fit["hyst"]),
        body_j_k=float(fit["C_body_J_K"]),
        body_k_w=float(fit["R_body_K_W"]),
        board_j_k=float(fit["C_board"]),
        board_k_w=float(fit["R_board"]),
        power_w=float(fit["P_full_W"]),
        leak_per_k=float(fit["leak_per_K"]),
        voltage_floor=float(fit["v_floor"]),
        idle_w=float(fit["P_charge_W"]),
        ambient_c=float(fit["T_amb"]),
    )
