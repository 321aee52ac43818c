"""Checks that a task, a model and a dataset match, before anything runs."""

from collections.abc import Iterator, Sequence

from edgewright.errors import ConfigError, DataError
from edgewright.schema.model import Signature, TensorSpec
from edgewright.tasks.data.dataset import Dataset
from edgewright.tasks.data.labels import make_range_error
from edgewright.tasks.spec.task import (
    AudioInput,
    Boxes,
    Classification,
    ImageInput,
    Input,
    NextToken,
    Task,
    TensorInput,
    TokensInput,
    read_label_names,
)

Shape = tuple[int, ...]


def check_task(task: Task, signature: Signature) -> None:
    """Raise ConfigError if the task does not match the source's signature, with the likely fix."""
    specs = {spec.name: spec for spec in signature.inputs}
    wanted = dict(_list_task_inputs(task))
    for name, (one, shape) in wanted.items():
        if name not in specs:
            likely = next((free for free in specs if free not in wanted), next(iter(specs), name))
            raise ConfigError(
                f"the model has no input '{name}'",
                f"its inputs are {', '.join(specs) or 'none'}",
                f'set name = "{likely}" in the task',
            )
        _check_input(one, shape, specs[name])
    if missing := [name for name in specs if name not in wanted]:
        raise ConfigError(
            f"the task does not describe the model's input '{missing[0]}'",
            f"it describes {', '.join(wanted)}",
            "add an [[inputs]] table (or mask or segments of the token input that it is computed from)",
        )
    _check_output(task, signature)


def _list_task_inputs(task: Task) -> Iterator[tuple[str, tuple[Input, Shape]]]:
    """Yield every input of the task with its shape; () matches any shape."""
    for one in task.inputs:
        shape = _get_input_shape(one)
        yield one.name, (one, shape)
        if isinstance(one, TokensInput):
            for name in filter(None, (one.mask, one.segments)):
                yield name, (one, shape)


def _get_input_shape(one: Input) -> Shape:
    match one:
        case ImageInput() | TensorInput():
            return one.shape
        case AudioInput():
            return one.shape or (1, one.window)
        case TokensInput():
            return (1, one.length)


def _check_input(one: Input, shape: Shape, spec: TensorSpec) -> None:
    if spec.dtype != one.dtype:
        raise ConfigError(
            f"the input '{spec.name}' is {spec.dtype} in the model, {one.dtype} in the task",
            "",
            f'set dtype = "{spec.dtype}" in the task' + _suggest_integer_scaling(one, spec),
        )
    if spec.shape and isinstance(spec.shape[0], int) and spec.shape[0] > 1 and shape[:1] == (1,):
        raise ConfigError(
            f"the input '{spec.name}' has a fixed batch of {spec.shape[0]}",
            "samples are run one at a time",
            "export the model with a batch of 1 or a dynamic batch",
        )
    if shape and not _fits(shape, spec.shape):
        raise ConfigError(
            f"the input '{spec.name}' is {_show(spec.shape)} in the model, {_show(shape)} in the task",
            f"layout {one.layout} and size {list(one.size)}" if isinstance(one, ImageInput) else "",
            _suggest_fix(one, spec),
        )


def _suggest_integer_scaling(one: Input, spec: TensorSpec) -> str:
    if not isinstance(one, ImageInput) or spec.dtype not in ("int8", "uint8"):
        return ""
    mean = 128 if spec.dtype == "int8" else 0
    return f", with mean = {mean} and std = 1 if its values are pixels" + (" − 128" if mean else "")


def _fits(shape: Sequence[int], known: Sequence[int | str]) -> bool:
    return len(shape) == len(known) and all(
        isinstance(size, str) or size == given for size, given in zip(known, shape, strict=True)
    )


def _show(shape: Sequence[int | str]) -> str:
    return "[" + ", ".join(str(size) or "?" for size in shape) + "]"


def _suggest_fix(one: Input, spec: TensorSpec) -> str:
    """Return the fix of the most likely wrong key."""
    if isinstance(one, ImageInput) and len(spec.shape) == 4:
        return _suggest_image_fix(one, spec)
    if isinstance(one, TokensInput) and len(spec.shape) == 2:
        return f"set length = {spec.shape[1]} in the task"
    if isinstance(one, AudioInput):
        sizes = [size for size in spec.shape if isinstance(size, int) and size > 1]
        if len(sizes) == 1:
            return f"set window = {sizes[0]} and shape = {_show([1, *spec.shape[1:]])} in the task"
    return f"set shape = {_show([size if isinstance(size, int) else 1 for size in spec.shape])} in the task"


def _suggest_image_fix(one: ImageInput, spec: TensorSpec) -> str:
    other = "NHWC" if one.layout == "NCHW" else "NCHW"
    height, width = one.size
    for layout in (one.layout, other):
        for channels, color in ((one.channels, one.color), (4 - one.channels, "RGB" if one.channels == 1 else "gray")):
            shape = (1, channels, height, width) if layout == "NCHW" else (1, height, width, channels)
            if _fits(shape, spec.shape):
                changes = [f'layout = "{layout}"'] if layout != one.layout else []
                changes += [f'color = "{color}"'] if color != one.color else []
                return f"set {' and '.join(changes)} in the task"
    first = spec.shape[1] in (1, 3)
    sizes = spec.shape[2:] if first else spec.shape[1:3]
    changed = "" if first == (one.layout == "NCHW") else f'layout = "{other}" and '
    return f"set {changed}size = {_show(sizes)} in the task"


def get_output_name(task: Task, signature: Signature) -> str:
    """Return the task's output: the named one, else the model's first."""
    named = task.output.boxes if isinstance(task.output, Boxes) else task.output.name
    return named or signature.outputs[0].name


def _check_output(task: Task, signature: Signature) -> None:
    names = [spec.name for spec in signature.outputs]
    named = (
        (task.output.boxes, task.output.scores, task.output.classes_out)
        if isinstance(task.output, Boxes)
        else (task.output.name,)
    )
    if unknown := [name for name in named if name and name not in names]:
        raise ConfigError(
            f"the model has no output '{unknown[0]}'", f"its outputs are {', '.join(names)}", "choose one of these"
        )
    class_count = count_model_classes(task, signature)
    if not isinstance(task.output, Classification) or not class_count:
        return
    class_names = read_label_names(task)
    if class_names and len(class_names) != class_count:
        raise ConfigError(
            f"the labels file has {len(class_names)} classes, the model {class_count}",
            f"the output '{get_output_name(task, signature)}' has {class_count + task.output.first_class} scores",
            "set first_class = 1 in the task"
            if len(class_names) == class_count - 1
            else "use the labels file that belongs to the model",
        )
    if task.output.classes and task.output.classes != class_count:
        raise ConfigError(
            f"the task has {task.output.classes} classes, the model {class_count}",
            f"the output '{get_output_name(task, signature)}' has {class_count + task.output.first_class} scores",
            "set first_class = 1 in the task"
            if task.output.classes == class_count - 1
            else f"set classes = {class_count} in the task",
        )


def count_model_classes(task: Task, signature: Signature) -> int:
    """Return the model's number of classes; 0 if its signature does not show it."""
    if not isinstance(task.output, Classification):
        return 0
    name = get_output_name(task, signature)
    shape = next((spec.shape for spec in signature.outputs if spec.name == name), ())
    last = shape[-1] if shape else 0
    return max(0, last - task.output.first_class) if isinstance(last, int) and last > 1 else 0


def check_labels(data: Dataset, task: Task, signature: Signature, indices: Sequence[int]) -> None:
    """Raise DataError for missing labels and for labels that are not classes of the model."""
    if not data.labeled:
        hint = "add labels.csv (file,label), or sort the files into one folder for each class"
        if data.title.endswith(".npz"):
            hint = "add an array with one label for each sample: numpy.savez(FILE, INPUT=samples, labels=labels)"
        raise DataError(f"{data.title} has no labels", "the metric compares outputs with labels", hint)
    class_count = count_model_classes(task, signature)
    if data.labels_are_slow:  # they are checked when they are read
        return
    for index in indices:
        label = data.label(index)
        if label is None and not isinstance(task.output, NextToken):
            raise DataError(f"{data.title}: {data.name(index)} has no label", "", "label the sample, or remove it")
        if isinstance(label, int) and (label < 0 or (class_count and label >= class_count)):
            raise make_range_error(f"{data.title}: {data.name(index)}", label, class_count)
