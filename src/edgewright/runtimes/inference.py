"""The profiled inference that stands for all: the one whose time is closest to the median."""

from collections.abc import Sequence
from statistics import median

Spans = tuple[tuple[float, float], ...]


def choose_inference(starts: Sequence[Sequence[float]], times: Sequence[Sequence[float]]) -> Spans:
    """Return start and length in microseconds of each layer in that inference.

    Args:
        starts, times: by layer, for each profiled inference.

    Returns an empty tuple if a layer has no start, or not one in each inference.
    """
    counts = {len(values) for values in (*starts, *times)}
    if len(counts) != 1 or not (count := counts.pop()):
        return ()
    ends = [max(start[run] + time[run] for start, time in zip(starts, times, strict=True)) for run in range(count)]
    middle = median(ends)
    chosen = min(range(count), key=lambda run: abs(ends[run] - middle))
    return tuple((float(start[chosen]), float(time[chosen])) for start, time in zip(starts, times, strict=True))
