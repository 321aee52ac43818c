"""The policies that are built in."""

from edgewright.adaptive.policy import Action, Condition, Policy, Rule, Sign

_ACTIONS = {
    "full": Action("full"),
    "lite": Action("lite"),
    "duty": Action("lite", 0.5),
    "pause": Action(None, 0.0),
}


def _when(signal: str, op: Sign, value: float) -> tuple[Condition, ...]:
    return (Condition(signal, op, value),)


def _leave(origin: str, target: str, limits: dict[str, tuple[float, float]]) -> list[Rule]:
    """Return a rule for each signal: its limit, and how long it is held."""
    falling = ("supply_pct",)
    signs: dict[str, Sign] = dict.fromkeys(falling, "<")
    return [
        Rule(origin, target, _when(one, signs.get(one, ">="), limit), held) for one, (limit, held) in limits.items()
    ]


def _return(origin: str, target: str, limits: dict[str, float], held: float) -> Rule:
    rising = ("supply_pct",)
    signs: dict[str, Sign] = dict.fromkeys(rising, ">=")
    return Rule(
        origin, target, tuple(Condition(one, signs.get(one, "<"), limit) for one, limit in limits.items()), held
    )


def _make_governor() -> Policy:
    """Return the default: steps down quickly and one at a time, returns slowly and only if all is well.

    43 °C at the skin is the burn threshold for contact of eight hours and more (ISO 13732-1): the stream pauses there.
    A return needs 3 °C less than the step down, for two minutes.
    """
    rules = [
        *_leave("full", "pause", {"temperature_c": (46.0, 2.0), "supply_pct": (3.0, 5.0)}),
        *_leave("lite", "pause", {"temperature_c": (46.0, 2.0), "supply_pct": (3.0, 5.0)}),
        *_leave(
            "full",
            "lite",
            {
                "temperature_c": (39.0, 5.0),
                "headroom": (0.95, 5.0),
                "supply_pct": (20.0, 10.0),
                "saver": (1.0, 2.0),
                "pressure": (20.0, 2.0),
            },
        ),
        Rule("full", "lite", (Condition("slope_k_min", ">=", 1.5), Condition("temperature_c", ">=", 37.0)), 5.0),
        *_leave("lite", "duty", {"temperature_c": (41.0, 5.0), "headroom": (1.1, 5.0), "supply_pct": (10.0, 10.0)}),
        *_leave(
            "duty",
            "pause",
            {"temperature_c": (43.0, 5.0), "headroom": (1.3, 5.0), "supply_pct": (5.0, 10.0), "pressure": (60.0, 5.0)},
        ),
        _return("pause", "duty", {"temperature_c": 40.0, "headroom": 1.1, "supply_pct": 7.0, "pressure": 40.0}, 60.0),
        _return("duty", "lite", {"temperature_c": 38.0, "headroom": 0.95, "supply_pct": 12.0}, 120.0),
        _return(
            "lite",
            "full",
            {"temperature_c": 36.0, "headroom": 0.8, "supply_pct": 25.0, "saver": 1.0, "pressure": 10.0},
            120.0,
        ),
    ]
    return Policy(name="governor", states=tuple(_ACTIONS), actions=_ACTIONS, rules=tuple(rules))


BUILT_IN = {
    "governor": _make_governor(),
    "none": Policy(name="none", states=("full",), actions={"full": Action("full")}, rules=()),
}
