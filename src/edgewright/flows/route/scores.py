"""Scores of several models on the same labeled samples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import ConfigError, DataError
from edgewright.flows.candidates import read_source_signature
from edgewright.flows.evaluate.chunks import ChunkPrefetcher
from edgewright.flows.evaluate.inference import make_runner
from edgewright.flows.workspace import Workspace
from edgewright.kernels.preprocessing import prepare_with_kernels
from edgewright.schema.model import Model
from edgewright.serving.routing import Flags, Floats
from edgewright.tasks.data.dataset import Dataset, open_dataset
from edgewright.tasks.spec.check import check_labels, check_task, get_output_name
from edgewright.tasks.spec.task import Classification, Task

SMALLEST = 1e-12


@dataclass(frozen=True)
class LevelScores:
    """Logits [n, classes] of one model, and where its largest is the label's."""

    scores: Floats
    right: Flags


@dataclass(frozen=True)
class TestedLevels:
    """All levels on one dataset."""

    labels: NDArray[np.int64]
    levels: tuple[LevelScores, ...]
    fingerprint: str


@dataclass(frozen=True)
class Level:
    """A model in a runtime with its task."""

    model: Model
    runtime: str
    task: Task


def collect_scores(levels: Sequence[Level], data: str, code: Sequence[str], workspace: Workspace) -> TestedLevels:
    """Run every model on all samples.

    Raises ConfigError for a task that is no classification, DataError for labels that are no classes, and any error
    of a worker.
    """
    found = [_run(one, data, code, workspace) for one in levels]
    labels = found[0][1]
    if any((own != labels).any() for _, own, _ in found[1:]):
        raise DataError("the levels have different labels for the same samples", "their tasks differ", "use one task")
    own_levels = tuple(LevelScores(scores, scores.argmax(axis=1) == labels) for scores, _, _ in found)
    return TestedLevels(labels, own_levels, found[0][2])


def _run(level: Level, data: str, code: Sequence[str], workspace: Workspace) -> tuple[Floats, NDArray[np.int64], str]:
    """Return the logits, the labels, and the fingerprint of the samples."""
    output, signature = level.task.output, read_source_signature(level.model)
    if not isinstance(output, Classification):
        why = f"the task's output is {type(output).__name__.lower()}: only a classification has margins"
        raise ConfigError("the task cannot be routed", why, 'use a task with [output] kind = "classification"')
    with open_dataset(data, level.task, code, prepare_with_kernels) as dataset:
        indices = range(len(dataset))
        dataset.check(indices)
        check_task(level.task, signature)
        check_labels(dataset, level.task, signature, indices)
        rows, labels = _infer(level, dataset, workspace)
        fingerprint = dataset.fingerprint
    scores = np.concatenate(rows)[:, output.first_class :]
    if not np.isfinite(scores).all():
        what = f"{level.model.name} has scores that are not finite"
        raise DataError(what, f"on {int((~np.isfinite(scores)).any(axis=1).sum())} samples", "evaluate the model alone")
    return scores if output.softmax else np.log(np.maximum(scores, SMALLEST)), np.array(labels), fingerprint


def _infer(level: Level, dataset: Dataset, workspace: Workspace) -> tuple[list[Floats], list[int]]:
    name = get_output_name(level.task, read_source_signature(level.model))
    rows: list[Floats] = []
    labels: list[int] = []
    runner = make_runner(level.model, level.runtime, workspace.device)
    with runner, ChunkPrefetcher(dataset, range(len(dataset))) as chunks:
        for chunk in chunks:
            outputs = runner.run(chunk.stack)[name]
            rows.append(outputs.reshape(len(chunk.indices), -1).astype(np.float64))
            labels += [_to_class(one) for one in chunk.labels]
            workspace.progress(f"route: {level.model.name}: {len(labels)} of {len(dataset)} samples")
    return rows, labels


def _to_class(label: object) -> int:
    if not isinstance(label, int | np.integer):
        raise DataError("a label is not a class", f"it is {label!r}", "label each sample with the number of its class")
    return int(label)
