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

from edgewright.compress.job import Step
from edgewright.errors import InputError, OutputError, UsageError
from edgewright.tasks.contract import Boxes, Classification, NextToken, Task
from edgewright.training.checkpoint import digest_module, sync_folder
from edgewright.training.job import AskJob, Settings, Source, Teaching, TrainJob, Word
from edgewright.training.losses import (
    check_labels_fit,
    check_labels_teach,
    chosen_tensor,
    label_loss,
    logits_of,
    name_made,
)
from edgewright.training.precision import choose_precision
from edgewright.training.samples import Batch, Samples, ahead, chunks, last_channels, open_array

MOST_EXACT = 4096  # numbers of an answer that are kept as float32; more as float16
TELL_S = 0.5


class Stage(NamedTuple):
    """An output of a module within, [n, channels, height, width]."""

    module: str
    channels: int


class Lesson:
    """The loss of a batch: (1 − alpha) × labels + alpha × teacher + transfer_weight × transfer.

    Without teaching it is the labels' alone.

    Args:
        teacher: a torch module, or None where the batches hold what it answered.
        few: some samples, to find the stages with.

    Attributes:
        learned: the projections of `features`, trained along.
    """

    def __init__(self, task: Task, settings: Settings, teaching: Teaching | None, teacher: Any, few: Batch) -> None:
        import torch

        self.learned: Any = torch.nn.ModuleList()
        self._task, self._settings, self._teaching, self._teacher = task, settings, teaching, teacher
        self._inputs = few.inputs
        self._pairs: list[tuple[str, str]] = []
        self._own: dict[str, Any] = {}
        self._taught: dict[str, Any] = {}
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

        own, taught = find_stages(module, self._inputs), find_stages(self._teacher, self._inputs)
        both = [size for size in taught if size in own]
        if not both:
            raise UsageError(
                "no stage of the student belongs to one of the teacher",
                f"heights and widths within are {list(own) or 'none'} and {list(taught) or 'none'}",
                "--transfer none",
            )
        for size in both:
            self._pairs.append((own[size].module, taught[size].module))
            if self._teaching is not None and self._teaching.transfer == "features":
                self.learned.append(torch.nn.Conv2d(own[size].channels, taught[size].channels, 1, bias=False))
        for name, teachers in self._pairs:
            self._hooks.append(module.get_submodule(name).register_forward_hook(keep_in(self._own, name)))
            self._hooks.append(
                self._teacher.get_submodule(teachers).register_forward_hook(keep_in(self._taught, teachers))
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
            parts["labels"] = label_loss(self._task, outputs, batch.labels, self._settings.label_smoothing)
        if teaching is not None:
            wanted = [batch.taught] if self._teacher is None else list_taught(self._task, self._ask(batch))
            mine = list_taught(self._task, outputs)
            parts["teacher"] = teacher_loss(self._task, mine, wanted, batch.labels, teaching.temperature)
        return parts

    def _ask(self, batch: Batch) -> dict[str, Any]:
        import torch

        device = next(self._teacher.parameters()).device
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self._half):
            return name_made(self._teacher(**batch.inputs))

    def _transfer(self) -> Any:
        losses = []
        for place, (own, taught) in enumerate(self._pairs):
            mine, wanted = self._own[own].float(), self._taught[taught].float()
            losses.append(
                feature_loss(self.learned[place](mine), wanted) if len(self.learned) else attention_loss(mine, wanted)
            )
        self._own.clear()
        self._taught.clear()
        return sum(losses) / len(losses)


def keep_in(place: dict[str, Any], name: str) -> Any:
    def keep(layer: Any, given: Any, made: Any) -> None:
        place[name] = made

    return keep


def list_taught(task: Task, outputs: Mapping[str, Any]) -> list[Any]:
    """The outputs that a teacher teaches: the task's, all of them for boxes."""
    return list(outputs.values()) if isinstance(task.output, Boxes) else [chosen_tensor(task, outputs)]


def teacher_loss(task: Task, mine: Sequence[Any], wanted: Sequence[Any], labels: Any, temperature: float) -> Any:
    """KL divergence of the softened outputs × T² (Hinton et al. 2015); mean squared error where they are no scores.

    Of next tokens, those whose label does not count do not count here either.
    """
    from torch.nn import functional

    if not isinstance(task.output, Classification | NextToken):
        return sum(functional.mse_loss(one.float(), other.float()) for one, other in zip(mine, wanted, strict=True))
    own, taught = (functional.log_softmax(logits_of(task, one[0]) / temperature, dim=1) for one in (mine, wanted))
    each = functional.kl_div(own, taught, reduction="none", log_target=True).sum(dim=1)
    if isinstance(task.output, NextToken) and labels is not None:
        each = each[labels.reshape(-1) != task.output.ignore]
    return each.mean() * temperature**2


def feature_loss(mine: Any, wanted: Any) -> Any:
    """Squared distance of a projected stage to the teacher's, in parts of the teacher's own mean square."""
    return (mine - wanted).pow(2).mean() / wanted.pow(2).mean().clamp(min=1e-12)


def attention_loss(mine: Any, wanted: Any) -> Any:
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


def open_lesson(job: TrainJob, task: Task, module: Any, samples: Samples) -> Lesson:
    """The loss of a job, its teacher loaded. UsageError and DataError where labels, teacher and module do not fit."""
    import torch

    teaching = job.teaching
    few = samples.read(samples.fit[:2])
    try:
        with torch.no_grad():
            outputs = name_made(module.eval()(**few.inputs))
    except Exception as error:  # it is the user's code
        words = str(error).strip().splitlines() or [""]
        raise InputError(
            "the module does not run on the samples",
            f"{type(error).__name__}: {words[0][:300]}",
            "the task's inputs have to be those of its forward",
        ) from error
    module.train()
    tensor = chosen_tensor(task, outputs)
    if teaching is None or teaching.alpha < 1:
        check_labels_teach(task)
        labels = samples.labels_of(samples.fit)
        if labels is None:
            raise UsageError("there are no labels to learn from", "the data set has none", "alpha 1, with a teacher")
        check_labels_fit(task, labels, tensor)
    teacher = None
    if teaching is not None:
        check_teaching(teaching)
        teacher = open_teacher(teaching, job.settings.seed)
        if teacher is None:
            shapes = [open_array(teaching.logits).shape[2:]]
        else:
            with torch.no_grad():
                shapes = [tuple(one.shape[1:]) for one in list_taught(task, name_made(teacher(**few.inputs)))]
        check_same(task, [tuple(one.shape[1:]) for one in list_taught(task, outputs)], shapes)
    return Lesson(task, job.settings, teaching, teacher, few)


def check_teaching(teaching: Teaching) -> None:
    if not 0 <= teaching.alpha <= 1:
        raise UsageError(f"an alpha of {teaching.alpha:g} cannot be had", "it is a share", "from 0 to 1")
    if not teaching.temperature > 0:
        raise UsageError(f"a temperature of {teaching.temperature:g} cannot be had", "", "above 0, as 4")


def open_teacher(teaching: Teaching, seed: int) -> Any:
    """The teacher that is asked meanwhile; None where its answers lie in a file and its stages are not wanted."""
    if teaching.logits and teaching.transfer == "none":
        return None
    if teaching.teacher is None:
        why = "its answers lie in no file, or transfer looks into it"
        raise UsageError("there is no teacher to ask", why, "name a torch module, or transfer none")
    return load_teacher(teaching.teacher, seed)


def load_teacher(source: Source, seed: int) -> Any:
    from edgewright.training.source import load_module

    teacher = load_module(source, seed).eval().requires_grad_(False)
    last_channels(teacher)
    return teacher


def fold_normalisations(teacher: Any, ask: Callable[[Any], Any]) -> Any:
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
            last_channels(folded)
            same = torch.allclose(ask(folded), ask(teacher), rtol=1e-3, atol=1e-3)
    except Exception:  # the user's code may do what cannot be traced, and raise whatever it likes then
        return teacher
    return folded if same else teacher  # it is not where a convolution has several normalisations in turn


def check_same(task: Task, mine: Sequence[tuple[int, ...]], taught: Sequence[tuple[int, ...]]) -> None:
    """UsageError where teacher and student do not give the same shapes."""
    if list(mine) == list(taught):
        return
    if isinstance(task.output, Classification | NextToken):
        raise UsageError(
            f"the teacher tells {taught[0][-1]} classes apart, the student {mine[0][-1]}",
            "their outputs are compared one by one",
            "give the student the teacher's classes",
        )
    raise UsageError(f"the teacher gives {list(taught)}, the student {list(mine)}", "", "give both the same outputs")


def run_ask(job: AskJob, say: Callable[[Word], None]) -> None:
    """Write what the teacher answers for each view of each sample of `fit`; an interrupted file goes on where it was.

    UsageError, OutputError, and those of loading a module.
    """
    import torch

    if job.settings.threads:
        torch.set_num_threads(job.settings.threads)
    task = msgspec.json.decode(job.task, type=Task)
    if job.views > 1 and task.augment is None:
        raise UsageError(f"{job.views} views are all the same", "the task has no [augment] table", "ask for 1 view")
    samples = Samples(job.data, task, job.settings)
    teacher = load_teacher(job.teacher, job.settings.seed)
    teacher.to("cuda" if torch.cuda.is_available() else "cpu")
    few = samples.read(np.arange(min(job.settings.batch, samples.count)))

    def answer(module: Any, batch: Batch) -> Any:
        device = next(module.parameters()).device
        made = list_taught(task, name_made(module(**{name: one.to(device) for name, one in batch.inputs.items()})))
        if len(made) > 1:
            raise UsageError(f"the teacher has {len(made)} outputs", "one can be kept", "ask it in the loop")
        return made[0].float()

    precision, _ = choose_precision(job.settings.precision, teacher, lambda module: answer(module, few).abs().mean())
    quick = fold_normalisations(teacher, lambda module: answer(module, few))

    def ask(batch: Batch) -> Any:
        device = next(quick.parameters()).device.type
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            return answer(quick, batch).cpu().numpy()

    one = ask(few)[0]
    kind = np.dtype(np.float32 if one.size <= MOST_EXACT else np.float16)
    key = sha256(f"{job.views} {precision} {task.augment} {samples.fingerprint()} {digest_module(teacher)}".encode())
    part = Path(f"{job.out}.{key.hexdigest()[:16]}.part")
    size = job.settings.batch
    rows = len(samples.fit) * job.views
    try:
        with part.open("ab") as file:
            head = write_head(file, kind, (job.views, len(samples.fit), *one.shape))
            done = (file.tell() - head) // (kind.itemsize * one.size)
            file.truncate(head + done * kind.itemsize * one.size)
            began, told, start = monotonic(), 0.0, done
            for batch in ahead(samples.read_rows, chunks(np.arange(done, rows), size)):
                file.write(ask(batch).astype(kind).tobytes())
                done += len(batch.places)
                if (now := monotonic()) - told > TELL_S or done == rows:
                    file.flush()
                    told = now
                    left = (now - began) / (done - start) * (rows - done)
                    say(Step(stage="asking the teacher", done=done, of=rows, left_s=round(left, 1)))
            file.flush()
            os.fsync(file.fileno())
        part.replace(job.out)
        sync_folder(part.parent)
    except OSError as error:
        name, hint = Path(job.out).name, "free some space and run the same again: it goes on from there"
        raise OutputError(f"{name} cannot be written", error.strerror or str(error), hint) from None


def write_head(file: Any, kind: Any, shape: tuple[int, ...]) -> int:
    """The head of a `.npy`, where there is none yet; its length."""
    head = BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": kind.str, "fortran_order": False, "shape": shape})
    if file.tell() < len(head.getvalue()):
        file.truncate(0)
        file.write(head.getvalue())
    return len(head.getvalue())
