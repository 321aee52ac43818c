"""What distorts measurements in a browser, from what its page reports."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from edgewright.schema.devices import DeviceCheck

LOW_CHARGE = 0.3


class PageCheck(NamedTuple):
    """A check of a value that is true or false: the text for the wanted value, for the other one, and a remedy."""

    code: str
    wanted: bool
    good: str
    bad: str
    hint: str


PAGE_CHECKS = (
    PageCheck(
        "charging",
        False,
        "the battery is not charging",
        "the battery is charging, which heats the device",
        "unplug it, or wait until it is full",
    ),
    PageCheck(
        "visible",
        True,
        "the page is visible",
        "the page is hidden, and browsers slow down hidden pages",
        "open the page on the device",
    ),
    PageCheck(
        "awake",
        True,
        "the screen stays on",
        "the screen may turn off",
        "set the screen timeout of the device to its longest time",
    ),
    PageCheck(
        "isolated",
        True,
        "the page has threads and a precise clock",
        "the page has one thread and a coarse clock",
        "open it over HTTPS, or as localhost (adb reverse)",
    ),
)


def check_browser(health: Mapping[str, bool | float | None], facts: Mapping[str, Any]) -> list[DeviceCheck]:
    """Return the checks; a page reports neither temperature nor load."""
    values = {**health, "isolated": facts.get("isolated")}
    return [_check_battery(health.get("battery")), *(_check_value(one, values.get(one.code)) for one in PAGE_CHECKS)]


def _check_battery(level: bool | float | None) -> DeviceCheck:
    if level is None:
        return DeviceCheck(code="battery", state="unknown", text="the browser does not report the battery")
    text = f"the battery has {level:.0%}"
    if level < LOW_CHARGE:
        return DeviceCheck(code="battery", state="warning", text=text, try_this=f"charge it to {LOW_CHARGE:.0%}")
    return DeviceCheck(code="battery", state="ok", text=text)


def _check_value(check: PageCheck, value: Any) -> DeviceCheck:
    if value is None:
        return DeviceCheck(code=check.code, state="unknown", text="the browser does not report it")
    if bool(value) is check.wanted:
        return DeviceCheck(code=check.code, state="ok", text=check.good)
    return DeviceCheck(code=check.code, state="warning", text=check.bad, try_this=check.hint)
