"""Rounding reference of an artifact whose format rounds differently from its source.

A format without zero points cannot represent all quantization parameters of a QDQ graph. Its converter then writes a
rounding reference next to the artifact: the source graph in ONNX with the artifact's quantization parameters. The
artifact is checked against this reference with the usual threshold; the reference's distance from the source has its
own threshold.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgewright.bench.numerics import SYMMETRIC_THRESHOLD, compare_outputs, find_faults
from edgewright.flows.compile.conversion import CompileJob
from edgewright.flows.compile.sources import WITHOUT_OPTIMIZATION, prepare_file
from edgewright.flows.evaluate.inference import infer
from edgewright.runtimes.wire import Compiled
from edgewright.schema.artifact import Numerics
from edgewright.schema.vocabulary import Precision

Outputs = Mapping[str, NDArray[Any]]


def take_rounding_reference(compiled: Compiled, folder: Path, work: Path) -> Path | None:
    """Move the rounding reference from the artifact's folder into `work`; None if the converter wrote none."""
    if not compiled.rounding_reference:
        return None
    return (folder / compiled.rounding_reference).replace(work / f"{folder.name}-rounding.onnx")


def run_rounding_reference(rounding_reference: Path, job: CompileJob) -> Outputs:
    """Return the reference's outputs in ONNX Runtime, without optimizations, on the check's inputs."""
    model = prepare_file(rounding_reference, {}, job.work).model
    outputs, _ = infer(
        model,
        None,
        "onnxruntime",
        job.stack,
        job.workspace.device,
        options=WITHOUT_OPTIMIZATION,
        timeout_s=job.plan.timeout_s,
    )
    return outputs


def find_numeric_faults(
    numerics: Numerics, outputs: Outputs, rounding_reference: Path | None, precision: Precision, job: CompileJob
) -> tuple[Sequence[str], tuple[str, ...]]:
    """Return the faults that reject an artifact, and notes about the check.

    Args:
        numerics: of the outputs against the source.
    """
    if rounding_reference is None:
        return find_faults(numerics, precision), ()
    comparison = compare_outputs(run_rounding_reference(rounding_reference, job), outputs, None, job.kinds, job.parts)
    description = f"SQNR {comparison.sqnr_db:.1f} dB against the source graph rounded as this runtime rounds"
    faults = [f"{fault}, {description}" for fault in find_faults(comparison, precision)]
    return [*faults, *find_faults(numerics, precision, SYMMETRIC_THRESHOLD)], (f"numerical check: {description}",)
