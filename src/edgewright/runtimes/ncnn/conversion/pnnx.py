"""pnnx, ncnn's converter, as a separate process in a temporary folder.

It always returns 0 and writes eight files beside its source: only these and its log show its result.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from edgewright.runtimes.contract import NotConvertible

LIMIT_S = 1800
NO_BATCH = 233  # ncnn's own number for "no axis"
BATCH = re.compile(r"batch_index=(\d+)")
INPUT = re.compile(r'ex\.input\("(\w+)", ncnn\.Mat\((.*)\)')
COMPLAINTS = re.compile(r"CreateSession failed|Run failed|not support|unknown|exception|Invalid", re.IGNORECASE)
NOISE = "Unknown CPU vendor"


class PnnxFiles(NamedTuple):
    """The files of pnnx; `batches` has the axis of the batch by ncnn's blob, for inputs that have one."""

    param: Path
    weights: Path
    batches: dict[str, int]


def run_pnnx(source: Path, half: bool) -> PnnxFiles:
    """Convert an ONNX file in a folder of its own. Raises NotConvertible with pnnx's messages."""
    command = [str(_find_binary()), source.name, f"fp16={int(half)}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    try:
        done = subprocess.run(  # noqa: S603  # our own list of arguments, no shell
            command,
            cwd=source.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NotConvertible(f"pnnx did not finish within {LIMIT_S} s") from error
    log = done.stdout.decode(errors="replace")
    stem = source.with_suffix("")
    param, weights, script = Path(f"{stem}.ncnn.param"), Path(f"{stem}.ncnn.bin"), Path(f"{stem}_ncnn.py")
    if not (param.is_file() and weights.is_file() and script.is_file()):
        raise NotConvertible(complaint(log, done.returncode))
    return PnnxFiles(param, weights, read_batches(script.read_text(encoding="utf-8")))


def _find_binary() -> Path:
    """Return the program inside the package. Raises ImportError if it is not installed.

    The package's own launcher may not be in the PATH of a worker.
    """
    from importlib.util import find_spec

    spec = find_spec("pnnx")
    if spec is None or spec.origin is None:
        raise ImportError("No module named 'pnnx'")
    return Path(spec.origin).with_name("pnnx.exe" if sys.platform == "win32" else "pnnx")


def complaint(log: str, code: int) -> str:
    lines = [line.strip() for line in log.splitlines() if COMPLAINTS.search(line) and NOISE not in line]
    complaints = "; ".join(dict.fromkeys(line[:300] for line in lines)) or ("its log has no error message")
    ended = f" and was ended by signal {-code}" if code < 0 else ""
    return f"pnnx wrote no ncnn files{ended}: {complaints[:800]}"


def read_batches(script: str) -> dict[str, int]:
    """Return the batch axis that pnnx found for each input, from its test script."""
    found = {name: BATCH.search(call) for name, call in INPUT.findall(script)}
    axes = {name: int(axis.group(1)) for name, axis in found.items() if axis}
    return {name: axis for name, axis in axes.items() if axis != NO_BATCH}
