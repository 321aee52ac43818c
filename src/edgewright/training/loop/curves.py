"""Training curves, averaged to some hundred points."""

from typing import Any

from edgewright.training.job import Curve

POINTS = 100


class Curves:
    """Collects values of steps; rare ones such as `held-out.…` are not averaged."""

    def __init__(self, planned: int) -> None:
        self._each = max(1, planned // POINTS)
        self._sums: dict[str, float] = {}
        self._count = 0
        self._found: dict[str, tuple[list[int], list[float]]] = {}

    def add(self, step: int, values: dict[str, float]) -> None:
        """Add the values of a step, with the same names each time; `step` is counted from 1."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        if self._count == self._each:
            self.close(step)

    def close(self, step: int) -> None:
        """Close the current point with the values since the previous one."""
        for name, total in self._sums.items():
            self.put(name, step, total / self._count)
        self._sums, self._count = {}, 0

    def put(self, name: str, step: int, value: float) -> None:
        steps, values = self._found.setdefault(name, ([], []))
        steps.append(step)
        values.append(value)

    def state(self) -> dict[str, Any]:
        return {"sums": self._sums, "count": self._count, "found": self._found}

    def restore(self, state: dict[str, Any]) -> None:
        self._sums, self._count = state["sums"], state["count"]
        self._found = {name: (list(steps), list(values)) for name, (steps, values) in state["found"].items()}

    def to_curves(self) -> tuple[Curve, ...]:
        return tuple(
            Curve(name=name, unit="", steps=tuple(steps), values=tuple(values))
            for name, (steps, values) in self._found.items()
        )
