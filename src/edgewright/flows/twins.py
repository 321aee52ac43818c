"""What an artifact is judged against: its source, or a twin of it where the runtime's format rounds otherwise.

A format without zero points cannot carry the grids of a QDQ graph. Its compiler then leaves a twin beside the artifact:
the source's graph in ONNX with the grids that the artifact has. Whether the compiler did its work is judged against the
twin, at the same threshold as ever; how far the twin's grids may lead from the source has a threshold of its own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgewright.bench.numerics import COARSER, compare_outputs, find_faults
from edgewright.facts.artifact import Numerics
from edgewright.facts.words import Precision
from edgewright.flows.conversion import Job
from edgewright.flows.inference import infer
from edgewright.flows.sources import AS_IT_STANDS, prepare_file
from edgewright.runtimes.wire import Compiled

Outputs = Mapping[str, NDArray[Any]]


def take_twin(compiled: Compiled, folder: Path, job: Job) -> Path | None:
    """The twin, moved out of the artifact's folder; None where the compiler left none."""
    if not compiled.twin:
        return None
    return (folder / compiled.twin).replace(job.work / f"{folder.name}-twin.onnx")


def run_twin(twin: Path, job: Job) -> Outputs:
    """The twin's outputs in ONNX Runtime, as it stands, on the inputs that artifacts are compared on."""
    model = prepare_file(twin, {}, job.work).model
    outputs, _ = infer(
        model, None, "onnxruntime", job.stack, job.device, options=AS_IT_STANDS, timeout_s=job.plan.timeout_s
    )
    return outputs


def judge(
    numerics: Numerics, outputs: Outputs, twin: Path | None, precision: Precision, job: Job
) -> tuple[Sequence[str], tuple[str, ...]]:
    """What keeps an artifact from passing, and what is to be said of how it was judged.

    Args:
        numerics: of the outputs against the source.
    """
    if twin is None:
        return find_faults(numerics, precision), ()
    twins = compare_outputs(run_twin(twin, job), outputs, None)
    told = f"against the source's graph rounded as this runtime rounds: SQNR {twins.sqnr_db:.1f} dB"
    faults = [f"{fault}, {told}" for fault in find_faults(twins, precision)]
    return [*faults, *find_faults(numerics, precision, COARSER)], (f"its numbers were judged {told}",)
