"""Fixtures: an empty working directory with a model that is measured quickly, and the digits of the demo."""

import subprocess
from collections.abc import Iterator, Sequence
from itertools import pairwise
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


def starts_program(words: Sequence[str]) -> bool:
    """Whether these arguments start the command line, in any of its forms."""
    modules = [word for before, word in pairwise(words) if before == "-m"]
    return any(Path(word).name == "edgewright" for word in words) or bool({"edgewright", "edgewright.cli"} & {*modules})


@pytest.fixture(autouse=True)
def _no_test_starts_the_program(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail each test of this folder whose calls start the `edgewright` program."""
    started: list[list[str]] = []
    start = subprocess.Popen.__init__

    def note(self: Any, args: Any, *more: Any, **named: Any) -> None:
        started.append([str(word) for word in ([args] if isinstance(args, str) else args)])
        start(self, args, *more, **named)

    monkeypatch.setattr(subprocess.Popen, "__init__", note)
    yield
    assert [words for words in started if starts_program(words)] == []
