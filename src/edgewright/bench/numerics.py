"""Numerical comparison of the outputs of two models on the same inputs."""

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from edgewright.schema.arrays import Array
from edgewright.schema.artifact import Numerics, OutputNumerics
from edgewright.schema.vocabulary import Precision

NEARLY_EQUAL_DB = 190.0  # differs by less than float64's resolution of the largest value
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
    reference: Mapping[str, Array], given: Mapping[str, Array], seed: int | None, kinds: Sequence[str] = ()
) -> Numerics:
    """Compare stacked outputs [samples, …], by the source's names; the worst output determines the figures.

    Args:
        kinds: of the samples, as in `check_inputs`; by default all are plain. The SQNR of each other sample counts
            by itself.

    Raises ValueError if an output is missing or has another shape.
    """
    count = len(next(iter(reference.values())))
    plain = np.array(kinds or ["plain"] * count) == "plain"
    outputs = [_compare_output(name, reference[name], given.get(name), plain) for name in reference]
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
    )


def _compare_output(name: str, reference: Array, given: Array | None, plain: Array) -> OutputNumerics:
    if given is None:
        raise ValueError(f"output '{name}' is missing")
    if given.shape != reference.shape:
        raise ValueError(
            f"output '{name}' has shape {list(given.shape[1:])}, but {list(reference.shape[1:])} in the source model"
        )
    if reference.dtype.kind in "US":
        reference, given = np.zeros(reference.shape), (reference != given).astype(np.float64)
    same = reference == given  # in their own types: float64 does not distinguish large integers
    a, b = reference.astype(np.float64), given.astype(np.float64)
    sound = np.isfinite(a) & np.isfinite(b)
    same |= np.isnan(a) & np.isnan(b)
    not_finite = int(np.count_nonzero(~sound & ~same))
    a, b = np.where(sound, a, 0.0), np.where(sound, b, 0.0)
    largest = max(float(np.max(np.abs(a), initial=0.0)), float(np.max(np.abs(b), initial=0.0))) or 1.0
    x, y = a / largest, b / largest  # avoids overflow of squares
    return OutputNumerics(
        name=name,
        cosine=_compute_cosine(x[plain], y[plain]),
        sqnr_db=_find_worst_sqnr(x, y, plain) if np.any(x != y) or np.all(same | ~sound) else NEARLY_EQUAL_DB,
        max_abs=float(np.max(np.abs(a - b), initial=0.0)),
        argmax_agreement=_compute_argmax_agreement(reference, a, b),
        not_finite=not_finite,
    )


def _compute_cosine(a: Array, b: Array) -> float:
    """Return the cosine of the flattened arrays; 1 if both are all zeros, 0 if one is."""
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norms == 0.0:
        return 1.0 if not np.any(a) and not np.any(b) else 0.0
    return min(1.0, float(np.vdot(a, b)) / norms)


def _find_worst_sqnr(x: Array, y: Array, plain: Array) -> float:
    """Return the SQNR of the plain samples, or that of another sample if it is lower.

    An error of another sample is compared with the power of the plain ones where that is larger: tiny inputs may give
    outputs that are nothing but rounding.
    """
    least = float(np.mean(np.square(x[plain]))) * x[0].size if plain.any() else 0.0
    figures = [compute_sqnr_db(x[i], y[i], least) for i in np.flatnonzero(~plain)]
    return min([compute_sqnr_db(x[plain], y[plain]) if plain.any() else EQUAL_DB, *figures])


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
