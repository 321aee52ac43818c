"""A training for one user: few parameters, on the user's samples and on replayed ones of everybody's.

Of a replayed sample no label is used: the adapted module keeps to what the original module says of it, so that it
forgets little (Li and Hoiem 2016, with samples instead of features).
"""

from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgewright.errors import DataError
from edgewright.runtimes.memory import read_resident_memory
from edgewright.schema.arrays import Array
from edgewright.system.files import write_atomically
from edgewright.tasks.spec.task import Task
from edgewright.training.adapters.file import AdapterRecord, apply_adapter, write_adapter
from edgewright.training.adapters.layers import LOW_RANK, insert_adapter, list_adapted, merge_adapter
from edgewright.training.data.samples import Batch, TrainingSamples, set_channels_last, split_into_chunks
from edgewright.training.distillation.losses import compute_teacher_loss
from edgewright.training.distillation.teacher import select_distilled_outputs
from edgewright.training.job import (
    AdapterSettings,
    ApplyJob,
    JobMessage,
    PersonalJob,
    PersonalReport,
)
from edgewright.training.loop.checkpoint import digest_module
from edgewright.training.loop.loop import TrainingLoop, TrainingPlan, TrainingResult, evaluate_module
from edgewright.training.loop.losses import (
    check_labels_fit,
    check_labels_have_loss,
    compute_label_loss,
    map_outputs,
    select_output,
)
from edgewright.training.loop.train import open_fabric, pack_weights
from edgewright.training.source import export_module, load_module

EVALUATION_BATCH = 256
REPLAY = 0x52  # of the seed of replayed samples


class ReplayedSamples(TrainingSamples):
    """The user's batches, each followed by replayed samples whose targets are the original module's outputs."""

    def __init__(self, own: TrainingSamples, replay: TrainingSamples, outputs: Array, count: int, seed: int) -> None:
        self.__dict__.update(own.__dict__)
        self._replay, self._outputs, self._replay_count, self._replay_seed = replay, outputs, count, seed

    def read_step(self, step: int) -> Batch:
        own = super().read_step(step)
        if not self._replay_count:
            return own
        import torch

        draw = np.random.default_rng([self._replay_seed, REPLAY, step])
        rows = draw.integers(len(self._replay.fit), size=self._replay_count * len(own.places))
        more = self._replay.read(self._replay.fit[rows])
        inputs = {name: torch.cat([tensor, more.inputs[name]]) for name, tensor in own.inputs.items()}
        return Batch(own.places, inputs, own.labels, torch.from_numpy(self._outputs[rows]))


class PersonalLoss:
    """The labels' loss of the user's samples, and the weighted distance to the targets of the replayed ones."""

    def __init__(self, task: Task, adapter: AdapterSettings, smoothing: float) -> None:
        import torch

        self.auxiliary: Any = torch.nn.ModuleList()
        self._task, self._adapter, self._smoothing = task, adapter, smoothing

    def __call__(self, outputs: Mapping[str, Any], batch: Batch) -> tuple[Any, dict[str, Any]]:
        count = len(batch.places)
        own = {name: tensor[:count] for name, tensor in outputs.items()}
        parts = {"labels": compute_label_loss(self._task, own, batch.labels, self._smoothing)}
        loss = parts["labels"]
        if batch.targets is not None:
            rest = select_distilled_outputs(self._task, {name: tensor[count:] for name, tensor in outputs.items()})
            parts["replay"] = compute_teacher_loss(self._task, rest, [batch.targets], None, self._adapter.temperature)
            loss = loss + self._adapter.weight * parts["replay"]
        return loss, parts


def run_personal(job: PersonalJob, send: Callable[[JobMessage], None]) -> None:
    """Train, evaluate before and after, and write the files of `job.out`. Raises UsageError, DataError,
    TrainingDiverged, OutputError, and the errors of loading a module."""
    import torch

    settings, task = job.settings, msgspec.json.decode(job.task, type=Task)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    module = load_module(job.module, settings.seed).eval()
    record = AdapterRecord(
        base=digest_module(module), method=job.adapter.method, rank=job.adapter.rank, seed=settings.seed,
        shapes=job.shapes,
    )  # fmt: skip
    samples = TrainingSamples(job.data, task, settings)
    checked = _check(module, samples, task)
    plan = TrainingPlan(
        record.base, job.title, task, settings, max(1, round(settings.epochs * samples.steps_per_epoch)), "fp32",
        Path(job.out), job.code,
    )  # fmt: skip
    others = plan._replace(settings=msgspec.structs.replace(settings, batch=EVALUATION_BATCH))
    sets = [(TrainingSamples(job.val, task, settings), False), (TrainingSamples(job.public, task, settings), True)]

    def evaluate() -> tuple[float, float]:
        values = [evaluate_module(module, one, one.held_out if held else one.fit, others) for one, held in sets]
        return tuple(inf if one is None else one for one in values)  # type: ignore[return-value] # two of them

    before = evaluate()
    replay = TrainingSamples(job.replay, task, settings)
    outputs = _compute_outputs(module, replay, task) if job.adapter.replay else np.empty(0)
    insert_adapter(module, job.adapter.method, job.adapter.rank, checked.inputs)
    set_channels_last(module)
    both = ReplayedSamples(samples, replay, outputs, job.adapter.replay, settings.seed)
    loop = TrainingLoop(
        open_fabric("fp32"), module, PersonalLoss(task, job.adapter, settings.label_smoothing), both, plan, send
    )
    result = loop.run()
    after = evaluate()
    _write(job, module, record, _make_report(module, before, after, result, len(replay.fit)))


def _check(module: Any, samples: TrainingSamples, task: Task) -> Batch:
    """Return a batch that the module runs on. Raises UsageError and DataError for labels that cannot train it."""
    import torch

    check_labels_have_loss(task)
    if not samples.labeled:
        raise DataError("the user's data has no labels", "they train the personal model", "give labeled data")
    batch = samples.read(samples.fit[:2])
    with torch.no_grad():
        outputs = map_outputs(module.eval()(**batch.inputs))
    check_labels_fit(task, samples.labels_of(samples.fit), select_output(task, outputs))
    return batch


def _compute_outputs(module: Any, replay: TrainingSamples, task: Task) -> Array:
    """Return the module's outputs for the replayed samples, [fit, …]."""
    import torch

    def run(places: Array) -> Array:
        output = select_output(task, map_outputs(module(**replay.read(places).inputs)))
        return np.asarray(output.float().numpy())

    module.eval()
    with torch.no_grad():
        return np.concatenate([run(places) for places in split_into_chunks(replay.fit, EVALUATION_BATCH)])


def _make_report(
    module: Any, before: tuple[float, float], after: tuple[float, float], result: TrainingResult, replayed: int
) -> PersonalReport:
    import torch

    trained = {name: one.numel() for name, one in list_adapted(module).items()}
    added = sum(size for name, size in trained.items() if LOW_RANK in name)

    return PersonalReport(
        user_before=before[0],
        user_after=after[0],
        public_before=before[1],
        public_after=after[1],
        parameters=sum(one.numel() for one in module.parameters()) - added,
        trained=sum(trained.values()),
        replayed=replayed,
        steps=result.steps,
        step_ms=1e3 * result.seconds / max(1, result.steps),
        peak_memory_bytes=read_resident_memory().peak or 0,
        threads=torch.get_num_threads(),
        curves=result.curves.to_curves(),
    )


def _write(job: PersonalJob, module: Any, record: AdapterRecord, report: PersonalReport) -> None:
    out = Path(job.out)
    write_adapter(module, out / "adapter.safetensors", record)
    merge_adapter(module)
    _write_module(module, job.shapes, out)
    write_atomically(out / "report.json", msgspec.json.encode(report))


def _write_module(module: Any, shapes: dict[str, tuple[int, ...]], out: Path) -> None:
    import torch

    for one in module.parameters():
        one.data = one.data.contiguous(memory_format=torch.contiguous_format)
    write_atomically(out / "weights.safetensors", pack_weights(module))
    export_module(module, shapes, out / "model.onnx")


def run_apply(job: ApplyJob) -> None:
    """Merge an adapter into the module's weights, and write them. Raises the errors of `apply_adapter`."""
    module = load_module(job.module, 0).eval()
    record = apply_adapter(module, Path(job.adapter))
    _write_module(module, record.shapes, Path(job.out))
