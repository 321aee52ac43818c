"""Times of the operators: in the model through the C API, or else of each operator alone.

The C API is used in a child process (`capture.py`). If that child fails, crashes or hangs, this process continues with
cut-outs (`cutout.py`), and the trace reports the reason.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgewright.runtimes.litert.profiling.capture import ERROR_FILE, FEEDS_FILE, ORDER_FILE, CaptureRequest
from edgewright.runtimes.litert.profiling.trace import TRACE_FILE
from edgewright.runtimes.wire import SessionRequest

# Both together stay well below the default limit of 120 s without an answer of a worker.
CAPTURE_SECONDS = 20.0
CHILD_LIMIT_SECONDS = 45.0
CUT_OUT_SECONDS = 30.0
CAPTURE_MODULE = "edgewright.runtimes.litert.profiling.capture"


def profile_operators(request: SessionRequest, feeds: Mapping[str, NDArray[Any]], runs: int, folder: Path) -> None:
    """Write a trace of `runs` inferences to `folder`; of fewer if they take longer than 20 s.

    Raises Rejected if LiteRT rejects the model, Mismatch if the feeds do not fit it.
    """
    _open_checked(request, feeds)
    if reason := _capture_in_child(request, feeds, runs, folder):
        from edgewright.runtimes.litert.profiling.cutout import write_cut_outs

        write_cut_outs(request, feeds, runs, folder, reason=reason, seconds=CUT_OUT_SECONDS)


def _open_checked(request: SessionRequest, feeds: Mapping[str, NDArray[Any]]) -> None:
    """Check model and feeds with the interpreter, so that rejections are reported as in `open_session`."""
    from edgewright.runtimes.litert.session import LiteRtSession

    session = LiteRtSession(request)
    session.bind(feeds)
    session.close()


def _capture_in_child(request: SessionRequest, feeds: Mapping[str, NDArray[Any]], runs: int, folder: Path) -> str:
    """Try the C API; return the reason of its failure, or an empty text."""
    capture_request = CaptureRequest(session=request, runs=runs, seconds=CAPTURE_SECONDS)
    (folder / ORDER_FILE).write_bytes(msgspec.json.encode(capture_request))
    np.savez(folder / FEEDS_FILE, allow_pickle=False, **feeds)
    reason = run_child([sys.executable, "-P", "-m", CAPTURE_MODULE, str(folder)], folder)
    (folder / FEEDS_FILE).unlink()
    if not reason and not (folder / TRACE_FILE).is_file():
        reason = "the C API's process wrote no trace"
    return reason


def run_child(command: list[str], folder: Path) -> str:
    """Run the capture; return the reason of its failure, or an empty text.

    The child has this process's import path without the current folder, since files beside a model are not code.
    """
    places = [path for path in sys.path if path and Path(path).is_absolute()]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    try:
        # Its output goes to the worker's stderr.
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            command, timeout=CHILD_LIMIT_SECONDS, env=environment, stdout=2, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return f"the C API did not answer within {CHILD_LIMIT_SECONDS:.0f} s"
    return _describe_failure(done.returncode, folder) if done.returncode else ""


def _describe_failure(status: int, folder: Path) -> str:
    error_file = folder / ERROR_FILE
    if error_file.is_file():
        return error_file.read_text(encoding="utf-8")
    if status < 0:
        return f"the C API's process was ended by {signal.Signals(-status).name}"
    return f"the C API's process ended with status {status}"
