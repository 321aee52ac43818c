"""Quantisation-aware fine-tuning: a quantised graph is trained under its own rounding, and stays the graph it was."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from edgewright.bench.session import Tell
from edgewright.compress.write import guard_floats
from edgewright.errors import DataError, UsageError
from edgewright.facts.plan import QuantizePlan
from edgewright.flows.course import check_classes, check_trainer, convert_settings
from edgewright.flows.evaluation import EvaluationRow, MetricRow
from edgewright.flows.judging import Begun
from edgewright.flows.laying import lay_out_training
from edgewright.flows.quantization import Tuned
from edgewright.flows.quantizer import Quantized
from edgewright.flows.trainings import Trained, torch_source, train_all
from edgewright.tasks.contract import Task
from edgewright.tasks.data import open_data
from edgewright.training.job import Laid, Settings, TrainJob

# A network that is nearly right needs few and small steps.
DEFAULTS = {"epochs": 3.0, "optimizer": "adamw", "lr": 1e-4, "weight_decay": 0.0}
FLOATING = ("fp16", "w8a8-dynamic")


class Tuning(NamedTuple):
    """The graph before and after."""

    before: Quantized
    after: Quantized
    trained: Trained
    control: Trained | None
    laid: Laid

    @property
    def graphs(self) -> dict[str, Path]:
        """As ONNX Runtime takes them, to be judged."""
        pair = {"before": self.before, "after": self.after}
        graphs = {name: one.variants.get("onnxruntime", one.model) for name, one in pair.items()}
        return {**graphs, "control": self.control.onnx} if self.control else graphs


def check_tuning(plan: QuantizePlan) -> Settings:
    """The settings of the training. UsageError, DataError for what it cannot be done with."""
    check_trainer()
    if plan.eval_data is None:
        raise UsageError(
            "--qat needs --eval-data", "all of --data is trained on, and what was trained on does not judge",
            "--data train.zip --eval-data val.zip",
        )  # fmt: skip
    if plan.precision in FLOATING:
        raise no_ranges(f"--precision {plan.precision}")
    if not 0 < plan.held_out < 1:
        raise UsageError(f"--held-out {plan.held_out:g} cannot be used", "it is a share of the data", "--held-out 0.1")
    settings = convert_settings({**DEFAULTS, **(plan.qat or {})})
    with open_data(plan.data, msgspec.convert(plan.task, Task), plan.code) as data:
        if not data.labelled:
            why = "the training learns from them"
            raise DataError(f"{plan.data} has no labels", why, "bring labelled data, or leave --qat out")
        check_classes(data)
    return settings


def check_form(form: str) -> None:
    """UsageError for a road that gives no graph of static ranges, known once the model and the recipe are."""
    if form != "static":
        raise no_ranges("this model in this precision")


def no_ranges(what: str) -> UsageError:
    return UsageError(
        f"--qat does not go with {what}", "it trains a graph of static ranges", "--precision w4a8, w8a8 or w8a16"
    )


def tune(begun: Begun, settings: Settings, quantized: Quantized, memory: Path, work: Path, tell: Tell) -> Tuning:
    """Train the graph on all of the data set but the samples held out, which steer."""
    laid = lay_out_training(
        partial(open_data, begun.plan.data, begun.task, begun.plan.code), memory / "data",
        held_out=begun.plan.held_out, seed=settings.seed, tell=tell,
    )  # fmt: skip
    job = TrainJob(
        title="quantised network",
        graph=str(quantized.model),
        float_graph=begun.prepared.files["onnx"],
        shapes=begun.prepared.shapes,
        task=msgspec.json.encode(begun.task).decode(),
        code=begun.plan.code,
        data=laid,
        settings=settings,
        out=str(memory / "tuned"),
        memory=str(memory / "checkpoints"),
    )
    made = train_all([job, as_control(job, begun.plan, memory)] if begun.plan.control else [job], tell)
    trained, control = made[0], made[1] if begun.plan.control else None
    return Tuning(quantized, write_tuned(quantized, trained.onnx, work), trained, control, laid)


def as_control(job: TrainJob, plan: QuantizePlan, memory: Path) -> TrainJob:
    """The same training without the rounding: of the torch module, else of the float graph."""
    module = torch_source(plan.source, plan.weights) if ".py:" in plan.source else None
    return msgspec.structs.replace(
        job,
        title="control network",
        graph="",
        float_graph="" if module else job.float_graph,
        module=module,
        out=str(memory / "control"),
        memory=str(memory / "control-checkpoints"),
    )


def write_tuned(quantized: Quantized, model: Path, work: Path) -> Quantized:
    """The trained graph under the names of the one before, and the variant that ONNX Runtime leaves alone."""
    import onnx

    folder = work / "tuned"
    folder.mkdir()
    graph = onnx.load(str(model))
    path = folder / quantized.model.name
    onnx.save(graph, str(path))
    guarded = guard_floats(graph)
    if guarded is None:
        return quantized._replace(model=path, variants={})
    (folder / "onnxruntime").mkdir()
    variant = folder / "onnxruntime" / quantized.model.name
    onnx.save(guarded, str(variant))
    return quantized._replace(model=path, variants={"onnxruntime": variant})


def describe_tuning(tuning: Tuning, rows: Mapping[str, EvaluationRow], reference: MetricRow) -> Tuned | None:
    """None where one of them could not be judged."""
    before, after, report = rows["before"].metric, rows["after"].metric, tuning.trained.report
    control = rows["control"].metric if "control" in rows else None
    if before is None or after is None:
        return None
    lost = reference.value - before.value if reference.better == "higher" else before.value - reference.value
    back = after.value - before.value if reference.better == "higher" else before.value - after.value
    return Tuned(
        before=before,
        after=after,
        control=control,
        recovered=back / lost if lost > 0 else None,
        trained_on=len(tuning.laid.fit),
        held_out=len(tuning.laid.held_out),
        steps=report.steps,
        seconds=report.seconds,
        precision=report.precision,
        curves=report.curves,
    )
