"""The sources of the kernels, and the flags of C compilers. `hatch_build.py` reads this file without the package."""

from pathlib import Path

NATIVE = Path(__file__).parent / "native"
PREBUILT = NATIVE / "prebuilt"
SOURCES = ("cpu.c", "exact.c", "exact_avx2.c", "post.c", "operators.c")
FLAGS = (
    "-std=gnu11",
    "-O3",
    "-ffp-contract=off",  # a fused multiply-add rounds once; the reference rounds twice
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-fPIC",
    "-shared",
)
