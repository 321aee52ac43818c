"""The losses that labels give, by what a task's output means."""

from collections.abc import Mapping
from typing import Any

from edgewright.errors import DataError, UsageError
from edgewright.formats.torch.program import flatten_tensors, name_outputs
from edgewright.tasks.spec.task import Boxes, Classification, NextToken, Regression, Task

TINY = 1e-7  # probabilities are kept this far from 0 and 1 before their logarithm


def map_outputs(made: Any) -> dict[str, Any]:
    """Return a module's output tensors by name."""
    if isinstance(made, Mapping):
        return dict(made)
    tensors = flatten_tensors(made)
    return dict(zip(name_outputs(len(tensors)), tensors, strict=True))


def select_output(task: Task, outputs: Mapping[str, Any]) -> Any:
    """Return the task's output: the one that it names, else the first."""
    name = task.output.boxes if isinstance(task.output, Boxes) else task.output.name
    if name and name not in outputs:
        raise UsageError(
            f"the module has no output '{name}'", f"it has {', '.join(outputs)}", "correct the task's output"
        )
    return outputs[name] if name else next(iter(outputs.values()))


def compute_logits(task: Task, tensor: Any) -> Any:
    """Return logits, [n, classes] or [positions, vocabulary]; a single score becomes two logits."""
    import torch

    if isinstance(task.output, NextToken):
        return tensor.reshape(-1, tensor.shape[-1]).float()
    scores = tensor.reshape(len(tensor), -1).float()
    linear = isinstance(task.output, Classification) and not task.output.softmax
    if scores.shape[1] > 1:
        return scores.clamp(min=TINY).log() if linear else scores
    single = torch.logit(scores, TINY) if linear else scores
    return torch.cat([torch.zeros_like(single), single], dim=1)


def check_labels_have_loss(task: Task) -> None:
    """Raise UsageError if this kind of output has no label loss."""
    if not isinstance(task.output, Classification | Regression | NextToken):
        kind = task.output.__struct_config__.tag
        raise UsageError(
            f"labels cannot train an output of kind '{kind}'",
            "only classification, regression and next-token have a loss",
            "distill from a teacher without labels: alpha 1 supports every kind of output",
        )


def check_labels_fit(task: Task, labels: Any, tensor: Any) -> None:
    """Raise DataError for labels out of range, and UsageError for outputs that do not match the task.

    Args:
        labels: all training labels, as an array.
        tensor: the output for one sample or more.
    """
    if isinstance(task.output, Regression):
        width = tensor[0].numel()
        if labels.reshape(len(labels), -1).shape[1] != width:
            raise DataError(
                f"the labels have shape {list(labels.shape[1:])}, the module has {width} outputs",
                "",
                "give one number for each output",
            )
        return
    _check_scores(task, tensor)
    known = labels
    class_count = compute_logits(task, tensor).shape[1] - getattr(task.output, "first_class", 0)
    if isinstance(task.output, NextToken):
        known = labels[labels != task.output.ignore]
    if labels.dtype.kind not in "iu" or (known.size and (known.min() < 0 or known.max() >= class_count)):
        raise DataError(
            f"labels from {known.min()} to {known.max()} do not fit the module",
            f"it has {class_count} classes, numbered from 0",
            "number classes from 0; if the model's first score is a background class, set first_class = 1 in the task",
        )


def _check_scores(task: Task, tensor: Any) -> None:
    """Raise UsageError for logits that the task declares as probabilities, whose logarithm is undefined."""
    linear = isinstance(task.output, Classification) and not task.output.softmax
    low, high = float(tensor.min()), float(tensor.max())
    if linear and (low < -TINY or high > 1 + 1e-3):
        raise UsageError(
            "the outputs are not probabilities",
            f"the task has softmax = false, but they range from {low:.3g} to {high:.3g}",
            "set softmax = true in the task's output",
        )


def compute_label_loss(task: Task, outputs: Mapping[str, Any], labels: Any, smoothing: float = 0.0) -> Any:
    """Return the mean loss of a batch: cross entropy of classes and next tokens, smooth L1 of numbers (Girshick 2015).

    Args:
        outputs: tensors by the names of the module's outputs, [n, …].
        labels: [n] classes, [n, k] numbers, or [n, length] tokens.
    """
    from torch.nn import functional

    tensor = select_output(task, outputs)
    if isinstance(task.output, Regression):
        rows = [one.reshape(len(tensor), -1).float() for one in (tensor, labels)]
        return functional.smooth_l1_loss(*rows)
    wanted, ignored = labels.reshape(-1).long(), -100
    if isinstance(task.output, NextToken):
        ignored = task.output.ignore
    elif isinstance(task.output, Classification):
        wanted = wanted + task.output.first_class
    scores = compute_logits(task, tensor)
    return functional.cross_entropy(scores, wanted, ignore_index=ignored, label_smoothing=smoothing)
