"""The loss of distillation: labels, a teacher's outputs and a teacher's intermediate features."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from edgewright.errors import InputError, UsageError
from edgewright.tasks.spec.task import Classification, NextToken, Task
from edgewright.training.data.samples import (
    Batch,
    TrainingSamples,
    open_array,
)
from edgewright.training.distillation.teacher import load_teacher, select_distilled_outputs
from edgewright.training.job import DistillationSettings, Settings, TrainJob
from edgewright.training.loop.checkpoint import digest_module
from edgewright.training.loop.losses import (
    check_labels_fit,
    check_labels_have_loss,
    compute_label_loss,
    compute_logits,
    map_outputs,
    select_output,
)


class Stage(NamedTuple):
    """A submodule whose output is a feature map, [n, channels, height, width]."""

    module: str
    channels: int


class DistillationLoss:
    """The loss of a batch: (1 − alpha) × labels + alpha × teacher + transfer_weight × transfer.

    Without distillation it is the label loss.

    Args:
        teacher: a torch module, or None if the batches contain its outputs.
        sample_batch: some samples, to find the stages with.

    Attributes:
        auxiliary: the projections of `features`, which are trained with the student.
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
        """Move the teacher to the device and hook the stages of both. Raises UsageError if no stages match."""
        self._half = precision == "bf16"
        if self._teacher is None or self._teaching is None:
            return
        if self._teaching.transfer != "none":
            self._watch(module, self._teaching.transfer)
        self._teacher.to(device)

    def _watch(self, module: Any, transfer: str) -> None:
        import torch

        self._compute_transfer_loss, projects = TRANSFER_LOSSES[transfer]
        own, targets = find_stages(module, self._inputs), find_stages(self._teacher, self._inputs)
        both = [size for size in targets if size in own]
        if not both:
            raise UsageError(
                "no stage of the student matches a stage of the teacher",
                f"the stages' heights and widths are {list(own) or 'none'} and {list(targets) or 'none'}",
                "use --transfer none",
            )
        for size in both:
            self._pairs.append((own[size].module, targets[size].module))
            channels = own[size].channels, targets[size].channels
            self.auxiliary.append(torch.nn.Conv2d(*channels, 1, bias=False) if projects else torch.nn.Identity())
        for name, teachers in self._pairs:
            self._hooks.append(module.get_submodule(name).register_forward_hook(_make_output_hook(self._own, name)))
            self._hooks.append(
                self._teacher.get_submodule(teachers).register_forward_hook(_make_output_hook(self._targets, teachers))
            )

    def detach(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def fingerprint(self) -> str:
        """Return the digest of the teacher that runs during training; empty if there is none."""
        return "" if self._teacher is None else digest_module(self._teacher)

    def first_loss(self, outputs: Mapping[str, Any], batch: Batch) -> Any:
        """Return the loss of the outputs, without the transfer loss."""
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
                else select_distilled_outputs(self._task, self._run_teacher(batch))
            )
            mine = select_distilled_outputs(self._task, outputs)
            parts["teacher"] = compute_teacher_loss(self._task, mine, wanted, batch.labels, teaching.temperature)
        return parts

    def _run_teacher(self, batch: Batch) -> dict[str, Any]:
        import torch

        device = next(self._teacher.parameters()).device
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self._half):
            return map_outputs(self._teacher(**batch.inputs))

    def _transfer(self) -> Any:
        losses = [
            self._compute_transfer_loss(project(self._own[own].float()), self._targets[targets].float())
            for project, (own, targets) in zip(self.auxiliary, self._pairs, strict=True)
        ]
        self._own.clear()
        self._targets.clear()
        return sum(losses) / len(losses)


def _make_output_hook(place: dict[str, Any], name: str) -> Any:
    def keep(layer: Any, given: Any, made: Any) -> None:
        place[name] = made

    return keep


def compute_teacher_loss(
    task: Task, mine: Sequence[Any], wanted: Sequence[Any], labels: Any, temperature: float
) -> Any:
    """Return the KL divergence of the softened outputs × T² (Hinton et al. 2015), or the MSE if they are no scores.

    Next tokens whose label is ignored are ignored here too.
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
    """Return the squared distance of a projected stage to the teacher's, relative to the teacher's mean square."""
    return (mine - wanted).pow(2).mean() / wanted.pow(2).mean().clamp(min=1e-12)


def compute_attention_loss(mine: Any, wanted: Any) -> Any:
    """Return the squared distance of the normalized maps of mean squared channels: the batch mean, at most 4."""
    from torch.nn import functional

    maps = [functional.normalize(one.pow(2).mean(dim=1).flatten(1), dim=1) for one in (mine, wanted)]
    return (maps[0] - maps[1]).pow(2).sum(dim=1).mean()


# By value of `transfer`: the loss of two stages, and whether a trained projection maps the student's to the teacher's.
TRANSFER_LOSSES: dict[str, tuple[Callable[[Any, Any], Any], bool]] = {
    "features": (compute_feature_loss, True),
    "attention": (compute_attention_loss, False),
}


def find_stages(module: Any, inputs: Mapping[str, Any]) -> dict[tuple[int, int], Stage]:
    """Return, for each height and width, the last submodule with an output of that size, and its channels.

    Submodules that are called twice are ignored, because the call is ambiguous.
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
    """Return the loss of a job. Raises UsageError and DataError if labels, teacher and module do not match."""
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
            "the task's inputs must be those of its forward",
        ) from error
    module.train()
    tensor = select_output(task, outputs)
    if teaching is None or teaching.alpha < 1:
        check_labels_have_loss(task)
        labels = samples.labels_of(samples.fit)
        if labels is None:
            raise UsageError(
                "the dataset has no labels", "the label loss requires labels", "use a teacher with alpha 1"
            )
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
                    for one in select_distilled_outputs(task, map_outputs(teacher(**sample_batch.inputs)))
                ]
        _check_output_shapes(task, [tuple(one.shape[1:]) for one in select_distilled_outputs(task, outputs)], shapes)
    return DistillationLoss(task, job.settings, teaching, teacher, sample_batch)


def _check_distillation_settings(teaching: DistillationSettings) -> None:
    if not 0 <= teaching.alpha <= 1:
        raise UsageError(f"an alpha of {teaching.alpha:g} is out of range", "it is a share", "give a value from 0 to 1")
    if not teaching.temperature > 0:
        raise UsageError(
            f"a temperature of {teaching.temperature:g} is out of range", "it must be above 0", "give for example 4"
        )


def _open_teacher(teaching: DistillationSettings, seed: int) -> Any:
    """Return the teacher module; None if its outputs are in a file and there is no transfer loss."""
    if teaching.logits and teaching.transfer == "none":
        return None
    if teaching.teacher is None:
        why = "its outputs are in no file, or the transfer loss requires its features"
        raise UsageError("the teacher module is missing", why, "give a torch module, or set transfer to none")
    return load_teacher(teaching.teacher, seed)


def _check_output_shapes(task: Task, mine: Sequence[tuple[int, ...]], targets: Sequence[tuple[int, ...]]) -> None:
    """Raise UsageError if the outputs of teacher and student have different shapes."""
    if list(mine) == list(targets):
        return
    if isinstance(task.output, Classification | NextToken):
        raise UsageError(
            f"the teacher has {targets[0][-1]} classes, the student {mine[0][-1]}",
            "distillation compares the outputs class by class",
            "use a student with the teacher's classes",
        )
    raise UsageError(
        f"the teacher's outputs have shapes {list(targets)}, the student's {list(mine)}",
        "",
        "use a student with the teacher's outputs",
    )
