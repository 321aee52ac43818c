"""`federate simulate`: all clients on this machine, and the same model trained centrally."""

from pathlib import Path

import msgspec

from edgewright.errors import DataError, UsageError
from edgewright.federated.job import FEWEST_SECURE, FederatedResult, LocalModel, SimulateJob
from edgewright.flows.compile.publication import copy_atomically, open_work_folder
from edgewright.flows.compile.sources import get_stem, hash_source, make_absolute
from edgewright.flows.experiment.dataset_cache import cache_dataset
from edgewright.flows.experiment.report import get_metric_scale
from edgewright.flows.federate.environment import check_environment, run_in_environment
from edgewright.flows.federate.plan import FederatePlan
from edgewright.flows.federate.report import FederateReport
from edgewright.flows.personalize.flow import check_source
from edgewright.flows.workspace import Workspace
from edgewright.schema.plan import CompilePlan
from edgewright.schema.run import Metric, Series
from edgewright.tasks.data.dataset import open_dataset
from edgewright.tasks.spec.task import Task
from edgewright.training.job import CachedDataset, ModuleSource

SHARE = 10  # one client of this many is sampled by default


def simulate(plan: FederatePlan, out: Path | None, environments: Path, workspace: Workspace) -> FederateReport:
    """Simulate the rounds, record the run, and write the weights to `out` if it is given.

    Raises UsageError, ConfigError, DataError, ModelError, RuntimeMissing without Flower's environment, TrainingDiverged
    if a round changes nothing, or an error of the worker.
    """
    check_source(plan.model)
    plan = check_plan(plan)
    check_environment(environments)
    task = msgspec.convert(plan.task, Task)
    plan = _add_hashes(plan, task)
    folder = workspace.store.home / "federated" if out is None else out
    with open_work_folder(folder) as work, workspace.recording("federate", plan) as run:
        data, val = (_cache(plan, name, task, work, workspace) for name in ("data", "val"))
        if len(data.fit) < plan.clients:
            why = f"the data has {len(data.fit)} samples"
            raise DataError(f"{plan.clients} clients cannot each have a sample", why, "use fewer --clients")
        job = SimulateJob(
            model=make_local_model(plan.model, plan.weights, plan.task, plan.code), data=data, val=val,
            settings=plan.settings, clients=plan.clients, sampled=plan.sampled, rounds=plan.rounds, alpha=plan.alpha,
            dropout=plan.dropout, central=plan.central, out=str(work / "made"),
        )  # fmt: skip
        run_in_environment(environments, job, workspace.progress, "the simulation", work / "made")
        result = msgspec.json.decode((work / "made" / "report.json").read_bytes(), type=FederatedResult)
        report = make_report(plan, task, result)
        report = msgspec.structs.replace(report, run_id=run.id)
        if out is not None:
            weights = out / f"{get_stem(plan.model)}.federated.safetensors"
            copy_atomically(work / "made" / "weights.safetensors", weights)
            report = msgspec.structs.replace(report, weights=str(weights))
        run.put_file(work / "made" / "weights.safetensors", role="weights")
        run.put_bytes(msgspec.json.encode(report), role="federate")
        run.add(metrics=_list_metrics(report), series=_list_series(report))
    return report


def check_plan(plan: FederatePlan) -> FederatePlan:
    """Return the plan with the number of sampled clients. Raises UsageError for settings that contradict each other."""
    settings = plan.settings
    if not plan.sampled:
        plan = msgspec.structs.replace(plan, sampled=min(plan.clients, max(5, plan.clients // SHARE)))
    if plan.sampled > plan.clients:
        raise UsageError(f"--sample {plan.sampled} exceeds --clients {plan.clients}", "", f"--sample {plan.clients}")
    if settings.noise and not settings.clip:
        raise UsageError("--noise requires --clip", "the noise is in multiples of the largest norm", "add --clip 1")
    if settings.secure and plan.sampled < FEWEST_SECURE:
        raise UsageError(
            "--secure needs at least 3 clients in a round",
            "a sum of two shows each",
            "use 3 clients or more in a round",
        )
    if settings.secure and settings.compression != "none":
        why = "masks cover all values of an update, compressed or not"
        raise UsageError("--secure cannot be used with --compress", why, "use one of them")
    if settings.robust != "none" and (settings.secure or settings.noise):
        why = "a median needs each client's update, which --secure hides, and its noise is not accounted for"
        raise UsageError("--robust cannot be used with --secure or --noise", why, "use one of them")
    if settings.robust != "none" and settings.strategy == "fedadam":
        raise UsageError("--robust cannot be used with --strategy fedadam", "", "use --strategy fedavg")
    return plan


def make_local_model(source: str, weights: str | None, task: dict[str, object], code: tuple[str, ...]) -> LocalModel:
    """Return the model with absolute paths."""
    module = ModuleSource(factory=make_absolute(source), weights=str(Path(weights).absolute()) if weights else None)
    return LocalModel(module=module, task=msgspec.json.encode(task).decode(), code=code)


def _add_hashes(plan: FederatePlan, task: Task) -> FederatePlan:
    found = {}
    for name in ("data", "val"):
        with open_dataset(getattr(plan, name), task, plan.code) as data:
            if not data.labeled:
                raise DataError(f"{data.title} has no labels", f"--{name} requires them", "give labeled data")
            found[f"{name}_fingerprint"] = data.fingerprint
    source = hash_source(CompilePlan(source=plan.model, weights=plan.weights, cells=()))
    return msgspec.structs.replace(plan, model_sha256=source, **found)


def _cache(plan: FederatePlan, name: str, task: Task, work: Path, workspace: Workspace) -> CachedDataset:
    return cache_dataset(
        lambda: open_dataset(getattr(plan, name), task, plan.code),
        work / name, held_out=0.0, seed=0, progress=workspace.progress,
    )  # fmt: skip


def make_report(plan: FederatePlan, task: Task, result: FederatedResult) -> FederateReport:
    """Return the report, without the path of the weights and the run."""
    final, settings = result.rounds[-1].metric, plan.settings
    factor = get_metric_scale(task.metric)[0] * (1 if task.higher_is_better else -1)
    gap = None if result.central is None else round(factor * (result.central - final), 4)
    return FederateReport(
        model=plan.model,
        strategy=settings.strategy,
        method=settings.method,
        metric=task.metric,
        clients=plan.clients,
        sampled=plan.sampled,
        rounds=result.rounds,
        initial=result.initial,
        final=final,
        central=result.central,
        central_epochs=result.central_epochs,
        gap=gap,
        parameters=result.parameters,
        trained=result.trained,
        bytes_up=sum(one.bytes_up for one in result.rounds),
        bytes_down=sum(one.bytes_down for one in result.rounds),
        uncompressed_up=4 * result.parameters * sum(one.answered for one in result.rounds),
        epsilon=result.rounds[-1].epsilon,
        delta=settings.delta if settings.noise else None,
        smallest_client=result.smallest_client,
        largest_client=result.largest_client,
        weights=None,
        run_id=None,
        answer=_answer(task, result, gap),
    )


def _answer(task: Task, result: FederatedResult, gap: float | None) -> str:
    factor, unit = get_metric_scale(task.metric)
    last = result.rounds[-1]
    beside = "" if gap is None else f", {gap:+.1f} {unit} to central training on as many samples"
    spent = "" if last.epsilon is None else f", epsilon {last.epsilon:.2f}"
    return (
        f"{task.metric} {factor * result.initial:.1f} → {factor * last.metric:.1f} in {len(result.rounds)} rounds"
        f"{beside}{spent}."
    )


def _list_metrics(report: FederateReport) -> tuple[Metric, ...]:
    values = {"initial": report.initial, "final": report.final, "central": report.central, "epsilon": report.epsilon}
    known = [
        Metric(name=f"federate.{name}", unit="1", value=value) for name, value in values.items() if value is not None
    ]
    sizes = (("bytes_up", report.bytes_up), ("bytes_down", report.bytes_down))
    return (*known, *(Metric(name=f"federate.{name}", unit="bytes", value=float(value)) for name, value in sizes))


def _list_series(report: FederateReport) -> tuple[Series, ...]:
    rounds = report.rounds
    return (
        Series(name="federate.metric", unit="1", data=tuple(one.metric for one in rounds)),
        Series(name="federate.bytes_up", unit="bytes", data=tuple(float(one.bytes_up) for one in rounds)),
        Series(name="federate.bytes_down", unit="bytes", data=tuple(float(one.bytes_down) for one in rounds)),
    )
