"""What a student learns from: labels, a teacher's outputs, and a teacher's stages. And a teacher asked beforehand."""

import os
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import msgspec
import numpy as np

from edgewright.errors import InputError, OutputError, UsageError
from edgewright.quantization.job import StageProgress
from edgewright.tasks.spec.task import Boxes, Classification, NextToken, Task
from edgewright.training.data.samples import (
    Batch,
    TrainingSamples,
    open_array,
    prefetch_batches,
    set_channels_last,
    split_into_chunks,
)
from edgewright.training.job import DistillationSettings, JobMessage, ModuleSource, Settings, TeacherJob, TrainJob
from edgewright.training.loop.checkpoint import digest_module, sync_folder
from edgewright.training.loop.losses import (
    check_labels_fit,
    check_labels_have_loss,
    compute_label_loss,
    compute_logits,
    map_outputs,
    select_output,
)
from edgewright.training.loop.precision import choose_precision

MAX_FLOAT32_OUTPUTS = 4096  # numbers of an answer that are kept as float32; more as float16
PROGRESS_INTERVAL_S = 0.5


class Stage(NamedTuple):
    """An output of a module within, [n, channels, height, width]."""

    module: str
    channels: int


class DistillationLoss:
    """The loss of a batch: (1 − alpha) × labels + alpha × teacher + transfer_weight × transfer.

    Without teaching it is the labels' alone.

    Args:
        teacher: a torch module, or None where the batches hold what it answered.
        few: some samples, to find the stages with.

    Attributes:
        learned: the projections of `features`, trained along.
    """

    def __init__(
        self, task: Task, settings: Settings, teaching: DistillationSettings | None, teacher: Any, sample_batch: Batch
    ) -> None:
        import torch

        self.auxiliary: Any = torch.nn.ModuleList()
        self._task, self._settings, self._teaching, self._teacher = task, settings, teaching, teacher
        self._inputs = sample_batch.inputs
        self._pairs: list[tuple[str, str]] = []
        self._own: dict[str, Any] = {}
        self._targets: dict[str, Any] = {}
        self._hooks: list[Any] = []
        self._half = False

    def attach(self, module: Any, device: Any, precision: str) -> None:
        """Bring the teacher to the device and watch the stages of both. UsageError where none belong together."""
        self._half = precision == "bf16"
        if self._teacher is None or self._teaching is None:
            return
        if self._teaching.transfer != "none":
            self._watch(module)
        self._teacher.to(device)

    def _watch(self, module: Any) -> None:
        import torch

        own, targets = find_stages(module, self._inputs), find_stages(self._teacher, self._inputs)
        both = [size for size in targets if size in own]
        if not both:
            raise UsageError(
                "no stage of the student belongs to one of the teacher",
                f"heights and widths within are {list(own) or 'none'} and {list(targets) or 'none'}",
                "--transfer none",
            )
        for size in both:
            self._pairs.append((own[size].module, targets[size].module))
            if self._teaching is not None and self._teaching.transfer == "features":
                self.auxiliary.append(torch.nn.Conv2d(own[size].channels, targets[size].channels, 1, bias=False))
        for name, teachers in self._pairs:
            self._hooks.append(module.get_submodule(name).register_forward_hook(_make_output_hook(self._own, name)))
            self._hooks.append(
                self._teacher.get_submodule(teachers).register_forward_hook(_make_output_hook(self._targets, teachers))
            )

    def detach(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def fingerprint(self) -> str:
        """Of the teacher that is asked meanwhile."""
        return "" if self._teacher is None else digest_module(self._teacher)

    def first_loss(self, outputs: Mapping[str, Any], batch: Batch) -> Any:
        """That of outputs alone, without stages."""
        return self._sum(self._parts(outputs, batch))

    def __call__(self, outputs: Mapping[str, Any], batch: Batch) -> tuple[Any, dict[str, Any]]:
        parts = self._parts(outputs, batch)
        if self._pairs:
            parts["transfer"] = self._transfer()
        return self._sum(parts), parts if self._teaching is not None else {}

    def _sum(self, parts: dict[str, Any]) -> Any:
        if self._teaching is None:
            return parts["labels"]
        weights = {
            "labels": 1 - self._teaching.alpha,
            "teacher": self._teaching.alpha,
            "transfer": self._teaching.transfer_weight,
        }
        return sum(weights[name] * part for name, part in parts.items())

    def _parts(self, outputs: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
        parts = {}
        teaching = self._teaching
        if teaching is None or teaching.alpha < 1:
            parts["labels"] = compute_label_loss(self._task, outputs, batch.labels, self._settings.label_smoothing)
        if teaching is not None:
            wanted = (
                [batch.targets]
                if self._teacher is None
                else _select_distilled_outputs(self._task, self._run_teacher(batch))
            )
            mine = _select_distilled_outputs(self._task, outputs)
            parts["teacher"] = compute_teacher_loss(self._task, mine, wanted, batch.labels, teaching.temperature)
        return parts

    def _run_teacher(self, batch: Batch) -> dict[str, Any]:
        import torch

        device = next(self._teacher.parameters()).device
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self._half):
            return map_outputs(self._teacher(**batch.inputs))

    def _transfer(self) -> Any:
        losses = []
        for place, (own, targets) in enumerate(self._pairs):
            mine, wanted = self._own[own].float(), self._targets[targets].float()
            losses.append(
                compute_feature_loss(self.auxiliary[place](mine), wanted)
                if len(self.auxiliary)
                else compute_attention_loss(mine, wanted)
            )
        self._own.clear()
        self._targets.clear()
        return sum(losses) / len(losses)


def _make_output_hook(place: dict[str, Any], name: str) -> Any:
    def keep(layer: Any, given: Any, made: Any) -> None:
        place[name] = made

    return keep


def _select_distilled_outputs(task: Task, outputs: Mapping[str, Any]) -> list[Any]:
    """The outputs that a teacher teaches: the task's, all of them for boxes."""
    return list(outputs.values()) if isinstance(task.output, Boxes) else [select_output(task, outputs)]


def compute_teacher_loss(
    task: Task, mine: Sequence[Any], wanted: Sequence[Any], labels: Any, temperature: float
) -> Any:
    """KL divergence of the softened outputs × T² (Hinton et al. 2015); mean squared error where they are no scores.

    Of next tokens, those whose label does not count do not count here either.
    """
    from torch.nn import functional

    if not isinstance(task.output, Classification | NextToken):
        return sum(functional.mse_loss(one.float(), other.float()) for one, other in zip(mine, wanted, strict=True))
    own, targets = (functional.log_softmax(compute_logits(task, one[0]) / temperature, dim=1) for one in (mine, wanted))
    each = functional.kl_div(own, targets, reduction="none", log_target=True).sum(dim=1)
    if isinstance(task.output, NextToken) and labels is not None:
        each = each[labels.reshape(-1) != task.output.ignore]
    return each.mean() * temperature**2


def compute_feature_loss(mine: Any, wanted: Any) -> Any:
    """Squared distance of a projected stage to the teacher's, in parts of the teacher's own mean square."""
    return (mine - wanted).pow(2).mean() / wanted.pow(2).mean().clamp(min=1e-12)


def compute_attention_loss(mine: Any, wanted: Any) -> Any:
    """Squared distance of the maps of mean squared channels, each of length 1; mean over the batch, at most 4."""
    from torch.nn import functional

    maps = [functional.normalize(one.pow(2).mean(dim=1).flatten(1), dim=1) for one in (mine, wanted)]
    return (maps[0] - maps[1]).pow(2).sum(dim=1).mean()


def find_stages(module: Any, inputs: Mapping[str, Any]) -> dict[tuple[int, int], Stage]:
    """For each height and width within a module, the last part that gives an output of it, and its channels.

    Parts that are called twice are left out, since it is not told which call is meant.
    """
    import torch

    calls: dict[str, list[Any]] = {}

    def count(name: str) -> Any:
        def keep(layer: Any, given: Any, made: Any) -> None:
            calls.setdefault(name, []).append(made)

        return keep

    hooks = [part.register_forward_hook(count(name)) for name, part in module.named_modules() if name]
    training = module.training
    with torch.no_grad():
        module.eval()(**inputs)
    module.train(training)
    for hook in hooks:
        hook.remove()
    stages = {}
    for name, made in calls.items():
        if len(made) == 1 and isinstance(made[0], torch.Tensor) and made[0].ndim == 4 and made[0].shape[2:].numel() > 1:
            stages[tuple(made[0].shape[2:])] = Stage(name, made[0].shape[1])
    return stages


def build_distillation_loss(job: TrainJob, task: Task, module: Any, samples: TrainingSamples) -> DistillationLoss:
    """The loss of a job, its teacher loaded. UsageError and DataError where labels, teacher and module do not fit."""
    import torch

    teaching = job.teaching
    sample_batch = samples.read(samples.fit[:2])
    try:
        with torch.no_grad():
            outputs = map_outputs(module.eval()(**sample_batch.inputs))
    except Exception as error:  # it is the user's code
        words = str(error).strip().splitlines() or [""]
        raise InputError(
            "the module does not run on the samples",
            f"{type(error).__name__}: {words[0][:300]}",
            "the task's inputs have to be those of its forward",
        ) from error
    module.train()
    tensor = select_output(task, outputs)
    if teaching is None or teaching.alpha < 1:
        check_labels_have_loss(task)
        labels = samples.labels_of(samples.fit)
        if labels is None:
            raise UsageError("there are no labels to learn from", "the data set has none", "alpha 1, with a teacher")
        check_labels_fit(task, labels, tensor)
    teacher = None
    if teaching is not None:
        _check_distillation_settings(teaching)
        teacher = _open_teacher(teaching, job.settings.seed)
        if teacher is None:
            shapes = [open_array(teaching.logits).shape[2:]]
        else:
            with torch.no_grad():
                shapes = [
                    tuple(one.shape[1:])
                    for one in _select_distilled_outputs(task, map_outputs(teacher(**sample_batch.inputs)))
                ]
        _check_output_shapes(task, [tuple(one.shape[1:]) for one in _select_distilled_outputs(task, outputs)], shapes)
    return DistillationLoss(task, job.settings, teaching, teacher, sample_batch)


def _check_distillation_settings(teaching: DistillationSettings) -> None:
    if not 0 <= teaching.alpha <= 1:
        raise UsageError(f"an alpha of {teaching.alpha:g} cannot be had", "it is a share", "from 0 to 1")
    if not teaching.temperature > 0:
        raise UsageError(f"a temperature of {teaching.temperature:g} cannot be had", "", "above 0, as 4")


def _open_teacher(teaching: DistillationSettings, seed: int) -> Any:
    """The teacher that is asked meanwhile; None where its answers lie in a file and its stages are not wanted."""
    if teaching.logits and teaching.transfer == "none":
        return None
    if teaching.teacher is None:
        why = "its answers lie in no file, or transfer looks into it"
        raise UsageError("there is no teacher to ask", why, "name a torch module, or transfer none")
    return _load_teacher(teaching.teacher, seed)


def _load_teacher(source: ModuleSource, seed: int) -> Any:
    from edgewright.training.source import load_module

    teacher = load_module(source, seed).eval().requires_grad_(False)
    set_channels_last(teacher)
    return teacher


def fold_normalization(teacher: Any, ask: Callable[[Any], Any]) -> Any:
    """A copy whose normalisations are part of its convolutions, which answers the same in less time; the teacher itself
    where there is no such.

    Args:
        ask: the answers of a module to some samples, in float32.
    """
    import torch
    from torch.fx.experimental.optimization import fuse

    try:
        with torch.no_grad():
            folded = fuse(teacher)
            set_channels_last(folded)
            same = torch.allclose(ask(folded), ask(teacher), rtol=1e-3, atol=1e-3)
    except Exception:  # the user's code may do what cannot be traced, and raise whatever it likes then
        return teacher
    return folded if same else teacher  # it is not where a convolution has several normalisations in turn


def _check_output_shapes(task: Task, mine: Sequence[tuple[int, ...]], targets: Sequence[tuple[int, ...]]) -> None:
    """UsageError where teacher and student do not give the same shapes."""
    if list(mine) == list(targets):
        return
    if isinstance(task.output, Classification | NextToken):
        raise UsageError(
            f"the teacher tells {targets[0][-1]} classes apart, the student {mine[0][-1]}",
            "their outputs are compared one by one",
            "give the student the teacher's classes",
        )
    raise UsageError(f"the teacher gives {list(targets)}, the student {list(mine)}", "", "give both the same outputs")


def run_teacher_job(job: TeacherJob, send: Callable[[JobMessage], None]) -> None:
    """Write what the teacher answers for each view of each sample of `fit`; an interrupted file goes on where it was.

    UsageError, OutputError, and those of loading a module.
    """
    import torch

    if job.settings.threads:
        torch.set_num_threads(job.settings.threads)
    task = msgspec.json.decode(job.task, type=Task)
    if job.views > 1 and task.augment is None:
        raise UsageError(f"{job.views} views are all the same", "the task has no [augment] table", "ask for 1 view")
    samples = TrainingSamples(job.data, task, job.settings)
    teacher = _load_teacher(job.teacher, job.settings.seed)
    teacher.to("cuda" if torch.cuda.is_available() else "cpu")
    sample_batch = samples.read(np.arange(min(job.settings.batch, samples.count)))

    def answer(module: Any, batch: Batch) -> Any:
        device = next(module.parameters()).device
        made = _select_distilled_outputs(
            task, map_outputs(module(**{name: one.to(device) for name, one in batch.inputs.items()}))
        )
        if len(made) > 1:
            raise UsageError(f"the teacher has {len(made)} outputs", "one can be kept", "ask it in the loop")
        return made[0].float()

    precision, _ = choose_precision(
        job.settings.precision, teacher, lambda module: answer(module, sample_batch).abs().mean()
    )
    quick = fold_normalization(teacher, lambda module: answer(module, sample_batch))

    def ask(batch: Batch) -> Any:
        device = next(quick.parameters()).device.type
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            return answer(quick, batch).cpu().numpy()

    one = ask(sample_batch)[0]
    kind = np.dtype(np.float32 if one.size <= MAX_FLOAT32_OUTPUTS else np.float16)
    key = sha256(f"{job.views} {precision} {task.augment} {samples.fingerprint()} {digest_module(teacher)}".encode())
    part = Path(f"{job.out}.{key.hexdigest()[:16]}.part")
    size = job.settings.batch
    rows = len(samples.fit) * job.views
    try:
        with part.open("ab") as file:
            head = _write_head(file, kind, (job.views, len(samples.fit), *one.shape))
            done = (file.tell() - head) // (kind.itemsize * one.size)
            file.truncate(head + done * kind.itemsize * one.size)
            began, last_report, start = monotonic(), 0.0, done
            for batch in prefetch_batches(samples.read_rows, split_into_chunks(np.arange(done, rows), size)):
                file.write(ask(batch).astype(kind).tobytes())
                done += len(batch.places)
                if (now := monotonic()) - last_report > PROGRESS_INTERVAL_S or done == rows:
                    file.flush()
                    last_report = now
                    left = (now - began) / (done - start) * (rows - done)
                    send(StageProgress(stage="asking the teacher", done=done, of=rows, left_s=round(left, 1)))
            file.flush()
            os.fsync(file.fileno())
        part.replace(job.out)
        sync_folder(part.parent)
    except OSError as error:
        name, hint = Path(job.out).name, "free some space and run the same again: it goes on from there"
        raise OutputError(f"{name} cannot be written", error.strerror or str(error), hint) from None


def _write_head(file: Any, kind: Any, shape: tuple[int, ...]) -> int:
    """The head of a `.npy`, where there is none yet; its length."""
    head = BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": kind.str, "fortran_order": False, "shape": shape})
    if file.tell() < len(head.getvalue()):
        file.truncate(0)
        file.write(head.getvalue())
    return len(head.getvalue())
