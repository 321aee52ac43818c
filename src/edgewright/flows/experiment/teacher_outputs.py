"""Teacher outputs for every view of every training sample, stored for all epochs and seeds."""

from math import inf
from pathlib import Path

import numpy as np

from edgewright.errors import UsageError
from edgewright.flows.candidates import read_source_signature
from edgewright.flows.evaluate.inference import Runner
from edgewright.flows.experiment.control import choose_network_runtime, convert_for_runtime
from edgewright.flows.experiment.setup import Experiment
from edgewright.flows.experiment.trainings import run_training_worker
from edgewright.formats.artifacts import find_record
from edgewright.formats.files import read_model
from edgewright.schema.arrays import Array
from edgewright.schema.plan import DistillPlan, PrunePlan
from edgewright.store.store import Store
from edgewright.system.files import replace_atomically
from edgewright.tasks.spec.check import check_task, get_output_name
from edgewright.training.data.augment import augment
from edgewright.training.job import CachedDataset, ModuleSource, TeacherJob

BATCH_SIZE = 64


def check_distillation(plan: PrunePlan | DistillPlan) -> None:
    """Raise UsageError if the distillation settings are not valid."""
    if not 0 < plan.temperature < inf or not 0 < plan.alpha <= 1 or plan.views < 1:
        raise UsageError(
            "the distillation settings are not valid",
            f"temperature {plan.temperature:g}, alpha {plan.alpha:g}, views {plan.views}",
            "use --temperature 4 --alpha 0.9 --views 4",
        )


def count_views(views: int, experiment: Experiment) -> int:
    """Return the number of views; without augmentation all views of a sample are the same."""
    return views if experiment.task.augment else 1


def compute_module_outputs(views: int, teacher: ModuleSource, experiment: Experiment, dataset: CachedDataset) -> Path:
    """Compute the outputs of a torch teacher in a training worker."""
    outputs_path = experiment.memory / "answers.npy"
    if not outputs_path.is_file():
        run_training_worker(
            TeacherJob(
                teacher=teacher, shapes=experiment.shapes, task=experiment.task_json, data=dataset,
                settings=experiment.settings,
                views=count_views(views, experiment), out=str(outputs_path),
            ),
            experiment.context.workspace.progress,
            title="computing the teacher's outputs",
            out=experiment.memory / "asking",
        )  # fmt: skip
    return outputs_path


def compute_file_outputs(
    plan: DistillPlan, teacher: Path, work: Path, experiment: Experiment, dataset: CachedDataset, store: Store
) -> Path:
    """Compute the outputs of a teacher in a file in its runtime.

    After an interruption it resumes after the last complete view.
    """
    outputs_path = experiment.memory / "answers.npy"
    if outputs_path.is_file():
        return outputs_path
    context = experiment.context
    path, error = convert_for_runtime(
        teacher, context.runtime, work / "teacher", context.workspace._replace(store=store), context.timeout_s
    )
    if error is not None:
        raise error
    model, record = read_model(path), find_record(path)
    signature = read_source_signature(model)
    check_task(experiment.task, signature)
    output_name = get_output_name(experiment.task, signature)
    parts = []
    with Runner(
        model,
        record,
        choose_network_runtime(path, context.runtime),
        context.workspace.device,
        threads=context.threads,
        timeout_s=context.timeout_s,
    ) as runner:
        for view in range(count_views(plan.views, experiment)):
            part = experiment.memory / f"answers-{view}.npy"
            if not part.is_file():
                _save_array(part, _compute_view_outputs(runner, output_name, dataset, view, plan.views, experiment))
            parts.append(part)
        runner.leave()
    _save_array(outputs_path, np.stack([np.load(part, mmap_mode="r") for part in parts]))
    for part in parts:
        part.unlink()
    return outputs_path


def _compute_view_outputs(
    runner: Runner,
    output_name: str,
    dataset: CachedDataset,
    view: int,
    requested: int,
    experiment: Experiment,
) -> Array:
    """Return the teacher's output for one view of every training sample, [fit, …]."""
    inputs = {name: np.load(file, mmap_mode="r") for name, file in dataset.inputs.items()}
    fit = np.asarray(dataset.fit, np.int64)
    found: list[Array] = []
    views = count_views(requested, experiment)
    for start in range(0, len(fit), BATCH_SIZE):
        indices = fit[start : start + BATCH_SIZE]
        batch = {name: np.ascontiguousarray(stack[indices]) for name, stack in inputs.items()}
        seen = augment(experiment.task, batch, np.full(len(indices), view, np.uint64), indices)
        outputs = runner.run({name: array[:, np.newaxis] for name, array in seen.items()})
        chosen = outputs[output_name]
        found.append(chosen.reshape(len(indices), *chosen.shape[2:]))
        done = start + len(indices)
        experiment.context.workspace.progress(
            f"teacher outputs: view {view + 1} of {views}, {done} of {len(fit)} samples"
        )
    return np.concatenate(found).astype(np.float32)


def _save_array(path: Path, array: Array) -> None:
    """Write an array atomically."""
    with replace_atomically(path) as part:
        np.save(part, array)
