"""Proposal, check and display of task files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from edgewright.errors import OutputError, UsageError
from edgewright.flows.candidates import read_source_signature
from edgewright.flows.compile.sources import is_torch
from edgewright.formats.files import read_model
from edgewright.schema.model import Signature
from edgewright.schema.plan import ModelMetadata
from edgewright.system.files import write_atomically
from edgewright.tasks.spec.check import check_task
from edgewright.tasks.spec.file import propose_task, read_task, write_task
from edgewright.tasks.spec.task import (
    Boxes,
    Classification,
    ImageInput,
    Input,
    NextToken,
    Task,
    TokensInput,
    read_label_names,
)


def _read_signature(model: Path) -> Signature:
    """Return the inputs and outputs of the source of this model or artifact."""
    return read_source_signature(read_model(model))


def propose_task_text(model: Path) -> tuple[str, list[str]]:
    """Return a proposed task as TOML, and the assumptions that the user must check."""
    task = propose_task(_read_signature(model), model.stem)
    return write_task(task), list(_list_uncertainties(task))


def _list_uncertainties(task: Task) -> Iterator[str]:
    """Yield the assumptions of a proposed task."""
    for one in task.inputs:
        if isinstance(one, ImageInput):
            yield f"mean, std, color and resize of '{one.name}' are assumed: the model does not contain them"
        if isinstance(one, TokensInput):
            yield f"pad of '{one.name}' must be the tokenizer's padding id"
    if isinstance(task.output, Classification):
        yield 'labels = "labels.txt" adds class names'
    if isinstance(task.output, Boxes):
        yield "format, normalized and objectness of the boxes are assumed"
    if isinstance(task.output, NextToken):
        yield "the output is assumed to be the logits of the next token"


def save_task(path: Path, text: str, *, force: bool) -> None:
    """Write a task file.

    Raises:
        UsageError: the file exists, and `force` is not set.
        OutputError: the file cannot be written.
    """
    if path.is_dir() or not path.name:
        raise OutputError(f"{path} cannot be written", "it is a folder", "name a file: -o task.toml")
    if path.exists() and not force:
        raise UsageError(f"{path} already exists", "it may contain your edits", "add --force to overwrite it")
    write_atomically(path, text, follow=True)


def open_task(file: Path, model: Path | None) -> Task:
    """Return the task of a file, checked against a model if one is given."""
    task = read_task(file)
    if model is not None:
        check_task(task, _read_signature(model))
    return task


def make_model_metadata(task: Task, source: str) -> ModelMetadata:
    """Return labels and scaling of a task, checked against the source unless it is a torch source."""
    if not is_torch(source):
        check_task(task, _read_signature(Path(source)))
    labels: tuple[str, ...] = ()
    if isinstance(task.output, Classification) and (names := read_label_names(task)):
        labels = ("background",) * task.output.first_class + names
    mean, std = _compute_scaling(task.inputs[0])
    return ModelMetadata(labels=labels, mean=mean, std=std)


def _compute_scaling(one: Input) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std for values from 0 to 255, with the task's scale included; empty for other inputs."""
    if not isinstance(one, ImageInput):
        return (), ()
    scale, mean, std = (
        given if isinstance(given, tuple) else (given,) * one.channels for given in (one.scale, one.mean, one.std)
    )
    if 0 in scale:
        return (), ()
    means = tuple(m / s for m, s in zip(mean, scale, strict=True))
    stds = tuple(d / s for d, s in zip(std, scale, strict=True))
    return (means[:1], stds[:1]) if len({*zip(means, stds, strict=True)}) == 1 else (means, stds)


def list_task_fields(task: Task) -> list[tuple[str, str]]:
    """Return every key with its value, including defaults."""
    return list(_flatten(msgspec.to_builtins(task), ""))


def _flatten(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flatten(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        for position, inner in enumerate(value):
            yield from _flatten(inner, f"{path}[{position}]")
    else:
        yield (
            path,
            "" if value is None else ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value),
        )
