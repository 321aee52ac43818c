"""A worker whose ONNX Runtime is slower by a known share: it spins for that share of each inference's CPU time.

A share of the wall time would be more than that on a busy machine, where inferences are interrupted.
"""

from collections.abc import Callable
from time import process_time_ns

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
        begin = process_time_ns()
        run()
        end = process_time_ns()
        until = end + int((end - begin) * SLOWDOWN)
        while process_time_ns() < until:
            pass

    return run_slowed


if __name__ == "__main__":
    onnxruntime.open_session = open_slowed
    main()
