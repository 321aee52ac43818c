"""The record of a pruning or a distillation: its report, its model and weights with their lineage, figures, curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from edgewright.devices.contract import Device
from edgewright.facts.model import Model
from edgewright.facts.plan import CompilePlan, DistilPlan, PrunePlan
from edgewright.facts.run import Metric, Run
from edgewright.flows.distillation import DistilReport
from edgewright.flows.learning import curve_series, side_metrics
from edgewright.flows.pruning import PruneReport
from edgewright.flows.sources import hash_source
from edgewright.flows.trainings import Trained
from edgewright.formats.files import read_model
from edgewright.store.ids import new_run_id
from edgewright.store.store import Store, utc_now
from edgewright.training.checkpoint import write_whole

Report = TypeVar("Report", PruneReport, DistilReport)


def record_training(
    kind: str, report: Report, plan: PrunePlan | DistilPlan, model: Model, trained: Mapping[str, Sequence[Trained]],
    started: str, device: Device, store: Store,
) -> Report:  # fmt: skip
    """Keep the run, and give the report its id, also that beside the model.

    Args:
        kind: of the run; also the role of its report and the first word of its figures.
        model: that it began with, as the user named it.
        trained: by side, one for each seed.
    """
    run = Run(
        id=new_run_id(),
        kind=kind,
        state="running",
        started_at=started,
        model=model,
        device=device.facts(),
        runtime=plan.runtime,
        plan=msgspec.to_builtins(plan),
        environment=device.environment(),
    )
    store.begin(run)
    outputs = []
    if report.model is not None:
        path = Path(report.model)
        outputs.append(store.put_file(run.id, path, role="model", model_id=read_model(path).sha256))
    if report.module is not None and report.weights is not None:
        made = hash_source(CompilePlan(source=report.module, weights=report.weights, cells=()))
        outputs.append(store.put_file(run.id, Path(report.weights), role="weights", model_id=made))
    outputs.append(store.put_bytes(run.id, msgspec.json.encode(report), role=kind))
    metrics: list[Metric] = [metric for side in report.sides for metric in side_metrics(side)]
    if (one := report.speedup) is not None:
        metrics.append(Metric(name=f"{kind}.speedup", unit="1", value=one.ratio, low=one.low, high=one.high))
    seed = plan.settings.get("seed", 0)
    store.finish(
        msgspec.structs.replace(
            run,
            state="done" if report.state == "ok" else "failed",
            finished_at=utc_now(),
            error=report.reason or None,
            outputs=tuple(outputs),
            metrics=(*metrics, Metric(name=f"{kind}.seconds", unit="s", value=report.seconds)),
            series=tuple(
                series
                for side, own in trained.items()
                for series in curve_series(side, [every.report for every in own], seed)
            ),
        )
    )
    told = msgspec.structs.replace(report, run_id=run.id)
    if told.model is not None:
        beside = Path(told.model).with_suffix(f".{kind}.json")
        write_whole(beside, lambda file: file.write(msgspec.json.encode(told)))
    return told


def as_named(model: Model, name: str, sha256: str, path: str) -> Model:
    """The model that was read, as the user gave it."""
    return msgspec.structs.replace(model, name=name, sha256=sha256, path=path, data_files=())
