"""Quantization-aware training: fine-tune a quantized graph under its own rounding, without changing its structure."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from edgewright.bench.session import Progress
from edgewright.errors import DataError, UsageError
from edgewright.flows.evaluate.report import EvaluationRow, MetricRow
from edgewright.flows.experiment.dataset_cache import cache_dataset
from edgewright.flows.experiment.setup import check_classes, check_training_packages, parse_settings
from edgewright.flows.experiment.trainings import TrainedNetwork, make_torch_source, train_all
from edgewright.flows.quantize.acceptance import QuantizeSetup
from edgewright.flows.quantize.job import QuantizerOutput
from edgewright.flows.quantize.report import FinetuneReport
from edgewright.formats.onnx.reader import parse_model
from edgewright.quantization.static.write import protect_float_layers
from edgewright.schema.plan import QuantizePlan
from edgewright.tasks.data.dataset import open_dataset
from edgewright.tasks.spec.task import Task
from edgewright.training.job import CachedDataset, Settings, TrainJob

# A quantized network needs few and small steps.
QAT_DEFAULTS = {"epochs": 3.0, "optimizer": "adamw", "lr": 1e-4, "weight_decay": 0.0}
PRECISIONS_WITHOUT_RANGES = ("fp16", "w8a8-dynamic")


class Finetuning(NamedTuple):
    """The graph before and after fine-tuning."""

    before: QuantizerOutput
    after: QuantizerOutput
    trained: TrainedNetwork
    control: TrainedNetwork | None
    dataset: CachedDataset

    @property
    def graphs(self) -> dict[str, Path]:
        """Return the graphs for ONNX Runtime, to be evaluated."""
        pair = {"before": self.before, "after": self.after}
        graphs = {name: one.variants.get("onnxruntime", one.model) for name, one in pair.items()}
        return {**graphs, "control": self.control.onnx} if self.control else graphs


def check_finetuning(plan: QuantizePlan) -> Settings:
    """Return the training settings. UsageError or DataError if fine-tuning is not possible."""
    check_training_packages()
    if plan.eval_data is None:
        raise UsageError(
            "--qat requires --eval-data", "all of --data is used for training, so it cannot serve as the test set",
            "use --data train.zip --eval-data val.zip",
        )  # fmt: skip
    if plan.precision in PRECISIONS_WITHOUT_RANGES:
        raise _make_no_ranges_error(f"--precision {plan.precision}")
    if not 0 < plan.held_out < 1:
        raise UsageError(
            f"--held-out {plan.held_out:g} cannot be used", "the share must be between 0 and 1", "use --held-out 0.1"
        )
    settings = parse_settings({**QAT_DEFAULTS, **(plan.qat or {})})
    with open_dataset(plan.data, msgspec.convert(plan.task, Task), plan.code) as data:
        if not data.labeled:
            why = "quantization-aware training requires labels"
            raise DataError(f"{plan.data} has no labels", why, "provide labeled data, or remove --qat")
        check_classes(data)
    return settings


def check_form(form: str) -> None:
    """Raise UsageError if the form has no static quantization parameters; known only with model and recipe."""
    if form != "static":
        raise _make_no_ranges_error("this model in this precision")


def _make_no_ranges_error(what: str) -> UsageError:
    return UsageError(
        f"--qat does not support {what}",
        "it requires static quantization parameters",
        "use --precision w4a8, w8a8 or w8a16",
    )


def finetune(
    setup: QuantizeSetup, settings: Settings, quantized: QuantizerOutput, memory: Path, work: Path, progress: Progress
) -> Finetuning:
    """Fine-tune the graph on the dataset, with the held-out samples for validation."""
    dataset = cache_dataset(
        partial(open_dataset, setup.plan.data, setup.task, setup.plan.code), memory / "data",
        held_out=setup.plan.held_out, seed=settings.seed, progress=progress,
    )  # fmt: skip
    job = TrainJob(
        title="quantized network",
        graph=str(quantized.model),
        float_graph=setup.prepared.files["onnx"],
        shapes=setup.prepared.shapes,
        task=msgspec.json.encode(setup.task).decode(),
        code=setup.plan.code,
        data=dataset,
        settings=settings,
        out=str(memory / "tuned"),
        memory=str(memory / "checkpoints"),
    )
    made = train_all([job, _make_control_job(job, setup.plan, memory)] if setup.plan.control else [job], progress)
    trained, control = made[0], made[1] if setup.plan.control else None
    return Finetuning(quantized, _write_finetuned(quantized, trained.onnx, work), trained, control, dataset)


def _make_control_job(job: TrainJob, plan: QuantizePlan, memory: Path) -> TrainJob:
    """Return the same training without rounding, of the torch module, else of the float graph."""
    module = make_torch_source(plan.source, plan.weights) if ".py:" in plan.source else None
    return msgspec.structs.replace(
        job,
        title="control network",
        graph="",
        float_graph="" if module else job.float_graph,
        module=module,
        out=str(memory / "control"),
        memory=str(memory / "control-checkpoints"),
    )


def _write_finetuned(quantized: QuantizerOutput, model: Path, work: Path) -> QuantizerOutput:
    """Write the fine-tuned graph under the previous names, and the variant that ONNX Runtime does not optimize."""
    import onnx

    folder = work / "tuned"
    folder.mkdir()
    graph = parse_model(model)
    path = folder / quantized.model.name
    onnx.save(graph, str(path))
    guarded = protect_float_layers(graph)
    if guarded is None:
        return quantized._replace(model=path, variants={})
    (folder / "onnxruntime").mkdir()
    variant = folder / "onnxruntime" / quantized.model.name
    onnx.save(guarded, str(variant))
    return quantized._replace(model=path, variants={"onnxruntime": variant})


def make_finetune_report(
    tuning: Finetuning, rows: Mapping[str, EvaluationRow], reference: MetricRow
) -> FinetuneReport | None:
    """Return the report; None if one of the graphs could not be evaluated."""
    before, after, report = rows["before"].metric, rows["after"].metric, tuning.trained.report
    control = rows["control"].metric if "control" in rows else None
    if before is None or after is None:
        return None
    lost = reference.value - before.value if reference.better == "higher" else before.value - reference.value
    back = after.value - before.value if reference.better == "higher" else before.value - after.value
    return FinetuneReport(
        before=before,
        after=after,
        control=control,
        recovered=back / lost if lost > 0 else None,
        trained_on=len(tuning.dataset.fit),
        held_out=len(tuning.dataset.held_out),
        steps=report.steps,
        seconds=report.seconds,
        precision=report.precision,
        curves=report.curves,
    )
