"""Kernels against their peers: OpenCV, Pillow, numpy, and an OpenCL convolution against its own default.

    python -m benchmarks.kernels [--json] [--rounds N] [--set-up]

Both sides run in one process, alternating, with buffers that were allocated before (what a peer allocates itself comes
from memory that malloc keeps); CPU time of the process, one thread. `ratio` is the peer's time divided by ours: the
median of the pairs with its 99 % interval. Peers are packages of an environment of their own, which `--set-up` makes; a
row without its peer has no ratio and the reason.
"""

import argparse
import json
import os
import subprocess
import sys
import venv
from math import exp, log
from pathlib import Path
from typing import Any

from benchmarks.measuring import describe_machine
from edgewright.bench.statistics import paired_interval

ENVIRONMENT = Path("~/.cache/edgewright-tests/kernel-peers").expanduser()
PACKAGES = ("numpy", "pillow", "msgspec", "platformdirs", "opencv-python-headless", "pyopencl", "ai-edge-litert")
ROOT = Path(__file__).parents[1]
KEPT_BYTES = 1 << 25  # the largest that glibc accepts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=41, help="pairs of measurements per row")
    parser.add_argument("--set-up", action="store_true", help="install the peers first (about 300 MB)")
    arguments = parser.parse_args()
    if arguments.set_up:
        set_up()
    rows = [make_row(one) for one in measure(arguments.rounds)]
    if arguments.json:
        print(json.dumps({"schema": "edgewright.kernel-benchmark/1", "machine": describe_machine(), "rows": rows}))
        return
    print(describe_machine())
    for row in rows:
        print(describe_row(row))


def set_up() -> None:
    """Install the peers into an environment of their own."""
    venv.create(ENVIRONMENT, with_pip=True)
    subprocess.run([ENVIRONMENT / "bin" / "python", "-m", "pip", "install", "--quiet", *PACKAGES], check=True)


def measure(rounds: int) -> list[dict[str, Any]]:
    """Return the times of both sides by row, measured in a process of the environment with the peers."""
    own = ENVIRONMENT / "bin" / "python"
    python = str(own) if own.exists() else sys.executable
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POCL_MAX_PTHREAD_COUNT"):
        environ[name] = "1"
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_"):
        environ[name] = str(KEPT_BYTES)  # else the pages of each large array are cleared anew
    command = [python, "-m", "benchmarks.kernels_once", str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environ)
    if done.returncode:
        raise SystemExit(done.stderr)
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def make_row(measured: dict[str, Any]) -> dict[str, Any]:
    """Return the row with medians, the ratio and its interval."""
    ours, peer = measured.pop("ours", []), measured.pop("peers", [])
    exact, rivals = measured.pop("exact", []), measured.pop("rivals", {})
    if not ours:
        return {**measured, "ours_us": None, "peer_us": None, "ratio": None, "low": None, "high": None}
    found = paired_interval([log(b / a) for a, b in zip(ours, peer, strict=True)])
    bounds = {"low": found.low, "high": found.high}
    row = {
        **measured,
        "ours_us": median(ours),
        "peer_us": median(peer),
        "ratio": exp(found.value),
        **{name: None if value is None else exp(value) for name, value in bounds.items()},
        "pairs": len(ours),
    }
    if exact:
        row |= {"exact_us": median(exact), "exact_ratio": median([b / a for a, b in zip(exact, peer, strict=True)])}
    if "xnnpack" in rivals:  # on the same CPU; above 1 ours is faster
        row["xnnpack_us"] = median(rivals["xnnpack"])
        for name in ("opencl", "c"):
            pairs = zip(rivals.get(name, []), rivals["xnnpack"], strict=False)
            row[f"xnnpack_ratio_{name}"] = median([other / own for own, other in pairs]) if name in rivals else None
        row["c_us"] = median(rivals["c"]) if "c" in rivals else None
    return row


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def describe_row(row: dict[str, Any]) -> str:
    if row["ratio"] is None:
        return f"{row['name']}: no ratio: {row['reason']}"
    exact = f"; exact {row['exact_us']:.0f} µs, ratio {row['exact_ratio']:.2f}" if "exact_us" in row else ""
    if row.get("xnnpack_us"):
        exact += f"; XNNPACK {row['xnnpack_us']:.0f} µs, ratio {row['xnnpack_ratio_opencl']:.2f}"
        exact += f", of C variants ({row['c_us']:.0f} µs) {row['xnnpack_ratio_c']:.2f}" if row["c_us"] else ""
    interval = f"{row['ratio']:.2f} ({row['low']:.2f}–{row['high']:.2f})"
    return f"{row['name']}: {row['ours_us']:.0f} µs, {row['peer']} {row['peer_us']:.0f} µs, ratio {interval}{exact}"


if __name__ == "__main__":
    main()
