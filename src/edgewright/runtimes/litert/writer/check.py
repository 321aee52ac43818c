"""Check in a separate process that a new file runs in LiteRT and computes the same as its source."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from edgewright.errors import ModelRejected
from edgewright.limits import read_budget
from edgewright.runtimes.litert.writer.trial import (
    MAX_DIFFERING_SHARE,
    OutputDifference,
    TrialPort,
    TrialReport,
    TrialRequest,
)
from edgewright.system.memory_limit import CONVERTER_COPIES, SPARE_BYTES
from edgewright.system.temporary import TemporaryFolder

Check = Literal["numbers", "load", "none"]
Kind = Literal["float", "half", "quantized"]
# Another order of summation costs a few bits of 24; a weight of 16 bits has 11. In int8, kernels round
# differently by one step each: the threshold there only detects a broken conversion.
LEAST_DB: Mapping[Kind, float] = {"float": 60.0, "half": 30.0, "quantized": 15.0}
MOST_STEPS = 2.0
SECONDS = 300.0
MOST_BYTES = 2**60  # represents no limit
TRIAL_MODULE = "edgewright.runtimes.litert.writer.trial"


@dataclass(frozen=True)
class CheckedFile:
    """A file to be checked.

    `steps` are the scales of quantized outputs by name; `sources[i]` the ONNX nodes of the file's operator `i`.
    """

    data: bytes
    source: Path | bytes
    kind: Kind
    inputs: tuple[TrialPort, ...]
    outputs: tuple[TrialPort, ...]
    steps: Mapping[str, float]
    sources: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Proof:
    """Result of the check: the SQNR of the worst output; None without a comparison.

    `note` says why the outputs could not be compared.
    """

    sqnr_db: float | None
    note: str = ""


def check_file(checked: CheckedFile, how: Check, seconds: float = SECONDS) -> Proof:
    """Run the file in a child process. Raises ModelRejected if LiteRT fails or the outputs differ."""
    with TemporaryFolder() as folder:
        request = _prepare(checked, how, folder)
        report = _try_out(request, folder, seconds)
    if report.refused:
        why = _explain(report.refused, checked.sources)
        raise ModelRejected("LiteRT does not run the file that was written", why)
    if mismatches := _find_mismatches(report, checked):
        raise ModelRejected("the file that was written computes other values than its source", "; ".join(mismatches))
    floats = [one.sqnr_db for one in report.differences[0]] if report.differences else []
    return Proof(min(floats, default=None), report.unknown)


def _prepare(checked: CheckedFile, how: Check, folder: Path) -> TrialRequest:
    file = folder / "model.tflite"
    file.write_bytes(checked.data)
    if isinstance(checked.source, bytes):
        source = folder / "model.onnx"
        source.write_bytes(checked.source)
    else:
        source = checked.source
    size = len(checked.data) + source.stat().st_size
    return TrialRequest(
        file=str(file),
        source=str(source.absolute()) if how == "numbers" else "",
        inputs=checked.inputs,
        outputs=checked.outputs,
        optimized=checked.kind != "quantized",  # ONNX Runtime's own int8 kernels would add rounding errors
        most_bytes=int(min(read_budget().memory_bytes + SPARE_BYTES + CONVERTER_COPIES * size, MOST_BYTES)),
    )


def _try_out(request: TrialRequest, folder: Path, seconds: float) -> TrialReport:
    """Return the child's result; if the source itself crashes the child, try the file alone."""
    code, lines, errors = _run_child(request, folder, seconds)
    if code == 0 and len(lines) == 3:
        return msgspec.json.decode(lines[2], type=TrialReport)
    how = _describe_exit(code, seconds)
    if lines[-1:] == ["source"] and request.source:
        alone = _try_out(msgspec.structs.replace(request, source=""), folder, seconds)
        return msgspec.structs.replace(alone, unknown=f"ONNX Runtime {how} on the source")
    return TrialReport(refused=f"its process {how}: {_get_last_words(errors)}")


def _run_child(request: TrialRequest, folder: Path, seconds: float) -> tuple[int | None, list[str], str]:
    """Return exit code (None: out of time), answer lines and stderr of the child.

    The child has this process's import path without the current folder.
    """
    path = folder / "request.json"
    path.write_bytes(msgspec.json.encode(request))
    command = [sys.executable, "-P", "-m", TRIAL_MODULE, str(path)]
    places = os.pathsep.join(path for path in sys.path if path and Path(path).is_absolute())
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": places}
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            command, capture_output=True, timeout=seconds, cwd=folder, env=quiet, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired as error:
        return None, _decode(error.stdout).splitlines(), _decode(error.stderr)
    return done.returncode, _decode(done.stdout).splitlines(), _decode(done.stderr)


def _decode(text: bytes | None) -> str:
    return (text or b"").decode(errors="replace")


def _describe_exit(code: int | None, seconds: float) -> str:
    if code is None:
        return f"did not end within {seconds:.0f} s"
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _get_last_words(errors: str) -> str:
    return " ".join(errors.split())[-300:] or "it printed nothing"


def _explain(text: str, sources: Sequence[tuple[str, ...]]) -> str:
    """Return LiteRT's message, with the source of the operator whose number it contains."""
    match = re.search(r"[Nn]ode number (\d+)", text)
    if match and int(match[1]) < len(sources):
        return f"{text} (from {', '.join(sources[int(match[1])][:3])})"
    return text


# Numbers


def _find_mismatches(report: TrialReport, checked: CheckedFile) -> list[str]:
    """Return the outputs that differ from the source's. For integers the best seed counts: near ties may be decided
    differently."""
    mismatches = []
    for at, entry in enumerate(checked.outputs if report.differences else ()):
        seeds = [found[at] for found in report.differences]
        if not any(_is_close(one, checked) for one in (seeds[:1] if seeds[0].is_float else seeds)):
            mismatches.append(_describe_mismatch(seeds[0], LEAST_DB[checked.kind], entry.name))
    return mismatches


def _is_close(one: OutputDifference, checked: CheckedFile) -> bool:
    step = checked.steps.get(one.name)
    if one.not_finite:
        return False
    if step is not None and one.max_abs <= MOST_STEPS * (step if one.is_float else 1.0):
        return True
    if one.is_float or step is not None:
        return one.sqnr_db >= LEAST_DB[checked.kind]
    return one.differing <= MAX_DIFFERING_SHARE


def _describe_mismatch(one: OutputDifference, least: float, name: str) -> str:
    if one.not_finite:
        return f"output '{name}': {one.not_finite} values are NaN or infinite in one of the two"
    if one.is_float:
        return f"output '{name}': SQNR {one.sqnr_db:.1f} dB is below {least:g} dB"
    return f"output '{name}': {one.differing:.0%} of its elements differ"
