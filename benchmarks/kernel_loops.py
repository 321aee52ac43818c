"""Instructions in the inner loops of the NEON kernels, counted in the arm64 build: an emulator shows no times.

    python -m benchmarks.kernel_loops [--json]

Each kernel's function is compiled without inlining it into its caller and disassembled. Its inner loop is the piece
from the target of a backward branch to that branch, without another one inside; of several, the one with the most
vector instructions. `elements` is what one pass of it computes, from the source. Needs aarch64-linux-gnu-gcc and
-objdump; with other compilers the numbers differ.
"""

import argparse
import json
import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from edgewright.kernels.sources import FLAGS, NATIVE

TOOLS = "aarch64-linux-gnu-"
SEPARATE = (
    *("-fno-inline-functions-called-once", "-fno-inline-functions", "-fno-inline-small-functions"),
    "-fno-partial-inlining",
)
# Function → source, elements of one pass of the loop, and what they are.
KERNELS = {
    "two_taps_neon": ("exact.c", 4, "pixels of the model input (RGB)"),
    "add_rows_neon": ("exact.c", 8, "values of one source row"),
    "sum_columns_neon": ("exact.c", 1, "taps of a pixel (RGB)"),
    "overlaps_neon": ("post.c", 4, "pairs of boxes"),
    "dot_neon": ("post.c", 16, "products of int8"),
    "dot_dotprod": ("post.c", 16, "products of int8"),
    "dot_i8mm": ("post.c", 16, "products of int8, two rows"),
    "relu6_neon": ("post.c", 4, "values"),
    "hardswish_neon": ("post.c", 4, "values"),
    "gelu_scalar": ("post.c", 4, "values"),
    "dequantize_scalar": ("post.c", 16, "values"),
}
_LINE = re.compile(r"\s*([0-9a-f]+):\t(\S+)(?:\t(.*))?")
_TARGET = re.compile(r"\b([0-9a-f]+) <")
_VECTOR = re.compile(r"\b(?:v\d+\.|q\d+\b)")


class Instruction(NamedTuple):
    """One line of the disassembly."""

    address: int
    name: str
    operands: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    rows = measure()
    if arguments.json:
        print(json.dumps({"schema": "edgewright.kernel-loops/1", "compiler": read_compiler(), "rows": rows}))
        return
    print(read_compiler())
    for row in rows:
        each = f"{row['instructions'] / row['elements']:.2f} for each of {row['elements']} {row['what']}"
        print(f"{row['name']}: {row['instructions']} instructions, {row['vector']} of them vector; {each}")


def read_compiler() -> str:
    done = subprocess.run([f"{TOOLS}gcc", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


def measure() -> list[dict[str, Any]]:
    """Return the counts of each kernel's inner loop."""
    with TemporaryDirectory() as folder:
        objects = {source: compile_source(source, Path(folder)) for source, _, _ in KERNELS.values()}
        return [count(name, objects[source], elements, what) for name, (source, elements, what) in KERNELS.items()]


def compile_source(source: str, folder: Path) -> Path:
    target = folder / f"{source}.o"
    flags = [flag for flag in FLAGS if flag != "-shared"]
    subprocess.run([f"{TOOLS}gcc", *flags, *SEPARATE, "-c", NATIVE / source, "-o", target], check=True)
    return target


def count(name: str, path: Path, elements: int, what: str) -> dict[str, Any]:
    command = [f"{TOOLS}objdump", "-d", "--no-show-raw-insn", f"--disassemble={name}", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    loop = find_inner_loop(read_instructions(text))
    vector = sum(bool(_VECTOR.search(one.operands)) for one in loop)
    return {"name": name, "instructions": len(loop), "vector": vector, "elements": elements, "what": what}


def read_instructions(text: str) -> list[Instruction]:
    found = (_LINE.fullmatch(line) for line in text.splitlines())
    return [Instruction(int(one[1], 16), one[2], one[3] or "") for one in found if one]


def find_inner_loop(code: list[Instruction]) -> list[Instruction]:
    """Return the instructions of the innermost loop with the most vector instructions; ValueError without a loop."""
    ends = []
    for one in code:
        target = _TARGET.search(one.operands)
        if one.name.startswith(("b.", "cb", "tb")) and target and int(target[1], 16) <= one.address:
            ends.append((int(target[1], 16), one.address))
    inner = [
        pair
        for pair in ends
        if not any(pair != other and pair[0] <= other[0] and other[1] <= pair[1] for other in ends)
    ]
    loops = [[one for one in code if first <= one.address <= last] for first, last in inner]
    counts = [sum(bool(_VECTOR.search(one.operands)) for one in loop) for loop in loops]
    # The branches of one loop make several pieces: the shortest of those with most of its work is one path.
    return min((loop for loop, number in zip(loops, counts, strict=True) if 4 * number >= 3 * max(counts)), key=len)


if __name__ == "__main__":
    main()
