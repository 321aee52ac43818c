"""The check of all kernels: kernel × instruction set × shape."""

from collections.abc import Callable, Mapping
from zlib import crc32

import numpy as np
from msgspec import Struct

from edgewright.kernels.catalog import KERNELS
from edgewright.kernels.checks import operations
from edgewright.kernels.checks.preprocessing import check_preprocess, check_preprocess_fast
from edgewright.kernels.library import list_usable

Check = Callable[[np.random.Generator, str], str]
CHECKS: Mapping[str, Check] = {
    "preprocess": check_preprocess,
    "preprocess-fast": check_preprocess_fast,
    "softmax": operations.check_softmax,
    "topk": operations.check_topk,
    "argmax": operations.check_argmax,
    "nms": operations.check_nms,
    "dequantize": operations.check_dequantize,
    "quantize": operations.check_quantize,
    "relu6": operations.check_relu6,
    "hardswish": operations.check_hardswish,
    "gelu": operations.check_gelu,
    "unpack-int4": operations.check_unpack_int4,
    "matvec-int8": operations.check_matvec_int8,
    "plan-pool": operations.check_plan_pool,
}


class KernelFailure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A case in which a kernel differs from numpy; `shape` counts the random shapes of the kernel from 0."""

    kernel: str
    isa: str
    shape: int
    why: str


class KernelCheck(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Result of `edgewright kernels check`.

    Attributes:
        checked: number of cases: kernel × instruction set × shape.
        failed: number of cases that differ from numpy.
        failures: the first of each variant.
    """

    schema: str = "edgewright.kernels-check/1"
    seed: int
    checked: int
    failed: int
    failures: tuple[KernelFailure, ...] = ()


MAX_FAILURES = 3  # shown of each variant


def check_kernels(seed: int = 0, shapes: int = 200) -> KernelCheck:
    """Compare every variant that runs here with numpy on random shapes; the same seed gives the same cases."""
    checked = failed = 0
    failures: list[KernelFailure] = []
    for kernel in KERNELS:
        for isa in (one for one in list_usable() if one in kernel.isas):
            shown = 0
            for shape in range(shapes):
                rng = np.random.default_rng((seed, crc32(kernel.name.encode()), shape))
                why = CHECKS[kernel.name](rng, isa)
                checked += 1
                failed += bool(why)
                shown += bool(why)
                if why and shown <= MAX_FAILURES:
                    failures.append(KernelFailure(kernel=kernel.name, isa=isa, shape=shape, why=why))
    return KernelCheck(seed=seed, checked=checked, failed=failed, failures=tuple(failures))
