"""CPU time of one runtime's files that alternate in one process, through the runtimes' own sessions.

As in `turns.py` for LiteRT, each fresh process loads all files and runs them one after the other, inference by
inference, in an order that is mirrored every second time. Other load affects the ratio little.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np

from benchmarks.turns import Share, compare
from edgewright.runtimes.contract import Session
from edgewright.runtimes.table import find_runtime, import_runtime
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.arrays import Array

WARM_TURNS = 3


def take_turns(runtime: str, files: Sequence[Path], *, processes: int, turns: int) -> list[Share]:
    """Compare each file with the first. Raises BrokenProcessPool if the runtime crashes, and the runtime's errors."""
    found = [in_fresh_process(runtime, files, turns, number) for number in range(processes)]
    return [compare([times[0] for times in found], [times[place] for times in found]) for place in range(len(files))]


def in_fresh_process(runtime: str, files: Sequence[Path], turns: int, number: int) -> list[float]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(time_files, runtime, files, turns, number).result()


def time_files(runtime: str, files: Sequence[Path], turns: int, number: int) -> list[float]:
    """Return the median seconds of an inference of each file on one thread."""
    os.dup2(2, 1)  # MNN talks on stdout
    places = list(range(len(files)))
    places = places[number % len(places) :] + places[: number % len(places)]
    module = import_runtime(find_runtime(runtime))
    sessions = [module.open_session(SessionRequest(model=str(file))) for file in files]
    for session in sessions:
        session.bind(make_feeds(session))
    taken: list[list[float]] = [[] for _ in files]
    for turn in range(-WARM_TURNS, turns):
        for place in places if turn % 2 == 0 else places[::-1]:
            began = process_time()
            sessions[place].run()
            if turn >= 0:
                taken[place].append(process_time() - began)
    return [median(times) for times in taken]


def make_feeds(session: Session) -> dict[str, Array]:
    """Return normal random inputs; a dynamic size (the batch of an image model) is 1."""
    rng = np.random.default_rng(0)
    return {
        spec.name: rng.standard_normal([1 if isinstance(size, str) else size for size in spec.shape]).astype(spec.dtype)
        for spec in session.signature.inputs
    }
