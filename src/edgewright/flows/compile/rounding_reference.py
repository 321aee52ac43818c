"""What an artifact is judged against: its source, or a twin of it where the runtime's format rounds otherwise.

A format without zero points cannot carry the grids of a QDQ graph. Its compiler then leaves a twin beside the artifact:
the source's graph in ONNX with the grids that the artifact has. Whether the compiler did its work is judged against the
twin, at the same threshold as ever; how far the twin's grids may lead from the source has a threshold of its own.
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


def take_rounding_reference(compiled: Compiled, folder: Path, job: CompileJob) -> Path | None:
    """The twin, moved out of the artifact's folder; None where the compiler left none."""
    if not compiled.twin:
        return None
    return (folder / compiled.twin).replace(job.work / f"{folder.name}-twin.onnx")


def run_rounding_reference(rounding_reference: Path, job: CompileJob) -> Outputs:
    """The twin's outputs in ONNX Runtime, as it stands, on the inputs that artifacts are compared on."""
    model = prepare_file(rounding_reference, {}, job.work).model
    outputs, _ = infer(
        model, None, "onnxruntime", job.stack, job.device, options=WITHOUT_OPTIMIZATION, timeout_s=job.plan.timeout_s
    )
    return outputs


def find_numeric_faults(
    numerics: Numerics, outputs: Outputs, rounding_reference: Path | None, precision: Precision, job: CompileJob
) -> tuple[Sequence[str], tuple[str, ...]]:
    """What keeps an artifact from passing, and what is to be said of how it was judged.

    Args:
        numerics: of the outputs against the source.
    """
    if rounding_reference is None:
        return find_faults(numerics, precision), ()
    comparison = compare_outputs(run_rounding_reference(rounding_reference, job), outputs, None)
    description = f"against the source's graph rounded as this runtime rounds: SQNR {comparison.sqnr_db:.1f} dB"
    faults = [f"{fault}, {description}" for fault in find_faults(comparison, precision)]
    return [*faults, *find_faults(numerics, precision, SYMMETRIC_THRESHOLD)], (
        f"its numbers were judged {description}",
    )
