"""Chunks of samples, decoded by a thread while the previous chunk runs."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from types import TracebackType
from typing import Self

import numpy as np
from msgspec import Struct

from edgewright.schema.arrays import Array
from edgewright.tasks.data.dataset import Dataset, Sample
from edgewright.tasks.data.labels import Label

CHUNK_BYTES = 8 << 20  # of all inputs of a chunk: bounds the memory, and shares the transport's cost among samples
MAX_SAMPLES = 64
PUT_TIMEOUT_S = 0.2


class Chunk(Struct, frozen=True, kw_only=True):
    """Consecutive samples.

    Attributes:
        indices: of the samples in the dataset.
        stack: one array for each input by the source's names, [samples, 1, …].
        labels: one for each sample.
    """

    indices: tuple[int, ...]
    stack: dict[str, Array]
    labels: tuple[Label, ...]


class EndOfChunks(Struct, frozen=True):
    """The thread's final message, with its error if it failed."""

    error: BaseException | None


class ChunkPrefetcher:
    """Iterator over a dataset's chunks that decodes one ahead. A `with` block ends its thread.

    An error of the dataset is raised in place of its chunk.
    """

    def __init__(self, data: Dataset, indices: Sequence[int]) -> None:
        self._data, self._indices = data, indices
        self._queue: Queue[Chunk | EndOfChunks] = Queue(maxsize=1)
        self._ended = Event()
        self._thread = Thread(target=self._decode, name="edgewright-decode", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        with suppress(Empty):
            self._queue.get_nowait()
        self._thread.join()

    def __iter__(self) -> Iterator[Chunk]:
        while isinstance(given := self._queue.get(), Chunk):
            yield given
        if given.error is not None:
            raise given.error

    def _decode(self) -> None:
        error: BaseException | None = None
        try:
            for chunk in _split_into_chunks(self._data, self._indices):
                if not self._put(chunk):
                    return
        except BaseException as caught:  # raised again by the consumer
            error = caught
        self._put(EndOfChunks(error))

    def _put(self, given: Chunk | EndOfChunks) -> bool:
        """Put an item into the queue; False if the consumer has stopped."""
        while not self._ended.is_set():
            with suppress(Full):
                self._queue.put(given, timeout=PUT_TIMEOUT_S)
                return True
        return False


def _split_into_chunks(data: Dataset, indices: Sequence[int]) -> Iterator[Chunk]:
    """Group samples that fit into `CHUNK_BYTES` and whose inputs have the same shapes."""
    held: list[Sample] = []
    for sample in data.read(indices):
        if held and (len(held) == _count_max_samples(held[0]) or _get_shapes(held[0]) != _get_shapes(sample)):
            yield _stack_samples(held)
            held = []
        held.append(sample)
    if held:
        yield _stack_samples(held)


def _count_max_samples(sample: Sample) -> int:
    size = sum(array.nbytes for array in sample.feeds.values())
    return max(1, min(MAX_SAMPLES, CHUNK_BYTES // max(1, size)))


def _get_shapes(sample: Sample) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in sample.feeds.items()}


def _stack_samples(samples: Sequence[Sample]) -> Chunk:
    names = samples[0].feeds
    return Chunk(
        indices=tuple(sample.index for sample in samples),
        stack={name: np.stack([sample.feeds[name] for sample in samples]) for name in names},
        labels=tuple(sample.label for sample in samples),
    )
