"""Numerical check of an artifact: its outputs against those of the source."""

from collections.abc import Mapping
from pathlib import Path
from platform import system
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgewright.bench.check_inputs import PROBES, select_probes, select_samples
from edgewright.bench.numerics import compare_outputs, find_faults
from edgewright.errors import EdgewrightError, GateFailed, InputError
from edgewright.flows.compile.conversion import CompileJob
from edgewright.flows.compile.rounding_reference import find_numeric_faults
from edgewright.flows.evaluate.inference import infer
from edgewright.formats.artifacts import read_artifact
from edgewright.runtimes.table import RuntimeInfo
from edgewright.schema.artifact import Artifact, Numerics
from edgewright.schema.model import Model

# Memory that nobody wrote then contains 0x5A bytes, 1.5e16 as float32, instead of zeros by chance (glibc).
FILLED_MEMORY = {"MALLOC_PERTURB_": "165"}


class CompileFailure(Exception):
    """The error of a cell, with the numerical comparison if there is one."""

    def __init__(self, error: EdgewrightError, numerics: Numerics | None = None) -> None:
        super().__init__(str(error))
        self.error, self.numerics = error, numerics


def check_reference(reference: Mapping[str, NDArray[Any]]) -> None:
    """Raise InputError if an output of the source has no finite value to compare."""
    for name, array in reference.items():
        if array.size and array.dtype.kind == "f" and not np.isfinite(array).any():
            raise InputError(
                f"output '{name}' of the source model contains only NaN and infinite values",
                "the generated inputs give no finite value to compare",
                "provide real inputs with --inputs FILE.npz",
            )


def check_numerics(
    record: Artifact, folder: Path, rounding_reference: Path | None, info: RuntimeInfo, job: CompileJob
) -> Artifact:
    """Return the record with its comparison against the source; CompileFailure if they differ too much."""
    if job.workspace.judge is None and info.systems and system() not in info.systems:
        where = " and ".join("macOS" if name == "Darwin" else name for name in info.systems)
        reason = f"its outputs were not checked: {info.title} runs only on {where}"
        return msgspec.structs.replace(record, unchecked=reason)
    if not job.reference:
        return msgspec.structs.replace(record, unchecked="; ".join(job.notes))
    job.workspace.progress(f"{info.title} {record.precision}: comparing outputs")
    model = read_artifact(folder / record.main, record, record.key)
    judged = job.select(select_samples(job.kinds, record.precision))
    try:
        outputs, notes = infer(
            model,
            record,
            record.runtime,
            judged.stack,
            job.workspace.at_judge().device,
            timeout_s=job.plan.timeout_s,
            variables=FILLED_MEMORY,
        )
        seed = None if job.plan.inputs else job.plan.seed
        numerics = compare_outputs(judged.reference, outputs, seed, judged.kinds, judged.parts)
    except (ValueError, KeyError) as error:
        what = f"{info.title} {record.precision} has different outputs than the source model"
        raise CompileFailure(GateFailed(what, str(error), "remove the runtime, or report the problem")) from None
    faults, reference_notes = find_numeric_faults(numerics, outputs, rounding_reference, record.precision, judged)
    if faults:
        raise CompileFailure(
            GateFailed(
                f"{info.title} {record.precision} outputs differ from the source model",
                "; ".join(faults),
                "--bisect finds the first layer that differs; --no-check keeps the artifact unchecked",
            ),
            numerics,
        )
    narrow = _describe_narrow(model, record, job)
    compared = (f"outputs were compared on {job.plan.device}",) if job.workspace.judge else ()
    every = (*record.notes, *job.notes, *reference_notes, *notes, *narrow, *compared)
    return msgspec.structs.replace(record, numerics=numerics, notes=tuple(dict.fromkeys(every)))


def _describe_narrow(model: Model, record: Artifact, job: CompileJob) -> tuple[str, ...]:
    """Return a note on the probes on which the artifact differs from its source."""
    differing = []
    for position in select_probes(job.kinds):
        probe = job.select(np.array([position]))
        try:
            outputs, _ = infer(
                model,
                record,
                record.runtime,
                probe.stack,
                job.workspace.at_judge().device,
                timeout_s=job.plan.timeout_s,
            )
            differs = bool(find_faults(compare_outputs(probe.reference, outputs, None), record.precision)) or any(
                array.dtype.kind in "iu" and not np.array_equal(array, outputs[name])
                for name, array in probe.reference.items()
            )
        except (EdgewrightError, ValueError, KeyError):
            differs = True
        if differs:
            differing.append(PROBES[job.kinds[position]])
    return (f"other values than in the source for {' and '.join(differing)}",) if differing else ()
