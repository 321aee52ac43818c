"""Calibration samples for the quantizer: read from a dataset, checked, and written to files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgewright.errors import DataError
from edgewright.schema.arrays import Array
from edgewright.system.disk import check_free_bytes, preallocate
from edgewright.tasks.data.dataset import Dataset, split

MIN_SAMPLES = 8
CHECK_EVERY = 4  # one of four samples validates the quantization parameters fitted on the others


class CalibrationData(NamedTuple):
    """Files of stacked samples by input name.

    Attributes:
        fit, check: `.npy` files, [samples, 1, …].
        shapes: of each input.
        used: indices of the samples.
    """

    fit: dict[str, Path]
    check: dict[str, Path]
    shapes: dict[str, tuple[int, ...]]
    used: tuple[int, ...]


def choose_calibration_samples(data: Dataset, samples: int, seed: int, *, separate_evaluation: bool) -> list[int]:
    """Return the indices of the calibration samples.

    `separate_evaluation` is whether another dataset is used for the evaluation. Raises DataError for too few samples,
    or if none would be left for the evaluation.
    """
    if samples < MIN_SAMPLES:
        raise DataError(
            f"{samples} samples are too few", f"calibration requires at least {MIN_SAMPLES}", "use --samples 100"
        )
    if len(data) < MIN_SAMPLES:
        what = f"{data.title} has {len(data)} samples"
        raise DataError(
            what,
            f"calibration requires at least {MIN_SAMPLES}",
            "add samples like those that the model will see in use",
        )
    if samples > len(data) or (samples == len(data) and not separate_evaluation):
        raise DataError(
            f"{data.title} has {len(data)} samples, but calibration was set to use {samples}",
            "no sample would be left for the evaluation" if samples == len(data) else "there are not enough samples",
            f"use --samples {max(MIN_SAMPLES, len(data) // 5)}, or provide a separate dataset with --eval-data",
        )
    return split(len(data), samples, seed)[0]


def cache_calibration_data(data: Dataset, indices: Sequence[int], folder: Path) -> CalibrationData:
    """Write the samples into `folder`, one file for each input and part. DataError if their shapes differ."""
    parts: dict[str, dict[str, Array]] = {}
    counts = {"fit": 0, "check": 0}
    used: list[int] = []
    shapes: dict[str, tuple[int, ...]] = {}
    for position, sample in enumerate(data.read(indices)):
        part = "check" if position % CHECK_EVERY == 0 else "fit"
        if not shapes:
            shapes = {name: array.shape for name, array in sample.feeds.items()}
            needed = len(indices) * sum(array.nbytes for array in sample.feeds.values())
            check_free_bytes(folder, 2 * needed, f"{len(indices)} calibration samples")  # half of it stays free
        for name, array in sample.feeds.items():
            if array.shape != shapes[name]:
                raise DataError(
                    f"sample '{sample.name}' has shape {list(array.shape)} for input '{name}'",
                    f"the first sample has shape {list(shapes[name])}; all samples must have the same shape",
                    "let the task resize or pad the inputs to one size",
                )
            stacks = parts.setdefault(part, {})
            if name not in stacks:
                path = folder / f"{part}-{len(stacks)}.all.npy"
                shape = (_count_max_rows(part, len(indices)), *array.shape)
                stacks[name] = np.lib.format.open_memmap(path, mode="w+", dtype=array.dtype, shape=shape)
                preallocate(path)
            stacks[name][counts[part]] = array
        counts[part] += 1
        used.append(sample.index)
    files = {part: _trim_stacks(stacks, counts[part], folder, part) for part, stacks in parts.items()}
    return CalibrationData(files.get("fit", {}), files.get("check", {}), shapes, tuple(used))


def _count_max_rows(part: str, samples: int) -> int:
    """Return how many of the samples a part can have."""
    checked = -(-samples // CHECK_EVERY)
    return checked if part == "check" else samples - checked


def _trim_stacks(stacks: dict[str, Array], count: int, folder: Path, part: str) -> dict[str, Path]:
    """Copy the filled rows into files of their own, and remove the longer ones."""
    files = {}
    for position, (name, stack) in enumerate(stacks.items()):
        files[name] = folder / f"{part}-{position}.npy"
        whole = Path(str(stack.filename))  # type: ignore[attr-defined] # a memmap knows its file
        if count == len(stack):
            whole.replace(files[name])
            continue
        np.save(files[name], stack[:count])
        whole.unlink()
    return files


def read_input_shapes(data: Any, index: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a sample's inputs."""
    sample = next(iter(data.read([index])))
    return {name: array.shape for name, array in sample.feeds.items()}
