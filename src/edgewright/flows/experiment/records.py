"""Stored run of a pruning or a distillation: report, model and weights with lineage, metrics, curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from edgewright.flows.compile.sources import hash_source
from edgewright.flows.experiment.report import ExperimentReport, make_curve_series, make_network_metrics
from edgewright.flows.experiment.trainings import TrainedNetwork
from edgewright.flows.workspace import Workspace
from edgewright.formats.files import read_model
from edgewright.schema.model import Model
from edgewright.schema.plan import CompilePlan, DistillPlan, PrunePlan
from edgewright.schema.run import Metric
from edgewright.training.loop.checkpoint import write_atomically

Report = TypeVar("Report", bound=ExperimentReport)


class TrainingRun(NamedTuple):
    """What the record keeps of a training besides its report.

    Attributes:
        kind: of the run; also the role of its report and the prefix of its metrics.
        model: that training started from, as the user named it.
        trained: by network, one for each seed.
    """

    kind: str
    plan: PrunePlan | DistillPlan
    model: Model
    trained: Mapping[str, Sequence[TrainedNetwork]]
    started: str


def record_training(report: Report, training: TrainingRun, workspace: Workspace) -> Report:
    """Store the run, and set the id in the returned report and in the report file."""
    kind, plan = training.kind, training.plan
    with workspace.recording(
        kind, plan, id=workspace.part_of, started_at=training.started, model=training.model, runtime=plan.runtime
    ) as run:
        if report.model is not None:
            path = Path(report.model)
            run.put_file(path, role="model", model_id=read_model(path).sha256)
        if report.module is not None and report.weights is not None:
            made = hash_source(CompilePlan(source=report.module, weights=report.weights, cells=()))
            run.put_file(Path(report.weights), role="weights", model_id=made)
        run.put_bytes(msgspec.json.encode(report), role=kind)
        metrics = [metric for network in report.networks for metric in make_network_metrics(network)]
        if (one := report.speedup) is not None:
            metrics.append(Metric(name=f"{kind}.speedup", unit="1", value=one.ratio, low=one.low, high=one.high))
        metrics.append(Metric(name=f"{kind}.seconds", unit="s", value=report.seconds))
        seed = plan.settings.get("seed", 0)
        series = (
            series
            for network, own in training.trained.items()
            for series in make_curve_series(network, [every.report for every in own], seed)
        )
        run.add(metrics=tuple(metrics), series=tuple(series))
        if report.state != "ok":
            run.fail(report.reason)
    report_with_id = msgspec.structs.replace(report, run_id=run.id)
    if report_with_id.model is not None:
        report_file = Path(report_with_id.model).with_suffix(f".{kind}.json")
        write_atomically(report_file, lambda file: file.write(msgspec.json.encode(report_with_id)))
    return report_with_id
