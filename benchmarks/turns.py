"""CPU time of LiteRT files that alternate in one process: a ratio that depends little on other load.

Other programs take processor time from a measured one; wall time includes it and CPU time does not. The remaining
effect are evicted caches, which affects all files equally. Each process loads all files and runs them one after the
other, inference by inference, in an order that is mirrored every second time.
"""

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from math import exp, log
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import process_time
from typing import NamedTuple

import numpy as np

from edgewright.bench.statistics import paired_interval

WARM_TURNS, FEWEST_TURNS = 3, 5


class Share(NamedTuple):
    """Median CPU time of a file in ms, and its ratio to the first file with a 99 % interval over processes."""

    cpu_ms: float
    ratio: float
    low: float | None
    high: float | None


def take_turns(files: Sequence[Path], *, processes: int, seconds: float) -> list[Share]:
    """Measure the files for `seconds` of CPU time per file and process. Raises LiteRT's errors."""
    found = [in_fresh_process(files, seconds, number) for number in range(processes)]
    return [compare([times[0] for times in found], [times[place] for times in found]) for place in range(len(files))]


def in_fresh_process(files: Sequence[Path], seconds: float, number: int) -> list[float]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(time_files, files, seconds, number).result()


def time_files(files: Sequence[Path], seconds: float, number: int) -> list[float]:
    """Return the median seconds of an inference of each file on one thread."""
    from ai_edge_litert.interpreter import Interpreter

    places = list(range(len(files)))
    places = places[number % len(places) :] + places[: number % len(places)]
    ready = [Interpreter(str(file), num_threads=1) for file in files]
    for interpreter in ready:
        fill(interpreter)
    taken: list[list[float]] = [[] for _ in files]
    turn = 0
    while turn < WARM_TURNS + FEWEST_TURNS or sum(map(sum, taken)) < seconds * len(files):
        for place in places if turn % 2 == 0 else places[::-1]:
            began = process_time()
            ready[place].invoke()
            if turn >= WARM_TURNS:
                taken[place].append(process_time() - began)
        turn += 1
    return [median(times) for times in taken]


def fill(interpreter: object) -> None:
    """Return normal random floats, and zeros for integers, which may be indices."""
    interpreter.allocate_tensors()  # type: ignore[attr-defined] # the interpreter has no types, here and below
    rng = np.random.default_rng(0)
    for detail in interpreter.get_input_details():  # type: ignore[attr-defined] # as above
        wanted = np.dtype(detail["dtype"])
        numbers = rng.standard_normal(detail["shape"]) if wanted.kind == "f" else np.zeros(detail["shape"])
        interpreter.set_tensor(detail["index"], numbers.astype(wanted))  # type: ignore[attr-defined] # as above


def compare(first: Sequence[float], other: Sequence[float]) -> Share:
    ratio = paired_interval([log(b / a) for a, b in zip(first, other, strict=True)])
    low, high = (None if end is None else exp(end) for end in (ratio.low, ratio.high))
    return Share(median(other) * 1e3, exp(ratio.value), low, high)


if __name__ == "__main__":
    named = [Path(word) for word in sys.argv[1:]]
    for one, share in zip(named, take_turns(named, processes=7, seconds=0.2), strict=True):
        interval = "" if share.low is None else f" ({share.low:.3f}–{share.high:.3f})"
        print(f"{one.name}: {share.cpu_ms:.3f} ms, {share.ratio:.3f}{interval}")
