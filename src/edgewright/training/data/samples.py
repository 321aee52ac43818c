"""Batches from memory maps, prepared by a thread while torch computes with the previous one."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from edgewright.errors import DataError
from edgewright.schema.arrays import Array
from edgewright.tasks.spec.task import ImageInput, Task
from edgewright.training.data.augment import augment, choose_views
from edgewright.training.job import CachedDataset, Settings


class Batch(NamedTuple):
    """Samples as torch tensors.

    Attributes:
        places: indices of the samples, [n].
        inputs: [n, …] by name of the model input.
        labels: [n] or [n, k]; None without labels.
        targets: the teacher's outputs for these views of these samples, [n, …]; None if they are not cached.
    """

    places: Array
    inputs: dict[str, Any]
    labels: Any
    targets: Any


class TrainingSamples:
    """The samples of a job, in the order of its seed.

    Args:
        logits, views: a `.npy` of the teacher's outputs, [views, fit, …]; empty if there is none.

    Attributes:
        part, parts: this process's part of each batch, and the number of equal parts.
    """

    def __init__(self, data: CachedDataset, task: Task, settings: Settings, logits: str = "", views: int = 0) -> None:
        self.fit, self.held_out = np.array(data.fit, np.int64), np.array(data.held_out, np.int64)
        self.size = min(settings.batch, len(self.fit))
        if not self.size:
            raise DataError("there is nothing to train on", "the data has no samples for training", "add samples")
        self.steps_per_epoch = len(self.fit) // self.size
        self.labeled = bool(data.labels)
        self.part, self.parts = 0, 1
        self._task, self._seed, self._views = task, settings.seed, views
        self._inputs = {name: open_array(path) for name, path in data.inputs.items()}
        self._labels = open_array(data.labels) if data.labels else None
        self._logits = open_array(logits) if logits else None
        if self._logits is not None and self._logits.shape[:2] != (views, len(self.fit)):
            raise DataError(
                f"the teacher's outputs cover {' views of '.join(map(str, self._logits.shape[:2]))} samples",
                f"{views} views of {len(self.fit)} samples are required",
                "compute the teacher's outputs again",
            )
        self._answer_rows = np.full(self.count, -1, np.int64)  # by sample index, the row in the teacher's outputs
        self._answer_rows[self.fit] = np.arange(len(self.fit))
        self._order = lru_cache(maxsize=2)(self._shuffle)
        self._outer = {one.name for one in task.inputs if isinstance(one, ImageInput) and one.layout == "NHWC"}

    def _shuffle(self, epoch: int) -> Array:
        return np.random.default_rng([self._seed, epoch]).permutation(self.fit)

    def read_step(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0; an incomplete last batch of an epoch is dropped."""
        epoch, number = divmod(step, self.steps_per_epoch)
        places = self._order(epoch)[number * self.size : (number + 1) * self.size][self.part :: self.parts]
        return self.read(places, choose_views(self._seed, epoch, places, self._views))

    @property
    def count(self) -> int:
        return len(next(iter(self._inputs.values())))

    def read_rows(self, rows: Array) -> Batch:
        """Return views of training samples by row: row = view × len(fit) + index in fit."""
        views, numbers = np.divmod(rows, len(self.fit))
        return self.read(self.fit[numbers], views.astype(np.uint64))

    def read(self, places: Array, views: Any = None) -> Batch:
        """Return these samples, without augmentation if no views are given."""
        import torch

        arrays = {name: _to_float32(array[places]) for name, array in self._inputs.items()}
        if views is not None:
            arrays = augment(self._task, arrays, views, places)
        targets = None
        if self._logits is not None and views is not None:
            targets = torch.from_numpy(_to_float32(self._logits[views.astype(np.int64), self._answer_rows[places]]))
        labels = None if self._labels is None else torch.from_numpy(np.ascontiguousarray(self._labels[places]))
        inputs = {name: self._tensor(name, array) for name, array in arrays.items()}
        return Batch(places, inputs, labels, targets)

    def _tensor(self, name: str, array: Array) -> Any:
        """Return a tensor; images have channels last in memory, where convolutions are faster."""
        import torch

        if array.ndim != 4 or name in self._outer:
            return torch.from_numpy(np.ascontiguousarray(array))
        return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 2, 3, 1))).permute(0, 3, 1, 2)

    def labels_of(self, places: Array) -> Array | None:
        return None if self._labels is None else self._labels[places]

    def fingerprint(self) -> str:
        """Return a fast fingerprint of the training data: labels, shapes and some samples."""
        some = self.fit[:: max(1, len(self.fit) // 16)]
        seen = [self.labels_of(self.fit), *(array[some] for array in self._inputs.values())]
        seen += [] if self._logits is None else [self._logits[:, self._answer_rows[some]]]
        return " ".join(_digest(array) for array in (self.fit, self.held_out, *seen) if array is not None)


def _digest(array: Array) -> str:
    from hashlib import sha256

    return sha256(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes()).hexdigest()


def set_channels_last(module: Any) -> None:
    """Set the weights of convolutions to the memory format of `TrainingSamples`' images."""
    import torch

    for one in module.parameters():
        if one.ndim == 4:
            one.data = one.data.contiguous(memory_format=torch.channels_last)


def open_array(path: str) -> Array:
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _to_float32(array: Array) -> Array:
    """Convert floats to float32; integers do not change."""
    return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array


def prefetch_batches(make: Callable[[Any], Batch], wanted: Iterable[Any]) -> Iterator[Batch]:
    """Yield `make` of each item in order; the next one is computed while one is used."""
    coming: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(1, "batches") as pool:
        for one in wanted:
            coming.append(pool.submit(make, one))
            if len(coming) > 1:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def split_into_chunks(places: Array, size: int) -> list[Array]:
    return [places[start : start + size] for start in range(0, len(places), size)]
