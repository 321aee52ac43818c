"""Files that a benchmark's run keeps: its model, its inputs, and the log of a failed worker."""

import traceback
from contextlib import suppress
from pathlib import Path

from edgewright.bench.session import CandidateProcesses
from edgewright.errors import StoreError
from edgewright.formats.artifacts import find_record, record_path
from edgewright.store.recording import Recording

LOG_BYTES = 64 * 1024


def save_files(run: Recording, inputs: str | None) -> None:
    """Store the model, its weight files and the user's inputs, so that the run can be repeated."""
    model = run.run.model
    if model is None:
        return
    path = Path(model.path)
    run.put_file(path, role="model", model_id=model.sha256)
    for name in model.data_files:
        run.put_file(path.parent / name, role=f"data:{name}")
    if find_record(path) is not None:
        run.put_file(record_path(path), role=f"data:{record_path(path).name}")
    if inputs is not None:
        run.put_file(Path(inputs), role="inputs")


def save_log(run: Recording, measured: CandidateProcesses) -> None:
    """Store the failed worker's output and the traceback; if the log cannot be stored, the run still is."""
    log = measured.processes[-1].log if measured.processes else None
    worker_output = log.read_bytes()[-LOG_BYTES:] if log and log.is_file() else b""
    trace = "".join(traceback.format_exception(measured.failure)).encode()
    with suppress(StoreError):
        run.put_bytes(worker_output + b"\n" + trace, role="log")
