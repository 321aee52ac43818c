"""Calibration samples for a quantiser: read from a data set, checked, and laid into files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import DataError
from edgewright.system.disk import preallocate
from edgewright.tasks.data.dataset import Dataset, split

Array = NDArray[Any]

MIN_SAMPLES = 8
CHECK_EVERY = 4  # one in four judges what the others were used for


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
    """Indices of the calibration samples; `apart` where another data set judges the result.

    DataError for too few samples, or where none would be left to judge.
    """
    if samples < MIN_SAMPLES:
        raise DataError(
            f"{samples} samples are too few", f"ranges and rounding need {MIN_SAMPLES} at least", "--samples 100"
        )
    if len(data) < MIN_SAMPLES:
        what = f"{data.title} has {len(data)} samples"
        raise DataError(what, f"calibration alone needs {MIN_SAMPLES}", "bring more of what the model will see")
    if samples > len(data) or (samples == len(data) and not separate_evaluation):
        raise DataError(
            f"{data.title} has {len(data)} samples, {samples} are wanted for calibration",
            "none would be left to judge the result on" if samples == len(data) else "there are not enough",
            f"--samples {max(MIN_SAMPLES, len(data) // 5)}, or --eval-data for a data set of its own",
        )
    return split(len(data), samples, seed)[0]


def cache_calibration_data(data: Dataset, indices: Sequence[int], folder: Path) -> CalibrationData:
    """Read the samples and write them into `folder`, one file for each input and part. DataError where they differ."""
    parts: dict[str, dict[str, Array]] = {}
    counts = {"fit": 0, "check": 0}
    used: list[int] = []
    shapes: dict[str, tuple[int, ...]] = {}
    for position, sample in enumerate(data.read(indices)):
        part = "check" if position % CHECK_EVERY == 0 else "fit"
        shapes = shapes or {name: array.shape for name, array in sample.feeds.items()}
        for name, array in sample.feeds.items():
            if array.shape != shapes[name]:
                raise DataError(
                    f"sample '{sample.name}' gives input '{name}' the shape {list(array.shape)}",
                    f"the first one gave {list(shapes[name])}; one graph has one shape",
                    "make the task resize or pad to one size",
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
    """The rows that were filled, in files of their own; the longer ones go."""
    files = {}
    for position, (name, stack) in enumerate(stacks.items()):
        files[name] = folder / f"{part}-{position}.npy"
        np.save(files[name], stack[:count])
        Path(str(stack.filename)).unlink()  # type: ignore[attr-defined] # a memmap knows its file
    return files
