"""`federate init`, `server` and `client`: folders with keys, and the processes of both sides."""

import shutil
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from edgewright.errors import ConfigError, UsageError
from edgewright.federated.connection import HELLO, ServerConnection
from edgewright.federated.job import ClientJob, FederatedResult, RoundSettings, ServerJob
from edgewright.federated.keys import write_keys
from edgewright.flows.compile.publication import copy_atomically, open_work_folder
from edgewright.flows.compile.sources import hash_source
from edgewright.flows.experiment.dataset_cache import cache_dataset
from edgewright.flows.federate.environment import check_environment, run_in_environment
from edgewright.flows.federate.plan import FederatePlan
from edgewright.flows.federate.report import FederateReport
from edgewright.flows.federate.simulation import check_plan, make_local_model, make_report
from edgewright.flows.personalize.flow import check_source
from edgewright.flows.workspace import Workspace
from edgewright.schema.plan import CompilePlan
from edgewright.system.files import create_folder_atomically, read_regular, write_atomically
from edgewright.tasks.data.dataset import open_dataset
from edgewright.tasks.spec.task import Task
from edgewright.training.job import CachedDataset

FILE = "federation.json"
MAX_CLIENTS = 1000


class Federation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every member of a federation has beside its keys (edgewright.federation/1); files are in its folder."""

    schema: str = "edgewright.federation/1"
    model: str
    weights: str | None
    task: dict[str, object]
    clients: int
    settings: RoundSettings


class InitReport(Struct, frozen=True, kw_only=True):
    """The folders of a new federation (edgewright.federation-folders/1)."""

    schema: str = "edgewright.federation-folders/1"
    server: str
    clients: tuple[str, ...]


class ClientReport(Struct, frozen=True, kw_only=True):
    """A client that took part to the end (edgewright.federate-client/1); `weights` of the signed global model."""

    schema: str = "edgewright.federate-client/1"
    server: str
    samples: int
    weights: str


class Meeting(NamedTuple):
    """Where a server listens, for how many rounds, and how long it waits for clients and answers."""

    host: str
    port: int
    rounds: int
    sampled: int
    timeout_s: float


def init_federation(plan: FederatePlan, hosts: list[str], out: Path) -> InitReport:
    """Write one folder for the server and one for each client.

    Raises UsageError if the folder has files, RuntimeMissing without the package cryptography.
    """
    check_source(plan.model)
    check_plan(plan)
    if plan.clients > MAX_CLIENTS:
        raise UsageError(f"--clients {plan.clients} is too many", f"the limit is {MAX_CLIENTS}", "use fewer")
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} has files", "keys are never replaced", "name a new folder with --output")
    hash_source(CompilePlan(source=plan.model, weights=plan.weights, cells=()))  # it names a file that is missing
    names = ["server", *(f"client-{number + 1}" for number in range(plan.clients))]
    file, _, factory = plan.model.rpartition(":")
    weights = f"weights{Path(plan.weights).suffix}" if plan.weights else None
    federation = Federation(
        model=f"{Path(file).name}:{factory}", weights=weights, task=plan.task, clients=plan.clients,
        settings=plan.settings,
    )  # fmt: skip
    with create_folder_atomically(out, "server") as part:
        folders = [part / name for name in names]
        for folder in folders:
            folder.mkdir(mode=0o700)
            shutil.copyfile(file, folder / Path(file).name)
            if plan.weights and weights:
                shutil.copyfile(plan.weights, folder / weights)
            write_atomically(folder / FILE, msgspec.json.encode(federation))
        write_keys(folders[0], folders[1:], hosts)
    return InitReport(server=str(out / "server"), clients=tuple(str(out / name) for name in names[1:]))


def _read_federation(folder: Path) -> Federation:
    try:
        return msgspec.json.decode(read_regular(folder / FILE), type=Federation)
    except (OSError, msgspec.MsgspecError) as error:
        what = f"{folder} is not a folder of a federation"
        raise ConfigError(what, str(error), "edgewright federate init makes the folders") from None


def _make_plan(federation: Federation, folder: Path, data: str, meeting: Meeting | None) -> FederatePlan:
    weights = str(folder / federation.weights) if federation.weights else None
    return FederatePlan(
        model=str(folder / federation.model), weights=weights, task=federation.task, data="", val=data,
        clients=federation.clients, sampled=meeting.sampled if meeting else 0, rounds=meeting.rounds if meeting else 1,
        settings=federation.settings, central=False,
    )  # fmt: skip


def serve(
    folder: Path, val: str, meeting: Meeting, out: Path, environments: Path, workspace: Workspace
) -> FederateReport:
    """Serve all rounds, record the run, and write the global model to `out`.

    Raises ConfigError, UsageError, DataError, RuntimeMissing, or DeviceUnreachable if the clients do not come.
    """
    federation = _read_federation(folder)
    plan = check_plan(_make_plan(federation, folder, val, meeting))
    check_environment(environments)
    task = msgspec.convert(plan.task, Task)
    with open_work_folder(out) as work, workspace.recording("federate", plan) as run:
        job = ServerJob(
            model=make_local_model(plan.model, plan.weights, plan.task, ()), val=_cache(val, task, work, workspace),
            settings=plan.settings, clients=plan.clients, sampled=plan.sampled, rounds=plan.rounds,
            folder=str(folder.absolute()), host=meeting.host, port=meeting.port, timeout_s=meeting.timeout_s,
            out=str(work / "made"),
        )  # fmt: skip
        run_in_environment(environments, job, workspace.progress, "the server", work / "made")
        result = msgspec.json.decode((work / "made" / "report.json").read_bytes(), type=FederatedResult)
        weights = out / "global.safetensors"
        copy_atomically(work / "made" / "weights.safetensors", weights)
        report = make_report(plan, task, result)
        report = msgspec.structs.replace(report, run_id=run.id, weights=str(weights))
        run.put_file(weights, role="weights")
        run.put_bytes(msgspec.json.encode(report), role="federate")
    return report


def join(folder: Path, server: str, data: str, out: Path, environments: Path, workspace: Workspace) -> ClientReport:
    """Take part until the server ends, and write the global model to `out`.

    Raises DeviceUnauthorized if a certificate is not accepted, DeviceUnreachable without a server, and as `serve`.
    """
    federation = _read_federation(folder)
    ServerConnection(folder, server).ask(HELLO)
    check_environment(environments)
    plan = _make_plan(federation, folder, data, None)
    task = msgspec.convert(plan.task, Task)
    with open_work_folder(out) as work:
        own = _cache(data, task, work, workspace)
        job = ClientJob(
            model=make_local_model(plan.model, plan.weights, plan.task, ()), data=own, settings=plan.settings,
            folder=str(folder.absolute()), server=server, out=str(work / "made"),
        )  # fmt: skip
        run_in_environment(environments, job, workspace.progress, "the client", work / "made")
        weights = out / "global.safetensors"
        copy_atomically(work / "made" / "weights.safetensors", weights)
    return ClientReport(server=server, samples=len(own.fit), weights=str(weights))


def _cache(data: str, task: Task, work: Path, workspace: Workspace) -> CachedDataset:
    return cache_dataset(
        lambda: open_dataset(data, task), work / "data", held_out=0.0, seed=0, progress=workspace.progress
    )
