"""The grammar of goals, and their three states."""

from math import inf, nan

import pytest

from edgewright.errors import UsageError
from edgewright.schema.goals import Goal, parse_goals


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        ("latency<=1.05x", ("latency", "<=", 1.05, "x")),
        (" P90 < 1e1 ms ", ("p90", "<", 10.0, "ms")),
        ("p95<1.5×", ("p95", "<", 1.5, "x")),
        ("latency<200µs", ("latency", "<", 200.0, "us")),
        ("drop<.5", ("drop", "<", 0.5, "")),
        ("drop<=-0.5%", ("drop", "<=", -0.5, "%")),
        ("metric>=90%", ("metric", ">=", 90.0, "%")),
        ("bytes<5000000", ("bytes", "<", 5e6, "")),
        ("memory<=64MiB", ("memory", "<=", 64.0, "MiB")),
        ("energy<3mJ", ("energy", "<", 3.0, "mJ")),
        ("offload<=0.4", ("offload", "<=", 0.4, "")),
        ("share>30%", ("share", ">", 30.0, "%")),
    ],
)
def test_goals_are_read(text: str, goal: tuple[str, str, float, str]) -> None:
    (found,) = parse_goals(text)
    assert (found.metric, found.sign, found.number, found.unit) == goal
    assert parse_goals(str(found)) == (found,)


def test_several_goals_and_their_units() -> None:
    goals = parse_goals("latency<=1.05x, drop<0.5,bytes<5MB")
    assert list(map(str, goals)) == ["latency<=1.05x", "drop<0.5", "bytes<5MB"]
    assert [goal.is_relative for goal in goals] == [True, False, False]
    assert goals[2].convert(2.5e6) == 2.5
    assert parse_goals("latency<2s")[0].convert(5e5) == 0.5
    assert parse_goals("metric>90%")[0].convert(0.95) == pytest.approx(95)
    assert parse_goals("memory<1KiB")[0].convert(512) == 0.5


@pytest.mark.parametrize(
    ("text", "what", "why", "hint"),
    [
        ("", "empty", "METRIC", "latency"),
        ("latency<=1.05x,", "empty", "METRIC", "latency"),
        ("latency=5ms", "cannot be read", "METRIC", "latency"),
        ("latency<=", "cannot be read", "METRIC", "latency"),
        ("latency<1e999ms", "cannot be read", "too large", "smaller"),
        ("latncy<5ms", "unknown metric 'latncy'", "latency, p90, p95, drop", "latency<5ms"),
        ("colour<5", "unknown metric 'colour'", "latency, p90, p95, drop", "these metrics"),
        ("latency<5", "has no unit", "us, ms, s, x (times the reference)", "latency<5x"),
        ("latency<5min", "unknown unit 'min'", "us, ms, s, x", "latency<5us"),
        ("bytes<5mb", "unknown unit 'mb'", "B, kB, MB, GB, KiB", "bytes<5MB"),
        ("drop<1.1x", "unknown unit 'x'", "the units of drop are %", "drop<1.1%"),
    ],
)
def test_wrong_goals_list_what_is_known(text: str, what: str, why: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_goals(text)
    assert what in caught.value.what
    assert why in caught.value.why
    assert hint in caught.value.try_this


def test_a_metric_that_a_command_cannot_produce_is_an_error() -> None:
    with pytest.raises(UsageError) as caught:
        parse_goals("latency<5ms, offload<0.4", ("latency", "bytes"))
    assert "offload" in caught.value.what
    assert caught.value.why == "the known metrics are latency, bytes"


@pytest.mark.parametrize(
    ("sign", "low", "high", "state"),
    [
        ("<", 0.9, 0.99, "met"),
        ("<", 0.9, 1.0, "not shown"),
        ("<=", 0.9, 1.0, "met"),
        ("<", 1.0, 1.0, "missed"),
        ("<=", 1.01, 1.2, "missed"),
        (">", 1.01, 1.2, "met"),
        (">=", 0.9, 1.2, "not shown"),
        (">", 0.5, 1.0, "missed"),
        ("<", None, None, "not shown"),
        ("<", nan, nan, "not shown"),
        ("<", 0.5, inf, "not shown"),
    ],
)
def test_a_goal_inside_the_interval_is_not_shown(sign: str, low: float | None, high: float | None, state: str) -> None:
    assert Goal(metric="latency", sign=sign, number=1.0, unit="x").decide(low, high) == state
