"""Reported p50 compared with a bare timed loop in one process.

Blocks of both alternate on one loaded session: Edgewright's through the worker's own code (its request, its loop, its
subtraction of the calibrated cost), the peer's in a plain loop.
"""

import argparse
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter_ns
from typing import Any

import numpy as np

from benchmarks.measuring import describe_machine, find_model, format_ratio
from edgewright.bench.feeds import write_feeds
from edgewright.runtimes import onnxruntime as runtime
from edgewright.runtimes.wire import Calibrate, ClockCalibration, Open, SessionRequest, TimeRuns, Times
from edgewright.runtimes.worker import RequestHandler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=60)
    parser.add_argument("--runs", type=int, default=20)
    arguments = parser.parse_args()
    ours, bare = compare(find_model(), arguments.blocks, arguments.runs)
    print(describe_machine())
    print(format_ratio("p50 reported / p50 of a bare loop, µs", ours, bare))


def compare(model: Path, blocks: int, runs: int) -> tuple[list[float], list[float]]:
    """Return the median microseconds of each block, of Edgewright and of the bare loop."""
    import onnxruntime

    image = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    handler, own_ns = open_handler(model, image)
    ours, bare = [], []
    for block in range(blocks + 2):
        pair = (time_ours(handler, own_ns, runs), time_bare(session, image, runs))
        if block >= 2:  # the first blocks warm both up
            ours.append(pair[0])
            bare.append(pair[1])
    return ours, bare


def open_handler(model: Path, image: np.ndarray) -> tuple[RequestHandler, float]:
    handler = RequestHandler(runtime)
    with TemporaryDirectory() as folder:
        feeds = Path(folder) / "feeds.npz"
        write_feeds(feeds, {"x": image})
        handler.answer(Open(session=SessionRequest(model=str(model)), feeds=str(feeds)))
    calibration = handler.answer(Calibrate(runs=2000))
    if not isinstance(calibration, ClockCalibration):
        raise SystemExit(str(calibration))
    return handler, calibration.wall_ns


def time_ours(handler: RequestHandler, own_ns: float, runs: int) -> float:
    times = handler.answer(TimeRuns(runs=runs, seconds=60, settle=1))
    if not isinstance(times, Times):
        raise SystemExit(str(times))
    return (median(times.wall_ns) - own_ns) / 1e3


def time_bare(session: Any, image: np.ndarray, runs: int) -> float:
    session.run(None, {"x": image})
    times = []
    for _ in range(runs):
        begin = perf_counter_ns()
        session.run(None, {"x": image})
        times.append(perf_counter_ns() - begin)
    return median(times) / 1e3


if __name__ == "__main__":
    main()
