"""Keep one worker alive: `python live_worker.py RUNTIME SOURCE ARTIFACT SECONDS`.

It compiles where it cannot run (`ARTIFACT` is `-`), else opens the artifact, runs it now and then, and profiles it in a
worker of its own. Prints one JSON object: what was done, and the worker's threads.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from edgewright.devices.connection import Connection, start_worker
from edgewright.formats.artifacts import artifact_signature, read_record
from edgewright.runtimes.wire import (
    CommandDone,
    Compile,
    Compiled,
    CompileRequest,
    Open,
    Opened,
    ProfileRuns,
    SessionRequest,
    TimeRuns,
    Times,
)

PATIENCE_S = 500.0  # an import that takes a second takes minutes where all are watched side by side
# The format of a source and the sizes of its inputs, by its suffix: the digits, and the network of the torch tests.
SHAPES: dict[str, tuple[str, dict[str, tuple[int, ...]]]] = {
    ".onnx": ("onnx", {"image": (1, 1, 8, 8)}),
    ".py": ("torch", {"image": (1, 3, 16, 16), "scale": (1, 8)}),
}


def main(runtime: str, source: str, artifact: str, seconds: float) -> None:
    command = [sys.executable, "-P", "-m", "edgewright.runtimes.worker", runtime]
    began = time.monotonic()
    with start_worker(command, runtime, PATIENCE_S, Path("worker.log")) as worker:
        done = compile_here(worker, source) if artifact == "-" else run_here(worker, artifact)
        done["threads"] = count_threads(worker)
        while time.monotonic() - began < seconds:
            if artifact != "-":
                done["inferences"] += len(worker.ask(TimeRuns(runs=20, seconds=1.0), Times).wall_ns)
            time.sleep(1)
        done["seconds"] = time.monotonic() - began
        worker.leave()
    if artifact != "-":
        with start_worker(command, runtime, PATIENCE_S, Path("worker.log")) as worker:
            session, feeds = plan_session(artifact)
            Path("trace").mkdir()
            worker.ask(
                ProfileRuns(session=session, feeds=feeds, runs=3, folder=str(Path("trace").absolute())), CommandDone
            )
            worker.leave()
    print(json.dumps(done))


def count_threads(worker: Connection) -> int:
    return len(list(Path(f"/proc/{worker.hello.pid}/task").iterdir()))


def plan_session(artifact: str) -> tuple[SessionRequest, str]:
    """The artifact with inputs of ones."""
    record = read_record(Path(artifact))
    feeds = Path("feeds.npz").absolute()
    signature = artifact_signature(record)
    ones = {spec.name: np.ones([int(size) for size in spec.shape], spec.dtype) for spec in signature.inputs}
    np.savez(feeds, allow_pickle=False, **ones)
    return SessionRequest(model=str(Path(artifact).absolute().parent / record.main)), str(feeds)


def run_here(worker: Connection, artifact: str) -> dict[str, float]:
    session, feeds = plan_session(artifact)
    worker.ask(Open(session=session, feeds=feeds), Opened)
    return {"inferences": 0}


def compile_here(worker: Connection, source: str) -> dict[str, float]:
    """ONNX, or `FILE.py:function` as a torch source."""
    kind, shapes = SHAPES[Path(source.partition(":")[0]).suffix]
    folder = Path("again").absolute()
    folder.mkdir()
    request = CompileRequest(source=source, format=kind, precision="fp32", shapes=shapes, folder=str(folder), stem="m")
    worker.ask(Compile(request=request), Compiled)
    return {"compiled": 1}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
