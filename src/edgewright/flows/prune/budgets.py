"""Budgets of pruning: counted (bytes, multiply-accumulates), or measured (time in the chosen runtime).

The time saved by each width of each group is measured first, then the time of whole networks.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.errors import UsageError
from edgewright.flows.benchmark.flow import BenchmarkOutcome
from edgewright.flows.experiment.control import EvaluationContext, benchmark_models
from edgewright.pruning.groups import PruningGroup
from edgewright.pruning.widths import list_widths

UNITS = {"": 1.0, "b": 1.0, "kb": 1e3, "k": 1e3, "mb": 1e6, "m": 1e6, "gb": 1e9, "g": 1e9}
MAX_TIMED = 40  # networks timed for single groups
BATCH_SIZE = 5
PROCESSES, SECONDS = 3, 0.05  # with two processes, two of three searches gave different networks


def parse_amount(text: str, whole: float, flag: str) -> float:
    """Return the number for `800kB` or `15M`, or `whole` over two for `2x`. UsageError if it is neither."""
    word = text.strip().lower().replace(" ", "")
    number = word.rstrip("abcdefghijklmnopqrstuvwxyz×")
    unit = word[len(number) :]
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if value <= 0 or (unit not in UNITS and unit not in ("x", "×")):
        raise UsageError(
            f"{flag} {text} is not valid",
            "it must be a number with k, M, kB or MB, or a factor like 2x",
            f"use {flag} 2x",
        )
    return whole / value if unit in ("x", "×") else value * UNITS[unit]


def tabulate_times(
    cut: Callable[[dict[str, int]], Any],
    free: Sequence[PruningGroup],
    multiple: int,
    timer: "NetworkTimer",
    now: float = 1.0,
) -> dict[str, dict[int, float]]:
    """Return the share of the network's time that each width of each group saves by itself.

    If there are many widths, some are measured and the others interpolated.

    Args:
        cut: returns the network whose groups have these widths.
        now: the share that the network takes before.
    """
    pairs = [(group, width) for group in free for width in choose_timed_widths(group, multiple, len(free))]
    shares = timer.shares([cut({group.name: width}) for group, width in pairs])
    table: dict[str, dict[int, float]] = {}
    for group in free:
        known = [
            (width, max(0.0, now - share)) for (one, width), share in zip(pairs, shares, strict=True) if one is group
        ]
        known.append((group.size, 0.0))
        known.sort()
        xs, ys = zip(*known, strict=True)
        table[group.name] = {width: float(np.interp(width, xs, ys)) for width in list_widths(group, multiple)}
    return table


def choose_timed_widths(group: PruningGroup, multiple: int, groups: int) -> Sequence[int]:
    """Return the widths to measure within the time, the narrowest and a middle one first."""
    widths = list_widths(group, multiple)
    most = max(1, MAX_TIMED // max(groups, 1))
    if len(widths) <= most:
        return widths
    indices = np.unique(np.linspace(0, len(widths) - 1, most + 1).round().astype(int)[1:])
    return [widths[index] for index in indices]


class NetworkTimer:
    """Timer of pruned networks against the whole one in the runtime; its runs are not stored.

    Args:
        ready: converts an ONNX file for the runtime.
    """

    def __init__(self, whole: Path, context: EvaluationContext, folder: Path, ready: Callable[[Path], Path]) -> None:
        self._context, self._folder, self._ready = context, folder, ready
        folder.mkdir(parents=True, exist_ok=True)
        self._whole = ready(whole)
        self._written = 0

    def shares(self, models: Sequence[Any], *, processes: int = PROCESSES) -> list[float]:
        """Return the time of each network over that of the whole one."""
        found: list[float] = []
        for start in range(0, len(models), BATCH_SIZE):
            batch = [self._ready(self._write(model)) for model in models[start : start + BATCH_SIZE]]
            outcome = benchmark_models((self._whole, *batch), self._context, {}, processes=processes, seconds=SECONDS)
            if outcome.error is not None:
                raise outcome.error
            found += [self._share(outcome, index) for index in range(1, len(outcome.runs))]
            self._context.workspace.progress(f"timing the effect of each width: {len(found)} of {len(models)}")
        return found

    def _share(self, outcome: BenchmarkOutcome, index: int) -> float:
        """Return the share, by processor time for one thread, which other load on the machine hardly changes."""
        if self._context.threads == 1:
            cpu = [
                next((one.value for one in outcome.runs[at].metrics if one.name == "cpu.p50"), None)
                for at in (0, index)
            ]
            if cpu[0] and cpu[1]:
                return cpu[1] / cpu[0]
        return outcome.comparisons[index - 1].ratio

    def _write(self, model: Any) -> Path:
        import onnx

        self._written += 1
        path = self._folder / f"cut{self._written}.onnx"
        onnx.save(model, str(path))
        return path
