"""Registered devices: names, kinds and states. No I/O."""

import re
from typing import Any, Literal

from msgspec import Struct, field

from edgewright.errors import UsageError

DeviceKind = Literal["local", "ssh", "adb", "browser", "agent"]
# `unauthorized`: the device answers but does not let us in; `busy`: another command measures on it.
DeviceState = Literal["ready", "offline", "unauthorized", "busy"]
CheckState = Literal["ok", "warning", "failed", "unknown"]
# Names of `--on` that need no registration, and the words of its grammar.
RESERVED_NAMES = frozenset(("local", "host", "localhost", "pretend", "any", "all", "and"))
_NAME = re.compile(r"[^\W_][\w.+-]{0,63}")


class DeviceCheck(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The result of one check: what was found, and what to do about it; empty if there is nothing to do."""

    code: str
    state: CheckState
    text: str
    try_this: str = field(default="", name="try")


class FailedDevice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device on which nothing was measured, and why."""

    name: str
    state: DeviceState
    error: str


class RegisteredDevice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device that the user added. It contains no secret.

    Attributes:
        name: the word for `--on`.
        address: as given to `devices add`: `ssh://USER@HOST:PORT`, `adb://HOST:PORT`, `adb:SERIAL`, or empty.
        credential: path of the private key file; empty to use the agent and the configuration of ssh.
        facts: read at the last connection; empty before the first.
        settings: of its kind; no secrets.
        added_at, seen_at: ISO 8601 in UTC; `seen_at` is None before the first connection.
    """

    name: str
    kind: DeviceKind
    address: str = ""
    credential: str = ""
    facts: dict[str, Any] = {}
    settings: dict[str, str] = {}
    added_at: str
    seen_at: str | None = None


def check_device_name(name: str) -> str:
    """Return the name of a device to add; UsageError if the grammar of `--on` could not contain it."""
    why = ""
    if name.lower() in RESERVED_NAMES:
        why = f"'{name}' has a meaning of its own for --on"
    elif not _NAME.fullmatch(name):
        why = "a name has up to 64 letters, digits and . _ + - and starts with a letter or digit"
    if why:
        raise UsageError(f"a device cannot be named {name[:80]!r}", why, "choose a name such as pi or pixel-8")
    return name
