"""Checks of values that a device reports about its own state."""

from typing import Any, NamedTuple

from edgewright.schema.devices import DeviceCheck

LOW_CHARGE = 0.3


class HealthCheck(NamedTuple):
    """A check of a value that is true or false: the text for the wanted value, for the other one, and a remedy."""

    code: str
    wanted: bool
    good: str
    bad: str
    hint: str


def check_battery(level: float | None, unknown: str) -> DeviceCheck:
    """Return the check of a charge from 0 to 1; `unknown` is the text without one."""
    if level is None:
        return DeviceCheck(code="battery", state="unknown", text=unknown)
    text = f"the battery has {level:.0%}"
    if level < LOW_CHARGE:
        return DeviceCheck(code="battery", state="warning", text=text, try_this=f"charge it to {LOW_CHARGE:.0%}")
    return DeviceCheck(code="battery", state="ok", text=text)


def check_value(check: HealthCheck, value: Any, unknown: str) -> DeviceCheck:
    """Return the check of a value; `unknown` is the text for None."""
    if value is None:
        return DeviceCheck(code=check.code, state="unknown", text=unknown)
    if bool(value) is check.wanted:
        return DeviceCheck(code=check.code, state="ok", text=check.good)
    return DeviceCheck(code=check.code, state="warning", text=check.bad, try_this=check.hint)
