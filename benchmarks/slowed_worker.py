"""A worker whose ONNX Runtime is slower by a known share: after each inference it burns that share of its time."""

from time import perf_counter_ns

from edgewright.runtimes.onnxruntime.session import OnnxSession
from edgewright.runtimes.worker import main

SLOWDOWN = 0.10
run_plainly = OnnxSession.run


def run_slowed(session: OnnxSession) -> None:
    begin = perf_counter_ns()
    run_plainly(session)
    end = perf_counter_ns()
    until = end + int((end - begin) * SLOWDOWN)
    while perf_counter_ns() < until:
        pass


if __name__ == "__main__":
    setattr(OnnxSession, "run", run_slowed)  # noqa: B010 - replacing a method is what this file is for
    main()
