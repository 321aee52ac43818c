"""Policies: what the governor does, wrong sensors, and files that are no policy."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.adaptive.governor import BUILT_IN
from edgewright.adaptive.policy import StateMachine, read_policy
from edgewright.adaptive.signals import RANGES, SignalFilter
from edgewright.adaptive.trace import read_trace, replay_trace
from edgewright.errors import ConfigError, DataError

GOVERNOR = BUILT_IN["governor"]
Row = tuple[float, dict[str, float | None]]


def replay(rows: list[Row]) -> list[str]:
    return [one.state for one in replay_trace(GOVERNOR, rows)]


def hold(seconds: int, start: int = 0, /, **values: float | None) -> list[Row]:
    return [(float(start + second), values) for second in range(seconds)]


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({"temperature_c": 30.0, "battery_pct": 80.0}, "full"),
        ({"temperature_c": 40.0}, "lite"),
        ({"temperature_c": 42.0}, "duty"),
        ({"temperature_c": 44.0}, "pause"),
        ({"temperature_c": 47.0}, "pause"),
        ({"headroom": 1.0}, "lite"),
        ({"headroom": 1.2}, "duty"),
        ({"battery_pct": 15.0, "charging": 0.0}, "lite"),
        ({"battery_pct": 15.0, "charging": 1.0}, "full"),
        ({"battery_pct": 8.0}, "duty"),
        ({"battery_pct": 2.0}, "pause"),
        ({"saver": 1.0}, "lite"),
        ({"pressure": 30.0}, "lite"),
        ({}, "full"),
    ],
)
def test_constant_signals_lead_to_a_state(values: dict[str, float | None], state: str) -> None:
    assert replay(hold(90, 0, **values))[-1] == state


@pytest.mark.parametrize(
    "values",
    [
        {"temperature_c": -40.0},
        {"temperature_c": 200.0},
        {"battery_pct": -1.0},
        {"battery_pct": 300.0},
        {"headroom": float("nan")},
        {"pressure": float("inf")},
    ],
)
def test_impossible_values_are_unknown(values: dict[str, float | None]) -> None:
    assert set(replay(hold(60, 0, **values))) == {"full"}


def test_one_jump_of_a_sensor_is_ignored_and_a_lasting_one_is_not() -> None:
    calm = hold(30, temperature_c=30.0)
    assert set(replay([*calm, (30.0, {"temperature_c": 60.0}), *hold(30, 31, temperature_c=30.0)])) == {"full"}
    assert replay([*calm, *hold(20, 30, temperature_c=60.0)])[-1] == "pause"


def test_a_sensor_that_vanishes_when_hot_does_not_hold_the_state_for_ever() -> None:
    states = replay([*hold(60, temperature_c=42.0), *hold(400, 60)])
    assert states[59] == "duty"
    assert states[100] == "duty"
    assert states[-1] == "full"


def test_a_clock_that_goes_back_stands_still() -> None:
    rows: list[Row] = [(100.0, {"temperature_c": 30.0})]
    rows += [(float(-second), {"temperature_c": 44.0}) for second in range(60)]
    assert set(replay(rows)) == {"full"}


def test_a_return_takes_longer_than_the_step_down_and_needs_every_signal() -> None:
    cool = hold(200, 60, temperature_c=34.0, pressure=0.0, saver=0.0)
    states = replay([*hold(60, temperature_c=40.0), *cool])
    assert states[59] == "lite"
    assert states[60 + 119] == "lite"
    assert states[60 + 121] == "full"
    assert replay([*hold(60, temperature_c=40.0), *hold(400, 60, temperature_c=34.0, saver=1.0)])[-1] == "lite"


def test_a_temperature_between_two_limits_never_makes_the_state_swing() -> None:
    rows: list[Row] = [(float(second), {"temperature_c": 39.5 if second // 20 % 2 else 37.5}) for second in range(1800)]
    states = replay(rows)
    assert sum(one != other for one, other in pairwise(states)) == 1


def signals() -> st.SearchStrategy[dict[str, float | None]]:
    value = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.floats(-50, 120))
    return st.dictionaries(st.sampled_from(sorted(RANGES)), value)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(), signals()), max_size=60))
def test_any_signals_give_a_state(rows: list[Row]) -> None:
    assert set(replay(rows)) <= set(GOVERNOR.states)


def test_a_policy_is_the_same_after_its_file() -> None:
    assert read_policy(msgspec.json.encode(GOVERNOR), "p.json") == GOVERNOR


def change(**changes: object) -> bytes:
    plain = msgspec.json.decode(msgspec.json.encode(GOVERNOR))
    plain["rules"][0] |= changes
    return msgspec.json.encode(plain)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[]", "object"),
        (b"\xff", "utf-8|malformed"),
        (change(to="nowhere"), "no state nowhere"),
        (change(when=[]), "needs a condition"),
        (change(for_s=-1), "needs a condition"),
        (change(when=[{"signal": "temprature", "op": ">=", "value": 3}]), "temprature is unknown"),
        (change(when=[{"signal": "headroom", "op": "=", "value": 3}]), "Invalid enum value"),
        (change(to="full"), "its own state"),
        (msgspec.json.encode(msgspec.to_builtins(GOVERNOR) | {"schema": "edgewright.policy/2"}), "schema"),
        (msgspec.json.encode(msgspec.to_builtins(GOVERNOR) | {"actions": {}}), "no entry for the state full"),
    ],
)
def test_files_that_are_no_policy(content: bytes, why: str) -> None:
    with pytest.raises(ConfigError, match="policy") as caught:
        read_policy(content, "p.json")
    assert any(one in caught.value.why for one in why.split("|"))


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "t_s,headroom\nx,1\n", "t_s,headroom\n1,high\n", "t_s,headroom\nnan,1\n"]
)
def test_files_that_are_no_trace(text: str) -> None:
    with pytest.raises(DataError):
        list(read_trace(text, "t.csv"))


def test_the_first_of_two_rules_counts() -> None:
    machine, readings = StateMachine(GOVERNOR), SignalFilter()
    for second in range(4):
        machine.update(readings.read(float(second), {"temperature_c": 50.0, "saver": 1.0}))
    assert machine.state == "pause"
    assert machine.why == "temperature_c >= 46 for 2 s"
