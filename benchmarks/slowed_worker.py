"""A worker whose ONNX Runtime is slower by a known share: it spins for that share of each inference's time."""

from collections.abc import Callable
from time import perf_counter_ns

from edgewright.runtimes import onnxruntime
from edgewright.runtimes.onnxruntime.session import OnnxSession
from edgewright.runtimes.wire import SessionRequest
from edgewright.runtimes.worker import main

SLOWDOWN = 0.10
open_plainly = onnxruntime.open_session


def open_slowed(request: SessionRequest) -> OnnxSession:
    session = open_plainly(request)
    session.run = slowed(session.run)
    return session


def slowed(run: Callable[[], None]) -> Callable[[], None]:
    def run_slowed() -> None:
        begin = perf_counter_ns()
        run()
        end = perf_counter_ns()
        until = end + int((end - begin) * SLOWDOWN)
        while perf_counter_ns() < until:
            pass

    return run_slowed


if __name__ == "__main__":
    onnxruntime.open_session = open_slowed
    main()
