"""Quantization-aware training: fine-tune a quantized graph under its own rounding, without changing its structure."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from edgewright.errors import DataError, UsageError
from edgewright.flows.evaluate.report import EvaluationRow, MetricRow
from edgewright.flows.experiment.control import EvaluationContext
from edgewright.flows.experiment.dataset_cache import cache_dataset
from edgewright.flows.experiment.run import make_jobs
from edgewright.flows.experiment.setup import Experiment, check_classes, check_training_packages, parse_settings
from edgewright.flows.experiment.trainings import TrainedNetwork, make_torch_source, train_networks
from edgewright.flows.quantize.acceptance import QuantizeSetup
from edgewright.flows.quantize.job import QuantizerOutput
from edgewright.flows.quantize.report import FinetuneReport
from edgewright.flows.workspace import Workspace
from edgewright.formats.onnx.reader import parse_model
from edgewright.quantization.static.write import protect_float_layers
from edgewright.schema.plan import QuantizePlan
from edgewright.tasks.data.dataset import open_dataset
from edgewright.tasks.spec.task import Task
from edgewright.training.job import CachedDataset, Settings

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
    setup: QuantizeSetup, settings: Settings, quantized: QuantizerOutput, memory: Path, work: Path, workspace: Workspace
) -> Finetuning:
    """Fine-tune the graph on the dataset, with the held-out samples for validation.

    The control is the same training without rounding, of the torch module, else of the float graph.
    """
    plan = setup.plan
    whole: dict[str, Any] = {"float_graph": setup.prepared.files["onnx"]}
    dataset = cache_dataset(
        partial(open_dataset, plan.data, setup.task, plan.code), memory / "data",
        held_out=plan.held_out, seed=settings.seed, progress=workspace.progress,
    )  # fmt: skip
    context = EvaluationContext(
        plan.task, str(plan.eval_data), "onnxruntime", settings.threads, plan.timeout_s, workspace, code=plan.code
    )
    shapes = dict(setup.prepared.shapes)
    experiment = Experiment(setup.task, settings, shapes, memory, dataset, (plan.data_fingerprint, ""), context)
    jobs = {"tuned": make_jobs("tuned", "quantized network", experiment, graph=str(quantized.model), **whole)}
    if plan.control:
        is_torch = ".py:" in plan.source
        start: dict[str, Any] = {"module": make_torch_source(plan.source, plan.weights)} if is_torch else whole
        jobs["control"] = make_jobs("control", "control network", experiment, **start)
    made = train_networks(jobs, workspace.progress)
    (trained,), (control,) = made["tuned"], made.get("control", [None])
    return Finetuning(quantized, _write_finetuned(quantized, trained.onnx, work), trained, control, dataset)


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
