"""The selection of devices by `--on`: its grammar, and the choice among the registered devices.

    SELECTION  = ITEM {"," ITEM}
    ITEM       = NAME | "any:" NUMBER | CONDITION {"and" CONDITION}
    CONDITION  = FACT ("=" | "!=" | "<" | "<=" | ">" | ">=") VALUE

`pi,web` are two devices, `any:2` two that are ready, `android>=14 and memory>=8GB` all for which it holds. A value with
a unit of bytes is an amount; texts are compared without regard to case. A fact that a device does not have never holds.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from edgewright.errors import DeviceUnreachable, UsageError

MOST_DEVICES = 1000
_ANY = re.compile(r"any:(\d{1,6})", re.IGNORECASE)
_CONDITION = re.compile(r"\s*([A-Za-z_][\w.-]*)\s*(<=|>=|!=|=|<|>)\s*(.+?)\s*", re.DOTALL)
_NUMBER = re.compile(r"([-+]?\d+(?:\.\d+)*)\s*([a-zA-Z]*)")
_UNITS = {"": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_HINT = 'write it like --on pi,web, --on any:2, or --on "android>=14 and memory>=8GB"'


class FactCondition(Struct, frozen=True):
    """One condition on a fact."""

    fact: str
    sign: str
    value: str

    def holds(self, facts: Mapping[str, Any]) -> bool:
        """Return whether it holds for a device with these facts, whose `memory` is in bytes."""
        given = facts.get(self.fact)
        values = given if isinstance(given, list | tuple) else [given]
        return any(self._holds_for(value) for value in values)

    def _holds_for(self, given: Any) -> bool:
        if given is None or isinstance(given, dict):
            return False
        wanted, own = _parse_number(self.value), _parse_number(str(given))
        if wanted is not None and own is not None:
            return _COMPARE[self.sign](own, wanted)
        if self.sign in ("=", "!="):
            return _COMPARE[self.sign](str(given).casefold(), self.value.casefold())
        return False


class Selection(Struct, frozen=True):
    """One item of `--on`: a name, a number of any devices, or conditions."""

    name: str = ""
    count: int = 0
    conditions: tuple[FactCondition, ...] = ()


def parse_selection(text: str) -> tuple[Selection, ...]:
    """Return the items of `--on`. Raises UsageError for a text outside of the grammar."""
    items = tuple(_parse_item(item.strip()) for item in text.split(","))
    names = [item.name for item in items if item.name]
    if repeated := next((name for name in names if names.count(name) > 1), ""):
        raise UsageError(f"--on names the device '{repeated}' twice", "it would be measured twice", "name it once")
    return items


def _parse_item(item: str) -> Selection:
    if not item:
        raise UsageError("--on has an empty name", "names are separated by single commas", _HINT)
    if found := _ANY.fullmatch(item):
        count = int(found[1])
        if not 0 < count <= MOST_DEVICES:
            raise UsageError(f"--on {item} cannot be used", f"the number must be from 1 to {MOST_DEVICES}", _HINT)
        return Selection(count=count)
    if not re.search(r"[=<>!]", item):
        if re.search(r"[\s:]", item):
            raise UsageError(f"--on {item[:80]!r} cannot be read", "names contain no spaces and no colons", _HINT)
        return Selection(name=item)
    return Selection(conditions=tuple(map(_parse_condition, re.split(r"\s+and\s+", item, flags=re.IGNORECASE))))


def _parse_condition(text: str) -> FactCondition:
    found = _CONDITION.fullmatch(text)
    if found is None or re.match(r"[=<>!]", found[3]):
        raise UsageError(f"the condition {text[:80]!r} of --on cannot be read", "its form is FACT>=VALUE", _HINT)
    return FactCondition(found[1].lower(), found[2], found[3].strip("\"'"))


def _parse_number(text: str) -> tuple[float, ...] | None:
    """Return a number or version as comparable values: `8GB` is (8e9,), `14` is (14,), `14.1` is (14, 1)."""
    found = _NUMBER.fullmatch(text.strip())
    if found is None or found[2].lower() not in _UNITS:
        return None
    scale = _UNITS[found[2].lower()]
    if scale != 1.0:
        return (float(found[1]) * scale,) if found[1].count(".") < 2 else None
    parts = [float(part) for part in found[1].split(".")]
    while len(parts) > 1 and not parts[-1]:  # 9.0 is 9
        parts.pop()
    return tuple(parts)


class SelectableDevice(Struct, frozen=True):
    """A device that a selection may choose, with the facts that conditions are about."""

    name: str
    facts: Mapping[str, Any]


def choose_devices(
    items: Sequence[Selection], devices: Sequence[SelectableDevice], is_ready: Callable[[str], bool]
) -> tuple[str, ...]:
    """Return the names of the chosen devices, each once, in the order of the items.

    Args:
        devices: all that are registered.
        is_ready: whether a device can be used now; called only for `any:`.

    Raises UsageError for an unknown name or fact, DeviceUnreachable if too few devices fit.
    """
    chosen: dict[str, None] = {}
    for item in items:
        if item.name:
            chosen[_find_name(item.name, devices)] = None
        elif item.count:
            free = (one.name for one in devices if one.name not in chosen and is_ready(one.name))
            chosen |= dict.fromkeys(_take(free, item.count, len(devices)))
        else:
            chosen |= dict.fromkeys(_find_matching(item.conditions, devices))
    return tuple(chosen)


def _find_name(name: str, devices: Sequence[SelectableDevice]) -> str:
    if any(one.name == name for one in devices):
        return name
    known = ", ".join(one.name for one in devices) or "none"
    raise DeviceUnreachable(
        f"unknown device '{name}'",
        f"the devices are: {known}",
        "edgewright devices add NAME ssh://USER@HOST adds one",
    )


def _take(names: Any, count: int, total: int) -> list[str]:
    found = [name for name, _ in zip(names, range(count), strict=False)]
    if len(found) < count:
        raise DeviceUnreachable(
            f"--on any:{count}: {len(found)} devices are ready",
            f"{total} devices are known",
            "edgewright devices check NAME shows what a device lacks",
        )
    return found


def _find_matching(conditions: Sequence[FactCondition], devices: Sequence[SelectableDevice]) -> list[str]:
    known = sorted({fact for one in devices for fact in one.facts})
    for condition in conditions:
        if condition.fact not in known:
            raise UsageError(
                f"--on: no device has the fact '{condition.fact}'",
                f"the facts are {', '.join(known) or 'unknown'}",
                "edgewright devices show NAME prints the facts of a device",
            )
    found = [one.name for one in devices if all(condition.holds(one.facts) for condition in conditions)]
    if not found:
        text = " and ".join(f"{one.fact}{one.sign}{one.value}" for one in conditions)
        raise DeviceUnreachable(
            f"no device fits --on {text}",
            f"{len(devices)} devices are known",
            "edgewright devices list shows their facts",
        )
    return found
