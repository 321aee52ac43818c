"""Edgewright's commands, run as by a user, for the benchmarks that measure commands instead of functions."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Answer = dict[str, Any]
LAST = 600  # characters of stderr with the reason


class NoAnswerError(Exception):
    """A command printed no JSON object; the text is the end of its output."""


def run_edgewright(arguments: Sequence[str], home: Path | None, timeout_s: float) -> Answer:
    """Run one command with `--json` and the store in `home`; None is the user's own store.

    A command that failed may still answer: see its `state`s. Raises NoAnswerError.
    """
    command = [sys.executable, "-m", "edgewright", *arguments, "--json"]
    environ = {**os.environ, **({"EDGEWRIGHT_HOME": str(home)} if home else {})}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=environ, check=False)
    except subprocess.TimeoutExpired:
        raise NoAnswerError(f"no answer within {timeout_s:.0f} s") from None
    try:
        answer: Answer = json.loads(done.stdout)
    except ValueError:
        raise NoAnswerError(find_error(done.stderr) or f"exit code {done.returncode}") from None
    return answer


def find_error(text: str) -> str:
    """Return the error of three lines without the progress before it; without an error, the end of the text."""
    start = text.rfind("Error: ")
    return (text[start : start + LAST] if start >= 0 else text[-LAST:]).strip()


def measure_files(
    files: Sequence[Path], home: Path, *, processes: int, seconds: float, shapes: Sequence[str] = ()
) -> Answer:
    """Run `edgewright benchmark` on all files without layers; the first is the reference of the ratios."""
    sizes = [word for shape in shapes for word in ("--shape", shape)]
    limits = ["--processes", str(processes), "--seconds", str(seconds), "--no-layers"]
    return run_edgewright(["benchmark", *map(str, files), *limits, *sizes], home, 3600)


def ratios_by_file(answer: Answer, files: Sequence[Path]) -> dict[Path, Answer]:
    """Return each file's row, with its comparison with the first in `comparison`, in order."""
    against = {comparison["b"]: comparison for comparison in answer["comparisons"]}
    rows = zip(files, answer["runs"], strict=False)
    return {file: {**row, "comparison": against.get(row["run_id"])} for file, row in rows}
