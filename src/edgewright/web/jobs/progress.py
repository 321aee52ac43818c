"""Progress of a job from its log: the median of each finished process by candidate, and the remaining time."""

import re
import time
from dataclasses import dataclass, field
from typing import Any

_LINE = re.compile(r"(?P<name>.+): process \d{1,6} of (?P<planned>\d{1,6})(?:: median (?P<us>[0-9.e+]{1,20}) µs)?")


@dataclass
class ProcessProgress:
    """Finished processes of a job.

    Attributes:
        medians: median latency in microseconds of each finished process, by candidate.
        planned: processes of each candidate.
    """

    medians: dict[str, list[float]] = field(default_factory=dict)
    planned: int = 0
    _begun_s: float = 0.0

    def read(self, line: str) -> bool:
        """Read a line of the log; return whether a process finished."""
        found = _LINE.fullmatch(line)
        if found is None:
            return False
        self.planned = int(found["planned"])
        self._begun_s = self._begun_s or time.monotonic()
        own = self.medians.setdefault(found["name"], [])
        if not found["us"]:
            return False
        own.append(float(found["us"]))
        return True

    @property
    def finished(self) -> int:
        return sum(map(len, self.medians.values()))

    @property
    def total(self) -> int:
        return self.planned * len(self.medians)

    @property
    def left_s(self) -> float | None:
        """Seconds that are left; None before the first round ends."""
        if not self.medians or not all(self.medians.values()):
            return None
        return (time.monotonic() - self._begun_s) / self.finished * (self.total - self.finished)

    def facts(self) -> dict[str, Any]:
        return {"finished": self.finished, "total": self.total, "left_s": self.left_s}
