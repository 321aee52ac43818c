"""Fixtures: an empty working directory with a model that is measured quickly, and the digits of the demo."""

from pathlib import Path
from typing import Any

import pytest

from tests.paths import ROOT

DIGITS = ROOT / "src" / "edgewright" / "flows" / "digits"
# Keywords for a fast benchmark of the pretend runtime.
QUICK: dict[str, Any] = {
    "processes": 1, "runs": 3, "warmup_seconds": 0.01, "option": {"latency_us": "20"}, "layers": False,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory."""
    place = tmp_path / "work"
    place.mkdir()
    (place / "m.pretend").write_bytes(b"pretend")
    monkeypatch.chdir(place)
    return place
