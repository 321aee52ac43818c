"""Facts that a browser reports about itself. They come from the page: bounded, typed, and not verified."""

import re
from typing import Annotated, Any

from msgspec import Meta, Struct

from edgewright.schema.text import printable

Text = Annotated[str, Meta(max_length=300)]
# Marks in the user agent, the more special first.
_BROWSERS = {
    "Edg": "Edge",
    "OPR": "Opera",
    "Firefox": "Firefox",
    "FxiOS": "Firefox",
    "CriOS": "Chrome",
    "HeadlessChrome": "Chromium (headless)",
    "Chrome": "Chrome",
    "Version": "Safari",
}


class PageFacts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the page sends. `memory_gib` is rounded and capped by browsers; None if they do not report it."""

    agent: Text
    platform: Text
    model: Text
    platform_version: Text
    architecture: Text
    cores: Annotated[int, Meta(ge=1, le=4096)]
    memory_gib: Annotated[float, Meta(ge=0, le=65536)] | None
    screen: Text
    pixel_ratio: Annotated[float, Meta(ge=0, le=100)]
    isolated: bool
    secure: bool
    gpu: Text
    webnn: bool


def describe_browser(page: PageFacts) -> dict[str, Any]:
    """Return the facts of a device, with `memory` in bytes as its browser rounds it."""
    named = (f"{title} {found[1]}" for mark, title in _BROWSERS.items() if (found := _find(mark, page.agent)))
    browser = next(named, "unknown")
    android = re.search(r"Android (\d+(?:\.\d+)*)", page.agent)
    ios = re.search(r"(?:iPhone|CPU) OS (\d+(?:_\d+)*)", page.agent)
    version = android[1] if android else ios[1].replace("_", ".") if ios else page.platform_version
    system = "Android" if android else "iOS" if ios else page.platform or "unknown"
    facts: dict[str, Any] = {
        "model": page.model or f"{browser} on {system}",
        "browser": browser,
        "system": system,
        "os": f"{system} {version}".strip(),
        "machine": page.architecture or "unknown",
        "logical_cores": page.cores,
        "screen": page.screen,
        "secure": page.secure,
        "isolated": page.isolated,
        "gpu": page.gpu or None,
        "webnn": page.webnn,
        "agent": page.agent,
        "reported_by": "the browser",
    }
    if android:
        facts["android"] = android[1]
    if ios:
        facts["ios"] = version
    if page.memory_gib:
        facts["memory"] = int(page.memory_gib * 2**30)
    return {name: printable(value) if isinstance(value, str) else value for name, value in facts.items()}


def _find(mark: str, agent: str) -> re.Match[str] | None:
    return re.search(rf"\b{mark}/(\d+(?:\.\d+)?)", agent)
