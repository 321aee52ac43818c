"""Cache of decoded training samples in files that every training maps into memory."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgewright.bench.session import Progress
from edgewright.errors import DataError, OutputError
from edgewright.schema.arrays import Array
from edgewright.system.disk import check_free_bytes, preallocate
from edgewright.system.files import write_atomically
from edgewright.tasks.data.dataset import Dataset, Sample, split
from edgewright.training.job import CachedDataset

MIN_SAMPLES = 16
PROGRESS_EVERY = 500
SPARE_BYTES = 64 << 20  # reserved for checkpoints
INDEX_FILE = "laid.json"


def cache_dataset(
    opener: Callable[[], Dataset], folder: Path, *, held_out: float, seed: int, progress: Progress
) -> CachedDataset:
    """Decode the samples of the dataset that `opener` opens into `folder`, or reuse an earlier attempt's.

    `held_out` of them are selected by `tasks.data.split` and are excluded from training.

    Raises DataError for too few samples, samples of different shapes, or labels that cannot be used for training;
    OutputError if the disk is too small.
    """
    names = folder / INDEX_FILE
    if names.is_file():
        return _resolve_paths(msgspec.json.decode(names.read_bytes(), type=CachedDataset), folder)
    folder.mkdir(parents=True, exist_ok=True)
    with opener() as data:
        if len(data) < MIN_SAMPLES:
            raise DataError(f"{data.title} has {len(data)} samples", f"training requires at least {MIN_SAMPLES}", "")
        inputs, labels, indices = _write_stacks(data, folder, progress)
    count = len(next(iter(inputs.values())))
    held, fit = split(count, round(held_out * count), seed)
    file = ""
    if labels is not None:
        file = "labels.npy"
        np.save(folder / file, labels)
    dataset = CachedDataset(
        inputs={name: f"input-{index}.npy" for index, name in enumerate(inputs)},
        labels=file,
        fit=tuple(fit),
        held_out=tuple(held),
        indices=indices,
    )
    write_atomically(names, msgspec.json.encode(dataset))
    return _resolve_paths(dataset, folder)


def _resolve_paths(dataset: CachedDataset, folder: Path) -> CachedDataset:
    """Return the record with paths instead of names, so that the folder can be moved."""
    return msgspec.structs.replace(
        dataset,
        inputs={name: str((folder / file).absolute()) for name, file in dataset.inputs.items()},
        labels=str((folder / dataset.labels).absolute()) if dataset.labels else "",
    )


def _write_stacks(
    data: Dataset, folder: Path, progress: Progress
) -> tuple[dict[str, Array], Array | None, tuple[int, ...]]:
    """Write every readable sample in order, with its index and labels (None if a sample has none)."""
    stacks: dict[str, Array] = {}
    labels: list[Any] = []
    indices: list[int] = []
    done = 0
    for sample in data.read():
        if not stacks:
            stacks = _open_stacks(sample, len(data), folder)
        for name, array in sample.feeds.items():
            if array.shape[1:] != stacks[name].shape[1:]:
                raise DataError(
                    f"sample '{sample.name}' has shape {list(array.shape[1:])} for input '{name}'",
                    f"the first sample has shape {list(stacks[name].shape[1:])}; all samples must have the same shape",
                    "let the task resize or pad the inputs to one size",
                )
            stacks[name][done] = array[0]
        labels.append(sample.label)
        indices.append(sample.index)
        done += 1
        if done % PROGRESS_EVERY == 0:
            progress(f"{data.title}: {done} of {len(data)} samples decoded")
    for index, (name, stack) in enumerate(stacks.items()):
        stack.flush()  # type: ignore[attr-defined] # a memmap
        if done < len(stack):  # some samples were unreadable
            np.save(folder / f"input-{index}.npy", stack[:done].copy())
            stacks[name] = np.load(folder / f"input-{index}.npy", mmap_mode="r")
    return stacks, _stack_labels(labels, data.title), tuple(indices)


def _open_stacks(first: Sample, count: int, folder: Path) -> dict[str, Array]:
    """Create empty stacks for `count` samples; OutputError and no folder if the disk is too small."""
    needed = count * sum(array.nbytes for array in first.feeds.values())
    try:
        check_free_bytes(folder, needed + SPARE_BYTES, "the decoded training data and checkpoints")
    except OutputError:
        with suppress(OSError):  # it is not empty after an earlier attempt
            folder.rmdir()
        raise
    stacks: dict[str, Array] = {}
    for index, (name, array) in enumerate(first.feeds.items()):
        path, shape = folder / f"input-{index}.npy", (count, *array.shape[1:])
        stacks[name] = np.lib.format.open_memmap(path, mode="w+", dtype=array.dtype, shape=shape)
        preallocate(path)
    return stacks


def _stack_labels(labels: list[Any], title: str) -> Array | None:
    if any(label is None for label in labels):
        return None
    first = np.asarray(labels[0])
    if any(np.asarray(label).shape != first.shape for label in labels):
        raise DataError(
            f"the labels of {title} have different shapes", "all labels of a batch must have the same shape", ""
        )
    stacked = np.stack([np.asarray(label) for label in labels])
    return stacked.astype(np.int64 if stacked.dtype.kind in "iub" else np.float32)
