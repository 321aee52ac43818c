"""The search: from the best variant to its neighbors, wrong ones rejected, the best measured again."""

import hashlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from msgspec import Struct

from edgewright.errors import KernelsDiffer
from edgewright.kernels.build import find_cache
from edgewright.kernels.tuning.conv2d import (
    DEFAULT,
    TOLERANCE,
    ConvInputs,
    ConvVariant,
    list_variants,
    make_inputs,
)
from edgewright.kernels.tuning.device import DeviceFailure, OpenClDevice
from edgewright.kernels.tuning.processor import Processor
from edgewright.system.files import read_regular, write_atomically

SEARCH_ROUNDS, FINAL_ROUNDS = 3, 15
FINALISTS = 5
SLOW = 4.0  # a variant this many times slower than the best is measured once


class Tried(Struct, frozen=True, kw_only=True):
    """A variant of the search; `us` is null if it is wrong or fails."""

    params: ConvVariant
    us: float | None
    why: str = ""


class TuneReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Result of `edgewright kernels tune`.

    Attributes:
        device: the OpenCL device and its driver, or the processor and its compiler.
        stand_in: whether PoCL ran the kernels on the CPU, so that the times say nothing about a GPU.
        clock: `cpu` (CPU time of the process) or `events` (the driver's).
        correct: whether the best variant computes the convolution.
        default_us, best_us: medians of the untuned and the best variant, measured again alternately.
        ratio: default_us / best_us.
        params: the best variant.
        tried, rejected: number of variants that were measured, and that failed or were wrong; also of earlier calls.
        of: number of all variants.
        seconds: of this search.
    """

    schema: str = "edgewright.kernels-tune/1"
    kernel: str
    device: str
    stand_in: bool
    clock: str
    correct: bool
    default_us: float
    best_us: float
    ratio: float
    params: ConvVariant
    tried: int
    rejected: int
    of: int
    seconds: float


class TunedDevice(Protocol):
    """A device on which variants are tried; see `OpenClDevice`. Its kernels have `compute`."""

    title: str
    source: Path
    is_cpu: bool
    is_stand_in: bool

    def supports(self, variant: ConvVariant) -> bool:
        """Return whether the variant is one of its own."""

    def load(self, variant: ConvVariant, inputs: ConvInputs) -> Any:
        """Return the built variant. Raises DeviceFailure."""

    def time_us(self, kernel: Any, rounds: int) -> float:
        """Return the median time of a run in microseconds."""


def _open_device(name: str) -> TunedDevice:
    """Return the OpenCL device, or for `cpu` this processor. Raises RuntimeMissing."""
    return Processor() if name == "cpu" else OpenClDevice()


def tune_conv2d(
    budget_s: float, seed: int, progress: Callable[[str], None] = lambda text: None, name: str = "opencl"
) -> TuneReport:
    """Search the variants of the convolution on a device, `opencl` or `cpu`.

    Each measured variant is kept in the user's cache folder, for this device, driver and source: an interrupted search
    goes on where it ended.

    Raises:
        RuntimeMissing: there is no such device.
        KernelsDiffer: the driver or compiler computes the untuned variant wrongly.
    """
    began = time.monotonic()
    device, inputs = _open_device(name), make_inputs()
    if why := _find_fault(device, DEFAULT, inputs)[1]:
        raise KernelsDiffer(
            f"{device.title} cannot be used", f"the untuned conv2d is wrong: {why}", "use another driver or compiler"
        )
    cache = _get_cache_path(device)
    known = _read_cache(cache)
    variants = [one for one in list_variants() if device.supports(one)]
    random.Random(seed).shuffle(variants)  # noqa: S311 - the order of a search
    while time.monotonic() - began < budget_s and (variant := _propose(known, variants)) is not None:
        known[variant] = _try(device, variant, inputs, known)
        write_atomically(cache, msgspec.json.encode(list(known.values())))
        progress(f"conv2d: {len(known)} of {len(variants)} variants")
    return _report(device, inputs, known, time.monotonic() - began)


def _propose(known: Mapping[ConvVariant, Tried], variants: Sequence[ConvVariant]) -> ConvVariant | None:
    """Return the next variant: one that differs from the best in one parameter, else any; None if all are known."""
    if DEFAULT not in known:
        return DEFAULT
    best = _rank(known)[0].params if _rank(known) else DEFAULT
    left = [one for one in variants if one not in known]
    near = (one for name in ConvVariant.__struct_fields__ for one in left if _differ_only_in(name, one, best))
    return next(near, left[0] if left else None)


def _differ_only_in(name: str, one: ConvVariant, other: ConvVariant) -> bool:
    return msgspec.structs.replace(one, **{name: getattr(other, name)}) == other


def _rank(known: Mapping[ConvVariant, Tried]) -> list[Tried]:
    return sorted((one for one in known.values() if one.us is not None), key=lambda one: one.us or 0.0)


def _try(device: TunedDevice, variant: ConvVariant, inputs: ConvInputs, known: Mapping[ConvVariant, Tried]) -> Tried:
    kernel, why = _find_fault(device, variant, inputs)
    if kernel is None or why:
        return Tried(params=variant, us=None, why=why)
    best = min((one.us for one in known.values() if one.us is not None), default=float("inf"))
    first = device.time_us(kernel, 1)
    return Tried(params=variant, us=first if first > SLOW * best else device.time_us(kernel, SEARCH_ROUNDS))


def _find_fault(device: TunedDevice, variant: ConvVariant, inputs: ConvInputs) -> tuple[Any, str]:
    """Return the built variant and why it is wrong; empty if it computes the convolution."""
    try:
        kernel = device.load(variant, inputs)
        worst = float(np.abs(kernel.compute() - inputs.want).max())
    except DeviceFailure as failure:
        return None, str(failure)
    return kernel, "" if worst <= TOLERANCE else f"the largest error is {worst:.3g}"


def _report(device: TunedDevice, inputs: ConvInputs, known: Mapping[ConvVariant, Tried], seconds: float) -> TuneReport:
    """Measure the untuned and the best variants again, alternately, and return the result."""
    finalists = dict.fromkeys([DEFAULT, *(one.params for one in _rank(known)[:FINALISTS])])
    kernels = {one: kernel for one in finalists if (kernel := _find_fault(device, one, inputs)[0]) is not None}
    times: dict[ConvVariant, list[float]] = {one: [] for one in kernels}
    for _ in range(FINAL_ROUNDS):
        for one, kernel in kernels.items():
            times[one].append(device.time_us(kernel, 1))
    medians = {one: sorted(values)[len(values) // 2] for one, values in times.items()}
    best = min(medians, key=lambda one: medians[one])
    return TuneReport(
        kernel="conv2d",
        device=device.title,
        stand_in=device.is_stand_in,
        clock="cpu" if device.is_cpu else "events",
        correct=not _find_fault(device, best, inputs)[1],
        default_us=medians[DEFAULT],
        best_us=medians[best],
        ratio=medians[DEFAULT] / medians[best],
        params=best,
        tried=len(known),
        rejected=sum(one.us is None for one in known.values()),
        of=sum(map(device.supports, list_variants())),
        seconds=seconds,
    )


def _get_cache_path(device: TunedDevice) -> Path:
    key = hashlib.sha256(f"{device.title}\0{device.source.read_text(encoding='utf-8')}".encode()).hexdigest()[:20]
    folder = find_cache() / "tuned"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"conv2d-{key}.json"


def _read_cache(path: Path) -> dict[ConvVariant, Tried]:
    """Return the variants of earlier searches; none if the file is absent or damaged."""
    try:
        return {one.params: one for one in msgspec.json.decode(read_regular(path), type=list[Tried])}
    except (OSError, msgspec.DecodeError, msgspec.ValidationError):
        return {}
