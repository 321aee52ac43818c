"""`python -m edgewright.federated.worker JOB.json`: a simulation, a server or a client, in Flower's environment.

Progress as JSON lines on stdout, as in `training/worker.py`.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from edgewright.errors import DataError, EdgewrightError
from edgewright.federated.job import (
    ClientJob,
    FederatedJob,
    FederatedResult,
    RoundReport,
    ServerJob,
    SimulateJob,
)
from edgewright.federated.rounds import RoundPlan, run_rounds
from edgewright.federated.trainer import LocalTrainer
from edgewright.federated.updates import divide_samples
from edgewright.quantization.job import JobError, JobFinished, StageProgress
from edgewright.system.files import write_atomically
from edgewright.system.parent import die_with_parent
from edgewright.training.data.samples import open_array
from edgewright.training.job import CachedDataset, JobMessage

Send = Callable[[JobMessage], None]


def main(path: str) -> None:
    die_with_parent()
    channel = os.dup(1)
    os.dup2(2, 1)  # libraries' output must not mix with the messages

    def send(word: JobMessage) -> None:
        os.write(channel, msgspec.json.encode(word) + b"\n")

    job: FederatedJob = msgspec.json.decode(Path(path).read_bytes(), type=FederatedJob)
    try:
        _run(job, send)
    except EdgewrightError as error:
        send(JobError(kind=type(error).__name__, what=error.what, why=error.why, try_this=error.try_this))
    else:
        send(JobFinished())


def _run(job: FederatedJob, send: Send) -> None:
    match job:
        case SimulateJob():
            _simulate(job, send)
        case ServerJob():
            from edgewright.federated.server import run_server

            run_server(job, send)
        case ClientJob():
            from edgewright.federated.device import run_client

            run_client(job, send)


def _simulate(job: SimulateJob, send: Send) -> None:
    """Run all clients in this process, and write `weights.safetensors` and `report.json`."""
    from edgewright.federated.client import make_client_app
    from edgewright.federated.grid import LocalGrid

    parts = _divide(job)
    trainer = LocalTrainer(job.model, job.settings, job.data)
    evaluate, initial = trainer.make_evaluation(job.val), trainer.arrays
    app = make_client_app(trainer, job.settings, lambda number: parts[number])
    grid = LocalGrid(app, job.clients, job.dropout, job.settings.seed)
    first = evaluate(initial)

    def finished(report: RoundReport) -> None:
        send(StageProgress(stage="round", note=f"metric {report.metric:.4f}", done=report.round, of=job.rounds))

    plan = RoundPlan(job.clients, job.sampled, job.rounds, finished)
    arrays, reports = run_rounds(initial, job.settings, plan, evaluate, grid)
    epochs = job.rounds * job.sampled / job.clients * job.settings.epochs
    central = None
    if job.central:
        send(StageProgress(stage="central training", done=0, of=1))
        change = trainer.train(initial, job.data, 0, epochs)
        central = evaluate([old + one for old, one in zip(initial, change, strict=True)])
    sizes = [len(part.fit) for part in parts]
    result = FederatedResult(
        rounds=reports,
        initial=first,
        central=central,
        central_epochs=epochs if job.central else None,
        parameters=trainer.parameters,
        trained=sum(one.size for one in initial),
        smallest_client=min(sizes),
        largest_client=max(sizes),
    )
    trainer.write(arrays, Path(job.out) / "weights.safetensors")
    write_atomically(Path(job.out) / "report.json", msgspec.json.encode(result))


def _divide(job: SimulateJob) -> list[CachedDataset]:
    """Return the samples of each client."""
    rows = np.array(job.data.fit, np.int64)
    labels = open_array(job.data.labels)[rows]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        why = "they are divided by their class"
        raise DataError("the samples cannot be divided among clients", why, "use a classification")
    random = np.random.default_rng([job.settings.seed, 0xA1])
    parts = divide_samples(labels.astype(np.int64), job.clients, job.alpha, random)
    return [msgspec.structs.replace(job.data, fit=tuple(rows[part].tolist()), held_out=()) for part in parts]


if __name__ == "__main__":
    main(sys.argv[1])
