"""Detection of the steady state of a process.

The samples are split into windows of equal length. A process is steady once the median of the newest window is not
lower than the previous one's by more than `TOLERANCE`: it has stopped getting faster. The test has one direction only,
since getting slower is not warm-up but throttling, which a warning reports. Medians of windows make it robust to single
disturbed samples. (A bound on the coefficient of variation, the test of Georges et al., OOPSLA 2007, is never met on a
noisy machine.)
"""

from collections.abc import Sequence
from statistics import median

TOLERANCE = 0.02
WINDOW_RUNS = 5
WINDOW_SECONDS = 0.02
MAX_WINDOW_RUNS = 2000


def count_window_runs(inference_us: float) -> int:
    """Return the inferences in one window: 5, or as many as fill 20 ms."""
    fill = round(WINDOW_SECONDS * 1e6 / max(1.0, inference_us))
    return min(MAX_WINDOW_RUNS, max(WINDOW_RUNS, fill))


def is_steady(samples_us: Sequence[float], window: int) -> bool:
    """Return whether the newest window is no faster than the previous one; False with fewer than two windows."""
    if len(samples_us) < 2 * window:
        return False
    newest = median(samples_us[-window:])
    before = median(samples_us[-2 * window : -window])
    return newest >= (1 - TOLERANCE) * before
