"""What distorts measurements in a browser, from what its page reports."""

from collections.abc import Mapping
from typing import Any

from edgewright.devices.checks import HealthCheck, check_battery, check_value
from edgewright.schema.devices import DeviceCheck

UNKNOWN = "the browser does not report it"
PAGE_CHECKS = (
    HealthCheck(
        "charging",
        False,
        "the battery is not charging",
        "the battery is charging, which heats the device",
        "unplug it, or wait until it is full",
    ),
    HealthCheck(
        "visible",
        True,
        "the page is visible",
        "the page is hidden, and browsers slow down hidden pages",
        "open the page on the device",
    ),
    HealthCheck(
        "awake",
        True,
        "the screen stays on",
        "the screen may turn off",
        "set the screen timeout of the device to its longest time",
    ),
    HealthCheck(
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
    battery = check_battery(health.get("battery"), "the browser does not report the battery")
    return [battery, *(check_value(one, values.get(one.code), UNKNOWN) for one in PAGE_CHECKS)]
