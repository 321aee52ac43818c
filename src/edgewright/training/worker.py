"""`python -m edgewright.training.worker JOB.json`: train, inspect or run a teacher; progress as JSON lines.

A separate process, as `quantization/worker.py`: only this process loads torch, and stdout carries the messages of
`job.py`.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from edgewright.errors import EdgewrightError, OutputError, RuntimeMissing, find_full_disk_error
from edgewright.quantization.job import JobError, JobFinished
from edgewright.system.parent import die_with_parent
from edgewright.training.job import ApplyJob, InspectJob, JobMessage, PersonalJob, TeacherJob, TrainJob, WorkerJob


def main(path: str) -> None:
    die_with_parent()
    channel = os.dup(1)
    os.dup2(2, 1)  # libraries' output must not mix with the messages

    def send(word: JobMessage) -> None:
        os.write(channel, msgspec.json.encode(word) + b"\n")

    job: WorkerJob = msgspec.json.decode(Path(path).read_bytes(), type=WorkerJob)
    try:
        _run(job, send)
    except EdgewrightError as error:
        send(_make_job_error(find_full_disk_error(error) or error))
    except ImportError as error:
        send(
            _make_job_error(
                RuntimeMissing(
                    f"training requires the package {error.name}", str(error), 'run pip install "edgewright[train]"'
                )
            )
        )
    except OSError as error:
        send(
            _make_job_error(find_full_disk_error(error) or OutputError("a file cannot be read or written", str(error)))
        )
    except Exception as error:
        if (full := find_full_disk_error(error)) is None:
            raise
        send(_make_job_error(full))
    else:
        send(JobFinished())


def _make_job_error(error: EdgewrightError) -> JobError:
    return JobError(kind=type(error).__name__, what=error.what, why=error.why, try_this=error.try_this)


def _run(job: WorkerJob, send: Callable[[JobMessage], None]) -> None:
    match job:
        case TrainJob():
            from edgewright.training.loop.train import run_training

            run_training(job, send)
        case TeacherJob():
            from edgewright.training.distillation.teacher import run_teacher_job

            run_teacher_job(job, send)
        case PersonalJob():
            from edgewright.training.adapters.personal import run_personal

            run_personal(job, send)
        case ApplyJob():
            from edgewright.training.adapters.personal import run_apply

            run_apply(job)
        case InspectJob():
            from edgewright.training.inspection import run_inspect

            run_inspect(job, send)


if __name__ == "__main__":
    main(sys.argv[1])
