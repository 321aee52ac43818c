"""Numerical comparison of the outputs of two models on the same inputs."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from msgspec import Struct

from edgewright.bench.output_parts import OutputPart
from edgewright.schema.arrays import Array
from edgewright.schema.artifact import Numerics, OutputNumerics
from edgewright.schema.vocabulary import Precision

NEARLY_EQUAL_DB = 190.0  # differs by less than float64's resolution of the largest value
TOLERANCE = 1e-3  # relative difference of an element that is counted
TINY = 1e-300  # avoids a division by zero
PART_FLOOR = 1e-6  # of an output's root mean square, below which a part of it is rounding
STEP_SAMPLES = 4096  # elements from which the steps of a quantized output are found
EQUAL_DB = 200.0  # represents bitwise equality, and is the upper limit


class Threshold(Struct, frozen=True, kw_only=True):
    """Minimum figures of a precision."""

    cosine: float
    sqnr_db: float


# fp32: rounding in another order of summation costs a few bits of 24. fp16 keeps 11 bits a value: about 66 dB for one
# rounding, minus the growth over some hundred layers. A quantized model is compared with its own QDQ graph, where an
# activation may round to the other neighbor, one step away. Its accuracy is evaluated on data, not here.
THRESHOLDS: dict[Precision, Threshold] = {
    "fp32": Threshold(cosine=0.9999, sqnr_db=60.0),
    "fp16": Threshold(cosine=0.999, sqnr_db=30.0),
    "bf16": Threshold(cosine=0.99, sqnr_db=20.0),
}
QUANTIZED_THRESHOLD = Threshold(cosine=0.99, sqnr_db=20.0)
# A format without zero points has half as many steps, one bit or 6 dB less, where values lie on one side of zero.
SYMMETRIC_THRESHOLD = Threshold(cosine=0.98, sqnr_db=14.0)


def _get_threshold(precision: Precision) -> Threshold:
    return THRESHOLDS.get(precision, QUANTIZED_THRESHOLD)


def compare_outputs(
    reference: Mapping[str, Array],
    given: Mapping[str, Array],
    seed: int | None,
    kinds: Sequence[str] = (),
    parts: Mapping[str, Sequence[OutputPart]] = MappingProxyType({}),
) -> Numerics:
    """Compare stacked outputs [samples, …], by the source's names; the worst output determines the figures.

    Args:
        kinds: of the samples, as in `check_inputs`; by default all are plain. The SQNR of each other sample counts
            by itself.
        parts: of the outputs that have some. The SQNR of each counts by itself.

    Raises ValueError if an output is missing or has another shape.
    """
    count = len(next(iter(reference.values())))
    plain = np.array(kinds or ["plain"] * count) == "plain"
    outputs = [
        _compare_output(name, reference[name], given.get(name), plain, parts.get(name, ())) for name in reference
    ]
    worst = min(outputs, key=lambda one: one.sqnr_db)
    agreements = [one.argmax_agreement for one in outputs if one.argmax_agreement is not None]
    return Numerics(
        cosine=min(one.cosine for one in outputs),
        sqnr_db=worst.sqnr_db,
        max_abs=max(one.max_abs for one in outputs),
        argmax_agreement=min(agreements, default=None),
        not_finite=sum(one.not_finite for one in outputs),
        samples=count,
        seed=seed,
        worst_output=worst.name,
        outputs=tuple(outputs),
        max_relative=max(one.max_relative for one in outputs),
        beyond_tolerance=max(one.beyond_tolerance for one in outputs),
        source_not_finite=sum(one.source_not_finite for one in outputs),
    )


def _compare_output(
    name: str, reference: Array, given: Array | None, plain: Array, parts: Sequence[OutputPart]
) -> OutputNumerics:
    if given is None:
        raise ValueError(f"output '{name}' is missing")
    if given.shape != reference.shape:
        raise ValueError(
            f"output '{name}' has shape {list(given.shape[1:])}, but {list(reference.shape[1:])} in the source model"
        )
    if reference.dtype.kind in "US":
        reference, given = np.zeros(reference.shape), (reference != given).astype(np.float64)
    source_not_finite = int(np.count_nonzero(~np.isfinite(reference))) if reference.dtype.kind == "f" else 0
    same = reference == given  # in their own types: float64 does not distinguish large integers
    a, b = reference.astype(np.float64), given.astype(np.float64)
    sound = np.isfinite(a) & np.isfinite(b)
    same |= np.isnan(a) & np.isnan(b)
    not_finite = int(np.count_nonzero(~sound & ~same))
    a, b = np.where(sound, a, 0.0), np.where(sound, b, 0.0)
    largest = max(float(np.max(np.abs(a), initial=0.0)), float(np.max(np.abs(b), initial=0.0))) or 1.0
    x, y = a / largest, b / largest  # avoids overflow of squares
    whole = _find_worst_sqnr(x, y, plain) if np.any(x != y) or np.all(same | ~sound) else NEARLY_EQUAL_DB
    figures: dict[str, float] = {}
    for part in parts:
        figures[part.name] = min(figures.get(part.name, EQUAL_DB), _compute_part_sqnr(x, y, part, plain))
    relative = np.abs(x - y) / (np.abs(x) + float(np.sqrt(np.mean(np.square(x))) if x.size else 0) + TINY)
    return OutputNumerics(
        name=name,
        cosine=_compute_cosine(x[plain], y[plain]),
        sqnr_db=min(whole, *figures.values()) if figures else whole,
        max_abs=float(np.max(np.abs(a - b), initial=0.0)),
        argmax_agreement=_compute_argmax_agreement(reference, a, b),
        not_finite=not_finite,
        max_relative=float(np.max(relative, initial=0.0)),
        beyond_tolerance=float(np.mean(relative > TOLERANCE)) if relative.size else 0.0,
        source_not_finite=source_not_finite,
        parts=dict(sorted(figures.items(), key=lambda one: one[1])),
    )


def _compute_cosine(a: Array, b: Array) -> float:
    """Return the cosine of the flattened arrays; 1 if both are all zeros, 0 if one is."""
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norms == 0.0:
        return 1.0 if not np.any(a) and not np.any(b) else 0.0
    return min(1.0, float(np.vdot(a, b)) / norms)


def _compute_part_sqnr(x: Array, y: Array, part: OutputPart, plain: Array) -> float:
    """Return the SQNR of a part of an output.

    Its power is at least that of a millionth of the output, and that at which rounding to the steps of its values gives
    20 dB: a part whose values are a few steps cannot be compared better.
    """
    own = part.slices(x.ndim - 1)
    steps = [np.diff(np.unique(array.reshape(-1)[:STEP_SAMPLES])) for array in (x[own], x)]
    step = next((float(np.min(found)) for found in steps if found.size), 0.0)
    least = PART_FLOOR**2 * float(np.mean(np.square(x))) + 100 / 12 * step**2 if x.size else 0.0
    return _find_worst_sqnr(x[own], y[own], plain, least)


def _find_worst_sqnr(x: Array, y: Array, plain: Array, floor: float = 0.0) -> float:
    """Return the SQNR of the plain samples, or that of another sample if it is lower.

    An error of another sample is compared with the power of the plain ones where that is larger: tiny inputs may give
    outputs that are nothing but rounding.

    Args:
        floor: least mean power of all samples.
    """
    a, b = x[plain], y[plain]
    least = max(floor, float(np.mean(np.square(a))) if a.size else 0.0) * (x[0].size if len(x) else 0)
    figures = [compute_sqnr_db(x[i], y[i], least) for i in np.flatnonzero(~plain)]
    return min([compute_sqnr_db(a, b, floor * a.size), *figures])


def compute_sqnr_db(signal: Array, other: Array, least: float = 0.0) -> float:
    """Return 10 log10 of the signal's power, `least` or more, over that of the difference, at most `EQUAL_DB`."""
    noise = float(np.sum(np.square(signal - other)))
    if noise == 0.0:
        return EQUAL_DB
    power = max(least, float(np.sum(np.square(signal))))
    return min(EQUAL_DB, 10 * float(np.log10(power / noise))) if power else -EQUAL_DB


def _compute_argmax_agreement(reference: Array, a: Array, b: Array) -> float | None:
    """Return the share of vectors along the last axis with the same largest entry; None without classes."""
    if reference.dtype.kind != "f" or a.ndim < 2 or a.shape[-1] < 2:
        return None
    return float(np.mean(np.argmax(a, -1) == np.argmax(b, -1)))


def find_faults(numerics: Numerics, precision: Precision, threshold: Threshold | None = None) -> Sequence[str]:
    """Return why an artifact fails its precision's threshold, or the given one; empty if it passes."""
    threshold = threshold or _get_threshold(precision)
    faults = []
    if numerics.not_finite:
        faults.append(f"{numerics.not_finite} values are NaN or infinite but finite in the source model")
    if not numerics.cosine >= threshold.cosine:  # NaN fails too
        faults.append(f"cosine {numerics.cosine:.6f} is below {threshold.cosine}")
    if not numerics.sqnr_db >= threshold.sqnr_db:
        faults.append(
            f"SQNR {numerics.sqnr_db:.1f} dB is below {threshold.sqnr_db:g} dB in output '{numerics.worst_output}'"
        )
    return faults
