"""Inputs of the numerical check: random ones, and samples of values that random ones do not contain.

A sample has a kind. `plain`: normal floats and valid indices. `large`, `tiny` and `exact` (halves, ties, zeros) have
other floats. Probes have other integers: `negative` indices, and numbers `beyond-24-bits` and `beyond-31-bits`; an
artifact that differs on them is narrower than its source, but not wrong.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edgewright.bench.feeds import FLOATS, draw_blocks, make_array
from edgewright.bench.integer_inputs import IntegerRole, draw_integers
from edgewright.schema.arrays import Array
from edgewright.schema.model import Signature, TensorSpec

SPECIAL = ("large", "tiny", "exact")
PROBES = {
    "negative": "negative indices",
    "beyond-24-bits": "integers beyond 24 bits",
    "beyond-31-bits": "integers beyond 31 bits",
}
EXACT = np.array([0.0, -0.0, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 1.0, -1.0, 2.0, 0.25])
LARGE_EXPONENTS = (3.0, 1.5)  # largest powers of ten, tried in this order
NUDGE = 2.0**-20  # relative change of inputs that tests whether a model amplifies rounding

Draw = Callable[[np.random.Generator, int], Array]


def list_kinds(signature: Signature, roles: Mapping[str, IntegerRole], samples: int) -> tuple[str, ...]:
    """Return the kind of every sample: `plain` for the first, at least a quarter of all."""
    kinds = list(SPECIAL) if any(spec.dtype in FLOATS for spec in signature.inputs) else []
    indices = any(role.sizes for role in roles.values())
    dtypes = [spec.dtype for spec in signature.inputs if spec.name in roles and not roles[spec.name].sizes]
    wide = any(dtype in ("int64", "uint64") for dtype in dtypes)
    kinds += [k for k, used in zip(PROBES, (indices, bool(dtypes), wide), strict=True) if used]
    kinds = kinds[: samples - max(1, samples // 4)]
    return (*["plain"] * (samples - len(kinds)), *kinds)


def draw_sample(
    signature: Signature,
    shapes: Mapping[str, tuple[int, ...]],
    roles: Mapping[str, IntegerRole],
    kind: str,
    seed: int,
    *,
    exponent: float = LARGE_EXPONENTS[0],
) -> dict[str, Array]:
    """Return seeded arrays for all inputs, of one kind.

    Raises InputError for types that cannot be generated.
    """
    random = np.random.default_rng(seed)
    return {
        spec.name: _draw_array(spec, shapes[spec.name], roles.get(spec.name), (kind, exponent), random)
        for spec in signature.inputs
    }


def _draw_array(
    spec: TensorSpec,
    shape: tuple[int, ...],
    role: IntegerRole | None,
    how: tuple[str, float],
    random: np.random.Generator,
) -> Array:
    kind, exponent = how
    if role is not None:
        return draw_integers(shape, np.dtype(spec.dtype), role, kind, random)
    if spec.dtype in FLOATS and kind in SPECIAL:
        draws: dict[str, Draw] = {
            "large": lambda r, n: r.choice((-1.0, 1.0), n) * 10 ** r.uniform(0, exponent, n),
            "tiny": lambda r, n: r.choice((-1.0, 1.0), n) * 10 ** r.uniform(-7, -1, n),
            "exact": lambda r, n: r.choice(EXACT, n),
        }
        return draw_blocks(shape, np.dtype(spec.dtype), random, draws[kind])
    return make_array(spec, shape, random)


def nudge(sample: Mapping[str, Array]) -> dict[str, Array]:
    """Return the sample with every float changed by about a millionth, alternately up and down."""
    return {name: _nudge_array(array) for name, array in sample.items()}


def _nudge_array(array: Array) -> Array:
    if array.dtype.kind != "f":
        return array
    factors = np.where(np.arange(array.size).reshape(array.shape) % 2, 1 + NUDGE, 1 - NUDGE)
    return (array * factors).astype(array.dtype)


def select_samples(kinds: Sequence[str], precision: str) -> Array:
    """Return the positions of the samples that judge an artifact: of a reduced precision, only the plain ones."""
    wanted = ("plain", *SPECIAL) if precision == "fp32" else ("plain",)
    return np.flatnonzero(np.isin(kinds, wanted))


def select_probes(kinds: Sequence[str]) -> Array:
    """Return the positions of the samples that an artifact need not pass."""
    return np.flatnonzero(np.isin(kinds, list(PROBES)))
