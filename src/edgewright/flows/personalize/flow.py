"""`personalize`: train an adapter for one user, and keep it unless it is worse for that user."""

from pathlib import Path
from typing import NamedTuple

import msgspec

from edgewright.errors import DataError, GateFailed, ModelNotFound, UsageError
from edgewright.flows.compile.publication import copy_atomically, open_work_folder, raise_output_errors
from edgewright.flows.compile.sources import get_stem, hash_source, rename_model
from edgewright.flows.experiment.dataset_cache import cache_dataset
from edgewright.flows.experiment.report import get_metric_scale, make_curve_pair
from edgewright.flows.experiment.setup import check_classes, check_training_packages
from edgewright.flows.experiment.trainings import make_torch_source, run_training_worker
from edgewright.flows.personalize.plan import PersonalizePlan
from edgewright.flows.personalize.report import (
    AdapterFile,
    AppliedAdapter,
    PersonalizeReport,
    TrainingCost,
    UserAndPublic,
)
from edgewright.flows.workspace import Workspace
from edgewright.formats.files import read_model
from edgewright.schema.plan import CompilePlan
from edgewright.schema.run import Metric
from edgewright.system.files import write_atomically
from edgewright.tasks.data.dataset import open_dataset
from edgewright.tasks.spec.task import Task
from edgewright.training.adapters.file import AdapterRecord, read_record
from edgewright.training.job import (
    AdapterSettings,
    ApplyJob,
    CachedDataset,
    PersonalJob,
    PersonalReport,
    Settings,
)

LEARNING_RATES = {"lora": 2e-3, "head": 3e-3, "bias": 5e-3, "full": 5e-4}


class _Data(NamedTuple):
    """The cached samples, by their purpose."""

    user: CachedDataset
    val: CachedDataset
    replay: CachedDataset
    public: CachedDataset


def personalize(plan: PersonalizePlan, out: Path, workspace: Workspace) -> tuple[PersonalizeReport, GateFailed | None]:
    """Train for one user, record the run, and write adapter and merged model to `out` unless they are worse.

    Returns:
        The report, and the error if the personal model is worse on the user's held-out samples.

    Raises UsageError, ConfigError, DataError, ModelError, TrainingDiverged, or an error of the worker.
    """
    check_source(plan.source)
    check_training_packages()
    task = msgspec.convert(plan.task, Task)
    source = hash_source(CompilePlan(source=plan.source, weights=plan.weights, cells=()))
    plan = _add_hashes(plan, task, source)
    with open_work_folder(out) as work, workspace.recording("personalize", plan) as run:
        data = _cache(plan, task, work, workspace)
        made = work / "made"
        _train(plan, data, made, workspace)
        result = msgspec.json.decode((made / "report.json").read_bytes(), type=PersonalReport)
        record = read_record(made / "adapter.safetensors")
        kept = not _is_worse(task, result.user_after, result.user_before)
        report = _make_report(plan, task, data, result, (made / "adapter.safetensors", record))
        report = msgspec.structs.replace(report, run_id=run.id, kept=kept)
        error = None if kept else _reject(report)
        run.run = msgspec.structs.replace(
            run.run, model=rename_model(read_model(made / "model.onnx"), Path(plan.source).name, source, plan.source)
        )
        if kept:
            report = _publish(report, made, out / get_stem(plan.source))
            run.put_file(Path(report.adapter.path or ""), role="adapter")
            run.put_file(Path(report.weights or ""), role="weights")
        else:
            run.fail(error.why if error else "")
        run.put_bytes(msgspec.json.encode(report), role="personalize")
        series = tuple(one for curve in result.curves for one in make_curve_pair(f"personal.{curve.name}", curve))
        run.add(metrics=tuple(_list_metrics(report)), series=series)
    return report, error


def check_source(source: str) -> None:
    """Raise UsageError or ModelNotFound for a source that cannot be trained."""
    if ".py:" not in source:
        why = "only a torch source can be trained"
        raise UsageError(f"{source} cannot be personalized", why, "give FILE.py:FACTORY and --weights")
    if not Path(source.rpartition(":")[0]).is_file():
        raise ModelNotFound(f"source not found: {source}", "", "give FILE.py:FACTORY")


def _add_hashes(plan: PersonalizePlan, task: Task, source: str) -> PersonalizePlan:
    """Return the plan with the hashes of its files. Raises DataError and ConfigError for data that cannot be used."""
    found = {}
    for name in ("data", "val", "public", "replay"):
        if spec := getattr(plan, name):
            with open_dataset(spec, task, plan.code) as data:
                if not data.labeled and name != "replay":
                    raise DataError(f"{spec} has no labels", f"--{name} requires them", "give labeled data")
                if name == "data":
                    check_classes(data)
                found[f"{name}_fingerprint"] = data.fingerprint
    if found["data_fingerprint"] and found["data_fingerprint"] == found["val_fingerprint"]:
        why = "a model is always better on the samples that it was trained on"
        raise UsageError("--data and --val are the same dataset", why, "split the user's samples into two")
    return msgspec.structs.replace(plan, source_sha256=source, **found)


def _cache(plan: PersonalizePlan, task: Task, work: Path, workspace: Workspace) -> _Data:
    def cache(name: str, held_out: float) -> CachedDataset:
        spec = getattr(plan, name)
        return cache_dataset(
            lambda: open_dataset(spec, task, plan.code),
            work / name, held_out=held_out, seed=plan.seed, progress=workspace.progress,
        )  # fmt: skip

    public = cache("public", 0.0 if plan.replay else 0.5)
    if plan.replay:
        return _Data(
            cache("data", 0.0), cache("val", 0.0), cache("replay", 0.0),
            msgspec.structs.replace(public, held_out=public.fit),
        )  # fmt: skip
    return _Data(cache("data", 0.0), cache("val", 0.0), public, public)


def _train(plan: PersonalizePlan, data: _Data, made: Path, workspace: Workspace) -> None:
    settings = Settings(
        epochs=plan.epochs, batch=plan.batch, lr=plan.lr or LEARNING_RATES[plan.method], optimizer="adamw",
        weight_decay=0.0, warmup=0.0, precision="fp32", threads=plan.threads, seed=plan.seed,
    )  # fmt: skip
    job = PersonalJob(
        module=make_torch_source(plan.source, plan.weights),
        shapes=_read_shapes(data.user),
        task=msgspec.json.encode(plan.task).decode(),
        code=plan.code,
        data=data.user,
        val=data.val,
        replay=data.replay,
        public=data.public,
        adapter=AdapterSettings(
            method=plan.method, rank=plan.rank, replay=plan.replay_ratio, weight=plan.replay_weight
        ),
        settings=settings,
        out=str(made),
    )
    run_training_worker(job, workspace.progress, title="the training for the user", out=made)


def _read_shapes(data: CachedDataset) -> dict[str, tuple[int, ...]]:
    import numpy as np

    return {name: (1, *np.load(path, mmap_mode="r").shape[1:]) for name, path in data.inputs.items()}


def _is_worse(task: Task, after: float, before: float) -> bool:
    return after < before if task.higher_is_better else after > before


def _make_report(
    plan: PersonalizePlan, task: Task, data: _Data, result: PersonalReport, adapter: tuple[Path, AdapterRecord]
) -> PersonalizeReport:
    path, record = adapter
    return PersonalizeReport(
        source=plan.source,
        method=plan.method,
        metric=task.metric,
        before=UserAndPublic(user=result.user_before, public=result.public_before),
        after=UserAndPublic(user=result.user_after, public=result.public_after),
        kept=False,
        adapter=AdapterFile(path=None, bytes=path.stat().st_size, base=record.base),
        model=None,
        weights=None,
        parameters=result.parameters,
        trained=result.trained,
        user_samples=len(data.user.fit),
        val_samples=len(data.val.fit),
        public_samples=len(data.public.held_out),
        replayed_samples=result.replayed if plan.replay_ratio else 0,
        step=TrainingCost(
            steps=result.steps,
            step_ms=round(result.step_ms, 3),
            peak_memory_bytes=result.peak_memory_bytes,
            threads=result.threads,
        ),
        run_id=None,
        answer=_answer(task, result),
    )


def _answer(task: Task, result: PersonalReport) -> str:
    factor, unit = get_metric_scale(task.metric)
    gain, change = (
        factor * (result.user_after - result.user_before),
        factor * (result.public_after - result.public_before),
    )
    return (
        f"{task.metric} of the user {factor * result.user_before:.1f} → {factor * result.user_after:.1f} "
        f"({gain:+.1f} {unit}), public {change:+.1f} {unit}; {result.trained:,} of {result.parameters:,} "
        "parameters were trained."
    )


def _reject(report: PersonalizeReport) -> GateFailed:
    return GateFailed(
        "the personal model was rejected",
        f"{report.metric} of the user's held-out samples is {report.after.user:.4g}, and {report.before.user:.4g} with "
        "the model for all",
        "add samples of the user, lower --lr or --epochs, or use --method bias; the model for all stays in use",
    )


def _publish(report: PersonalizeReport, made: Path, target: Path) -> PersonalizeReport:
    adapter, weights, model = (
        Path(f"{target}{end}") for end in (".adapter.safetensors", ".personal.safetensors", ".personal.onnx")
    )
    with raise_output_errors(target.parent):
        copy_atomically(made / "adapter.safetensors", adapter)
        copy_atomically(made / "weights.safetensors", weights)
        copy_atomically(made / "model.onnx", model)
        report = msgspec.structs.replace(
            report,
            adapter=msgspec.structs.replace(report.adapter, path=str(adapter)),
            weights=str(weights),
            model=str(model),
        )
        write_atomically(Path(f"{target}.personalize.json"), msgspec.json.encode(report))
    return report


def _list_metrics(report: PersonalizeReport) -> list[Metric]:
    values = {
        "user.before": report.before.user,
        "user.after": report.after.user,
        "public.before": report.before.public,
        "public.after": report.after.public,
    }
    metrics = [Metric(name=f"personalize.{name}", unit="1", value=value) for name, value in values.items()]
    return [
        *metrics,
        Metric(name="personalize.step", unit="ms", value=report.step.step_ms),
        Metric(name="personalize.peak_memory", unit="bytes", value=float(report.step.peak_memory_bytes)),
        Metric(name="personalize.adapter", unit="bytes", value=float(report.adapter.bytes)),
    ]


def apply_adapter_file(
    source: str, weights: str | None, adapter: Path, out: Path, workspace: Workspace
) -> AppliedAdapter:
    """Write the model with an adapter merged into its weights to `out`.

    Raises UsageError for an adapter of another model, ModelUnreadable for a file that is none.
    """
    check_source(source)
    check_training_packages()
    with open_work_folder(out) as work:
        made, target = work / "made", out / get_stem(source)
        job = ApplyJob(module=make_torch_source(source, weights), adapter=str(adapter.absolute()), out=str(made))
        run_training_worker(job, workspace.progress, title="the adapter", out=made)
        merged, model = Path(f"{target}.personal.safetensors"), Path(f"{target}.personal.onnx")
        copy_atomically(made / "weights.safetensors", merged)
        copy_atomically(made / "model.onnx", model)
    return AppliedAdapter(source=source, adapter=str(adapter), model=str(model), weights=str(merged))
