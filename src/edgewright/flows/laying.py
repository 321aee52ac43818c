"""Samples that a network is trained on: decoded once, and laid into files that every training maps into memory."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgewright.bench.session import Tell
from edgewright.errors import DataError, OutputError
from edgewright.facts.units import show_bytes
from edgewright.system.disk import allocate
from edgewright.system.files import write_whole
from edgewright.tasks.data import Data, Sample, split
from edgewright.training.job import Laid

Array = NDArray[Any]
LEAST_SAMPLES = 16
TOLD_EVERY = 500
SPARE_BYTES = 64 << 20  # for checkpoints
DONE = "laid.json"


def lay_out_training(opener: Callable[[], Data], folder: Path, *, held_out: float, seed: int, tell: Tell) -> Laid:
    """The samples of the data set that `opener` opens in `folder`, which may hold them from an earlier try.

    `held_out` of them are chosen as `tasks.data.split` does, and are not to be trained on.

    Raises DataError for too few samples, samples of different shapes, or labels that cannot be trained on; OutputError
    where the disk has not the room.
    """
    names = folder / DONE
    if names.is_file():
        return placed(msgspec.json.decode(names.read_bytes(), type=Laid), folder)
    folder.mkdir(parents=True, exist_ok=True)
    with opener() as data:
        if len(data) < LEAST_SAMPLES:
            raise DataError(f"{data.title} has {len(data)} samples", f"training needs {LEAST_SAMPLES} at least", "")
        inputs, labels, indices = write_stacks(data, folder, tell)
    count = len(next(iter(inputs.values())))
    held, fit = split(count, round(held_out * count), seed)
    file = ""
    if labels is not None:
        file = "labels.npy"
        np.save(folder / file, labels)
    laid = Laid(
        inputs={name: f"input-{place}.npy" for place, name in enumerate(inputs)},
        labels=file,
        fit=tuple(fit),
        held_out=tuple(held),
        indices=indices,
    )
    write_whole(names, msgspec.json.encode(laid))
    return placed(laid, folder)


def placed(laid: Laid, folder: Path) -> Laid:
    """With paths instead of names, so that the folder can be moved."""
    return msgspec.structs.replace(
        laid,
        inputs={name: str((folder / file).absolute()) for name, file in laid.inputs.items()},
        labels=str((folder / laid.labels).absolute()) if laid.labels else "",
    )


def write_stacks(data: Data, folder: Path, tell: Tell) -> tuple[dict[str, Array], Array | None, tuple[int, ...]]:
    """Every readable sample, in order, with its labels (None where one of them has none) and its index."""
    stacks: dict[str, Array] = {}
    labels: list[Any] = []
    indices: list[int] = []
    done = 0
    for sample in data.read():
        if not stacks:
            stacks = open_stacks(sample, len(data), folder)
        for name, array in sample.feeds.items():
            if array.shape[1:] != stacks[name].shape[1:]:
                raise DataError(
                    f"sample '{sample.name}' gives input '{name}' the shape {list(array.shape[1:])}",
                    f"the first one gave {list(stacks[name].shape[1:])}; a batch has one shape",
                    "make the task resize or pad to one size",
                )
            stacks[name][done] = array[0]
        labels.append(sample.label)
        indices.append(sample.index)
        done += 1
        if done % TOLD_EVERY == 0:
            tell(f"{data.title}: {done} of {len(data)} samples decoded")
    for place, (name, stack) in enumerate(stacks.items()):
        stack.flush()  # type: ignore[attr-defined] # a memmap
        if done < len(stack):  # some could not be read
            np.save(folder / f"input-{place}.npy", stack[:done].copy())
            stacks[name] = np.load(folder / f"input-{place}.npy", mmap_mode="r")
    return stacks, stack_labels(labels, data.title), tuple(indices)


def open_stacks(first: Sample, count: int, folder: Path) -> dict[str, Array]:
    """Empty stacks for so many samples like the first one, and no folder where there is no room for them."""
    needed = count * sum(array.nbytes for array in first.feeds.values())
    free = shutil.disk_usage(folder).free
    if needed + SPARE_BYTES > free:
        with suppress(OSError):  # it holds what an earlier try left
            folder.rmdir()
        raise OutputError(
            f"{folder} has not the room for the training data",
            f"decoded it takes {show_bytes(needed)}, and {show_bytes(SPARE_BYTES)} are kept for checkpoints; "
            f"{show_bytes(free)} are free",
            "name an --output folder on another disk",
        )
    stacks: dict[str, Array] = {}
    for place, (name, array) in enumerate(first.feeds.items()):
        path, shape = folder / f"input-{place}.npy", (count, *array.shape[1:])
        stacks[name] = np.lib.format.open_memmap(path, mode="w+", dtype=array.dtype, shape=shape)
        allocate(path)
    return stacks


def stack_labels(labels: list[Any], title: str) -> Array | None:
    if any(label is None for label in labels):
        return None
    first = np.asarray(labels[0])
    if any(np.asarray(label).shape != first.shape for label in labels):
        raise DataError(f"the labels of {title} have different shapes", "they cannot be stacked into a batch", "")
    stacked = np.stack([np.asarray(label) for label in labels])
    return stacked.astype(np.int64 if stacked.dtype.kind in "iub" else np.float32)
