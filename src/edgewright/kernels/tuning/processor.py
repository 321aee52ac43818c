"""This processor as a device of the tuner: builds C variants, computes with them, and measures CPU time."""

import ctypes
import hashlib
import platform
import time
from pathlib import Path
from statistics import median

import numpy as np

from edgewright.errors import RuntimeMissing
from edgewright.kernels.build import build_library, find_compiler
from edgewright.kernels.sources import FLAGS, NATIVE
from edgewright.kernels.tuning.conv2d import READ_BEHIND, ConvInputs, ConvVariant
from edgewright.kernels.tuning.device import DeviceFailure
from edgewright.schema.arrays import Array

SOURCE = NATIVE / "conv2d.c"
# Sums may be fused: variants are compared within a tolerance. For this processor only, so its name is in the flags.
TUNED = ("-march=native", "-ffp-contract=fast", "-funroll-loops")


class Processor:
    """The CPU with a C compiler, see `OpenClDevice`. Raises RuntimeMissing without a compiler."""

    source, is_cpu, is_stand_in = SOURCE, True, False

    def __init__(self) -> None:
        compiler = find_compiler()
        if compiler is None:
            why = "no C compiler was found (cc, gcc, clang, zig)"
            raise RuntimeMissing("kernels cannot be tuned", why, "install one, or pip install ziglang")
        self._compiler = compiler
        self.title = f"{_read_model()} ({compiler.name})"

    @staticmethod
    def supports(variant: ConvVariant) -> bool:
        """Return whether a variant differs from others in C: there are no work groups and images."""
        return variant.bx == variant.by == 1 and not variant.image

    def load(self, variant: ConvVariant, inputs: ConvInputs) -> "LoadedFunction":
        """Build a variant, or take it from the cache. Raises DeviceFailure."""
        name = hashlib.sha256(self.title.encode()).hexdigest()[:12]
        flags = (*FLAGS, *TUNED, *variant.list_options(), f"-DTUNED_FOR=0x{name}")
        path, why = build_library(self._compiler, [SOURCE], flags)
        if path is None:
            raise DeviceFailure(why)
        return LoadedFunction(path, inputs)

    @staticmethod
    def time_us(kernel: "LoadedFunction", rounds: int) -> float:
        """Return the median CPU time of a run in microseconds."""
        times = []
        for _ in range(rounds):
            began = time.process_time_ns()
            kernel.run()
            times.append((time.process_time_ns() - began) / 1e3)
        return median(times)


class LoadedFunction:
    """A built variant with its buffers."""

    def __init__(self, path: Path, inputs: ConvInputs) -> None:
        self._source = np.concatenate([inputs.padded.ravel(), np.zeros(READ_BEHIND, np.float32)])
        self._output = np.empty(inputs.want.shape, np.float32)
        self._function = ctypes.CDLL(str(path)).conv2d
        self._buffers = (self._source, np.ascontiguousarray(inputs.weights), self._output)
        self._given = [ctypes.c_void_p(array.ctypes.data) for array in self._buffers]

    def run(self) -> None:
        self._function(*self._given)

    def compute(self) -> Array:
        """Return the output [filters, height, width] of one run."""
        self._output.fill(np.nan)
        self.run()
        return self._output


def _read_model() -> str:
    """Return the name of the processor, or of its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "CPU part"))]
    return " ".join(dict.fromkeys(names)) or platform.processor() or platform.machine()
