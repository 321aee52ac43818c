"""Datasets: opened by a path or a function, and read sample by sample.

Unreadable samples are skipped and counted; more than 1 % of them raise DataError.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from heapq import nsmallest
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgewright.errors import DataError, EdgewrightError
from edgewright.tasks.data.entries import LAYOUT, RawSamples, open_folder, open_zip
from edgewright.tasks.data.feeding import Prepare, make_feeds, make_next_token_labels, move_label
from edgewright.tasks.data.images import UnreadableSample, prepare_image
from edgewright.tasks.data.labels import Label
from edgewright.tasks.spec.functions import USER_CODE_ERRORS, is_function, load_function
from edgewright.tasks.spec.task import NextToken, Task

MAX_SKIPPED_SHARE = 0.01  # of the requested samples
MAX_SHOWN_SAMPLES = 3
MAX_MESSAGE_LENGTH = 500  # of messages of user code


class Sample(Struct, frozen=True, kw_only=True):
    """One sample as model inputs.

    Attributes:
        index: its index in the dataset.
        name: of its file, or `#` and its index.
        feeds: one array for each input, by the source model's names, with a batch of 1, in the task's layout and dtype.
        label: a class number; numbers [k]; token ids; boxes [k, 5] (class, left, top, right, bottom, in pixels of the
            model's input); None if the dataset has no labels.
    """

    index: int
    name: str
    feeds: dict[str, NDArray[Any]]
    label: Label


class Skipped(NamedTuple):
    """A sample that could not be read."""

    name: str
    why: str


class Dataset:
    """An open dataset; close it, or use it in a `with`.

    Attributes:
        title: the path or function that it was opened by.
        labeled: whether samples have labels; next tokens are computed from the ids.
        labels_are_slow: whether `label` computes the whole sample, as for functions.
        fingerprint: hash of names, sizes and, in archives, checksums; empty for a function.
        notes: notes for the user.
        skipped: unreadable samples so far, by index.
    """

    def __init__(self, title: str, task: Task, entries: RawSamples, prepare: Prepare) -> None:
        self.title = title
        self.labels_are_slow = entries.labels_are_slow
        self.labeled = entries.labeled or isinstance(task.output, NextToken)
        self.fingerprint = entries.fingerprint
        self.notes = entries.notes
        self.skipped: dict[int, Skipped] = {}
        self._task, self._entries, self._prepare = task, entries, prepare

    def __len__(self) -> int:
        return len(self._entries.names)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._entries.close()

    def name(self, index: int) -> str:
        return self._entries.names[index]

    def fetch(self, index: int) -> Any:
        """Return a raw sample: bytes of a file, an array, or arrays by input. Raises UnreadableSample."""
        return self._entries.fetch(index)

    def label(self, index: int) -> Label:
        """Return the label as in the dataset: boxes in pixels of the original image. Raises DataError."""
        try:
            return self._entries.label(index)
        except UnreadableSample as error:
            raise DataError(
                f"{self.title} returns no label for {self.name(index)}", str(error), "fix the function"
            ) from error

    def check(self, indices: Iterable[int]) -> None:
        """Raise DataError for an index out of range."""
        for index in indices:
            if not 0 <= index < len(self):
                raise DataError(
                    f"{self.title} has no sample {index}",
                    f"it has {len(self)} samples, counted from 0",
                    "choose other samples",
                )

    def read(self, indices: Sequence[int] | None = None) -> Iterator[Sample]:
        """Yield the samples at these indices in order; by default all.

        Raises:
            DataError: an index out of range, or more than 1 % unreadable samples.
        """
        wanted = range(len(self)) if indices is None else indices
        self.check(wanted)
        failed: list[Skipped] = []
        for index in wanted:
            try:
                yield self._read_one(index)
            except UnreadableSample as error:
                failed.append(Skipped(self.name(index), str(error)))
                self.skipped[index] = failed[-1]
                if len(failed) > MAX_SKIPPED_SHARE * len(wanted):
                    raise _make_skip_error(self.title, failed, len(wanted)) from None

    def _read_one(self, index: int) -> Sample:
        try:
            return self._make_one(index)
        except (EdgewrightError, UnreadableSample):
            raise
        except USER_CODE_ERRORS as error:
            if not self.labels_are_slow:  # not from user code
                raise
            raise UnreadableSample(
                f"it is not a valid sample: {type(error).__name__}: {error}"[:MAX_MESSAGE_LENGTH]
            ) from error

    def _make_one(self, index: int) -> Sample:
        feeds, placement = make_feeds(self._entries.fetch(index), self._task, self._prepare)
        label = move_label(self._entries.label(index), placement, self._task)
        label = make_next_token_labels(feeds, self._task) if label is None else label
        return Sample(index=index, name=self.name(index), feeds=feeds, label=label)


def _make_skip_error(title: str, failed: Iterable[Skipped], requested: int) -> DataError:
    shown = list(failed)
    lines = [f"{one.name}: {one.why}" for one in shown[:MAX_SHOWN_SAMPLES]]
    return DataError(
        f"{title}: {len(shown)} of {requested} samples cannot be read, more than 1 %",
        "\n".join(lines),
        "fix or remove them; if all have the same error, check the task's inputs (edgewright task show)",
    )


def open_dataset(spec: str, task: Task, code: Collection[str] = (), prepare: Prepare = prepare_image) -> Dataset:
    """Open a dataset by a path or a function.

    Args:
        spec: a folder or zip with labels.csv or with one folder for each class, an .npz, or `FILE.py:function` (or
            `module:function`) that returns a sequence of (input, label).
        code: functions that the user allowed to run.
        prepare: converts images to model inputs, with the results of `prepare_image`.

    Raises DataError, and ConfigError for a function that cannot be loaded or is not allowed.
    """
    if is_function(spec) and not Path(spec).exists():
        return Dataset(spec, task, _require_samples(spec, _open_function(spec, code)), prepare)
    path = Path(spec)
    if path.is_dir():
        return Dataset(spec, task, _require_samples(spec, open_folder(path, task)), prepare)
    if not path.is_file():
        raise DataError(f"dataset does not exist: {spec}", "there is no such file or folder", LAYOUT)
    if path.suffix.lower() == ".npz":
        from edgewright.tasks.data.arrays import open_npz

        return Dataset(spec, task, _require_samples(spec, open_npz(path, task)), prepare)
    if path.suffix.lower() == ".zip":
        return Dataset(spec, task, _require_samples(spec, open_zip(path, task)), prepare)
    raise DataError(
        f"{spec} is not a dataset", f"files with the suffix '{path.suffix}' are not supported", f"{LAYOUT}, or an .npz"
    )


def _require_samples(title: str, entries: RawSamples) -> RawSamples:
    if not len(entries.names):
        entries.close()
        raise DataError(f"{title} is empty", "it has no samples", LAYOUT)
    return entries


def _open_function(spec: str, code: Collection[str]) -> RawSamples:
    """Open the result of the user's function: a sequence (`len` and `[i]`) of (input, label).

    An input is an array or a dict of arrays by input name, a path, bytes of a file, or a Pillow image.
    """

    @lru_cache(maxsize=1)  # a sample's input is read before its label
    def pair(index: int) -> tuple[Any, Any]:
        item = given[index]
        return item if isinstance(item, tuple) and len(item) == 2 else (item, None)

    def fetch(index: int) -> Any:
        try:
            return pair(index)[0]
        except USER_CODE_ERRORS as error:
            raise UnreadableSample(f"{type(error).__name__}: {error}"[:MAX_MESSAGE_LENGTH]) from error

    def label(index: int) -> Label:
        try:
            return _as_label(pair(index)[1])
        except USER_CODE_ERRORS as error:
            raise UnreadableSample(f"{type(error).__name__}: {error}"[:MAX_MESSAGE_LENGTH]) from error

    function = load_function(spec, code)
    try:
        given = function()
        count = len(given)
        labeled = bool(count) and label(0) is not None
    except EdgewrightError:
        raise
    except USER_CODE_ERRORS as error:
        why = f"{type(error).__name__}: {error}"[:MAX_MESSAGE_LENGTH]
        raise DataError(f"{spec} returns no dataset", why, "return a list of (input, label)") from error
    return RawSamples([f"#{i}" for i in range(count)], label, labeled, fetch, "", labels_are_slow=True)


def _as_label(label: Any) -> Label:
    if label is None:
        return None
    if isinstance(label, str):
        return str(label)
    array = np.asarray(label)
    return int(array) if array.ndim == 0 and array.dtype.kind in "iub" else np.atleast_1d(array)


def split(n: int, samples: int, seed: int) -> tuple[list[int], list[int]]:
    """Return the indices for calibration and the other indices, both ascending.

    Calibration uses the `samples` indices with the smallest SHA-256 of "SEED:INDEX": the choice does not depend on a
    library's random numbers, and a larger `samples` only adds indices. Raises DataError for fewer samples.
    """
    if not 0 <= samples <= n:
        raise DataError(f"{samples} samples are requested", f"the dataset has {n}", f"give --samples {n}")
    chosen = set(nsmallest(samples, range(n), key=lambda index: sha256(f"{seed}:{index}".encode()).digest()))
    return sorted(chosen), [index for index in range(n) if index not in chosen]
