"""The process with Flower, in its environment."""

import os
from math import inf
from pathlib import Path

from edgewright.bench.session import Progress
from edgewright.errors import RuntimeMissing
from edgewright.federated.job import WORKER, FederatedJob
from edgewright.flows.child_process import run_job
from edgewright.runtimes.environments import (
    ENVIRONMENTS,
    environment_path,
    find_ready_locks,
    make_launch_command,
)

NAME = "flower"
HOME_VARIABLE = "FLWR_HOME"  # where Flower keeps its identifiers


def check_environment(folder: Path) -> None:
    """Raise RuntimeMissing if Flower's environment is not set up. `folder` is that of all environments."""
    if NAME not in find_ready_locks(folder):
        raise RuntimeMissing(
            f"the environment {NAME} is not set up",
            "Flower's packages conflict with those of Edgewright",
            f"edgewright runtimes setup {NAME} (about {ENVIRONMENTS[NAME].megabytes} MB)",
        )


def run_in_environment(
    folder: Path, job: FederatedJob, progress: Progress, title: str, out: Path, idle_timeout_s: float = inf
) -> None:
    """Run a job of `federated.worker`. Raises what `check_environment` raises, and the errors of the job."""
    check_environment(folder)
    out.mkdir(parents=True, exist_ok=True)
    path = environment_path(folder, NAME)
    os.environ[HOME_VARIABLE] = str(path / "flower-home")
    run_job(
        WORKER, job, out, progress, title=title, idle_timeout_s=idle_timeout_s,
        command=make_launch_command(path, WORKER),
    )  # fmt: skip
