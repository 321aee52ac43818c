"""What prune, distill and QAT have in common: training jobs of all seeds; and for prune and distill comparison, gate,
publication and record."""

from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, TypeVar

import msgspec

from edgewright.errors import EdgewrightError, GateFailed, StoreError, UsageError
from edgewright.flows.compile.publication import copy_atomically, raise_output_errors
from edgewright.flows.experiment.answer import make_outcome
from edgewright.flows.experiment.control import (
    compare_speed,
    convert_all_for_runtime,
    evaluate_networks,
    measure_file_costs,
    name_network_files,
)
from edgewright.flows.experiment.records import TrainingRun, record_training
from edgewright.flows.experiment.report import (
    ExperimentReport,
    Measured,
    compare_networks,
    get_first_curves,
    make_network_report,
)
from edgewright.flows.experiment.setup import Experiment
from edgewright.flows.experiment.trainings import TrainedNetwork
from edgewright.system.files import write_atomically
from edgewright.training.job import CachedDataset, TrainJob

Report = TypeVar("Report", bound=ExperimentReport)


class Networks(NamedTuple):
    """The compared networks by name: one ONNX file for each seed, and their trainings.

    Attributes:
        original: name of the network that is not trained: `source` or `teacher`.
        made: name of the technique's network: `pruned` or `student`. The third one is `control`, if it was trained.
    """

    original: str
    made: str
    files: dict[str, list[Path]]
    trained: dict[str, list[TrainedNetwork]]

    @property
    def baseline(self) -> str:
        return "control" if "control" in self.files else self.original


def get_training_data(experiment: Experiment) -> CachedDataset:
    if experiment.dataset is None:
        raise UsageError("no training data was given", "", "--data")
    return experiment.dataset


def make_jobs(
    network: str, title: str, experiment: Experiment, *, seeds: int = 1, more_epochs: float = 0.0, **fields: Any
) -> list[TrainJob]:
    """Return one training job for each seed; `fields` are those of the job in which the techniques differ."""
    settings, jobs = experiment.settings, []
    for index, seed in enumerate(range(settings.seed, settings.seed + seeds), start=1):
        job: dict[str, Any] = {
            "title": title + (f", seed {index} of {seeds}" if seeds > 1 else ""),
            "shapes": experiment.shapes,
            "task": experiment.task_json,
            "code": experiment.context.code,
            "data": get_training_data(experiment),
            "settings": msgspec.structs.replace(settings, seed=seed, epochs=settings.epochs + more_epochs),
            "out": str(experiment.memory / f"{network}-{seed}"),
            "memory": str(experiment.memory / f"{network}-{seed}-checkpoints"),
        }
        jobs.append(TrainJob(**(job | fields)))
    return jobs


def compare(networks: Networks, experiment: Experiment, kind: str, stem: str, work: Path) -> Measured:
    """Evaluate and time the networks, and return the part of the report that follows from it.

    The paired reference is the control, else the original.

    Args:
        kind: of the run, a tag of the benchmark.
        stem: of the names that the networks get in the record.
    """
    files = {
        f"{name}/{index}": path
        for name in ("control", networks.made)
        for index, path in enumerate(networks.files.get(name, ()))
    }
    original = {f"{networks.original}/0": networks.files[networks.original][0]}
    models = files | original if networks.baseline == "control" else original | files
    context = experiment.context
    named = name_network_files(models, stem, work / "evaluated")
    ready = convert_all_for_runtime(named, context.runtime, work / "runnable", context.workspace, context.timeout_s)
    rows = evaluate_networks(ready, context)
    speed = compare_speed(ready[f"{networks.original}/0"], ready[f"{networks.made}/0"], context, {kind: "speed"})
    reports = {name: [one.report for one in own] for name, own in networks.trained.items()}
    reported = {
        name: make_network_report(
            name, paths[0], measure_file_costs(paths[0], experiment.shapes),
            [rows[f"{name}/{index}"] for index in range(len(paths))], reports.get(name, ()), experiment.settings.seed,
        )
        for name, paths in networks.files.items()
    }  # fmt: skip
    for name, latency_us in ((networks.original, speed.before_us), (networks.made, speed.after_us)):
        reported[name] = msgspec.structs.replace(reported[name], latency_us=latency_us)
    first = rows[f"{networks.made}/0"]
    against = [
        compare_networks(reported[networks.made], reported[name], first.paired if name == networks.baseline else None)
        for name in ("control", networks.original)
        if name in reported
    ]
    dataset = experiment.dataset
    return Measured(
        runtime=context.runtime,
        trained_on=len(dataset.fit) if dataset else 0,
        held_out=len(dataset.held_out) if dataset else 0,
        evaluated_on=first.evaluated,
        networks=tuple(reported.values()),
        against=tuple(one for one in against if one is not None),
        speedup=speed.speedup,
        curves={name: get_first_curves(own) for name, own in reports.items() if own},
    )


def reject(report: Report, error: GateFailed) -> tuple[Report, GateFailed]:
    """Return the report of a result that a gate rejected, and the error."""
    return msgspec.structs.replace(report, state="refused", reason=error.why), error


def publish(report: Report, networks: Networks, target: Path, kind: str, write_module: Callable[[], str]) -> Report:
    """Publish the first seed's network: ONNX, and for a trained module its factory with weights.

    Args:
        target: path without a suffix.
        write_module: writes the factory if needed and returns its `FILE.py:FACTORY`.
    """
    model, weights = Path(f"{target}.onnx"), Path(f"{target}.safetensors")
    with raise_output_errors(target.parent):
        copy_atomically(networks.files[networks.made][0], model)
        report = msgspec.structs.replace(report, model=str(model))
        if networks.made in networks.trained:
            copy_atomically(networks.trained[networks.made][0].weights, weights)
            report = msgspec.structs.replace(report, module=write_module(), weights=str(weights))
        write_atomically(Path(f"{target}.{kind}.json"), msgspec.json.encode(report))
    return report


def conclude(
    judged: tuple[Report, GateFailed | None], began: float, publisher: Callable[[Report], Report], run: TrainingRun,
    experiment: Experiment,
) -> tuple[Report, EdgewrightError | None]:  # fmt: skip
    """Publish the result unless its gate failed, record it, and return the report and the first error."""
    report, error = judged
    answer = make_outcome(report).answer
    report = msgspec.structs.replace(report, seconds=monotonic() - began, answer=answer)
    if error is None:
        report = publisher(report)
    unsaved: StoreError | None = None
    try:
        report = record_training(report, run, experiment.context.workspace)
    except StoreError as caught:
        unsaved = caught
    return report, error or unsaved
