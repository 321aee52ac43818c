"""Search for the first layer whose outputs diverge from the source, by bisecting the graph."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from msgspec import Struct

from edgewright.bench.check_inputs import select_samples
from edgewright.bench.numerics import compare_outputs, find_faults
from edgewright.errors import EdgewrightError
from edgewright.flows.compile.conversion import CompileJob, make_artifact_record, run_compiler
from edgewright.flows.compile.reference import run_reference
from edgewright.flows.compile.rounding_reference import run_rounding_reference, take_rounding_reference
from edgewright.flows.compile.sources import prepare_file
from edgewright.flows.evaluate.inference import infer
from edgewright.formats.artifacts import read_artifact
from edgewright.formats.onnx.submodel import CutPoint, SubmodelExtractor
from edgewright.runtimes.table import find_runtime
from edgewright.schema.artifact import Numerics
from edgewright.schema.plan import CompileCell


class DivergingNode(Struct, frozen=True, kw_only=True):
    """The first source node after which an artifact differs by more than its precision allows.

    Attributes:
        sqnr_db: at its output.
        before_db: at the last measured node before it; None if it is the first one.
    """

    node: str
    op: str
    tensor: str
    sqnr_db: float
    before_db: float | None


def find_diverging_node(cell: CompileCell, job: CompileJob) -> DivergingNode | None:
    """Bisect over the graph's tensors in execution order.

    Each step compiles the subgraph up to one tensor, runs it, and compares it with ONNX Runtime's run of the same
    subgraph. The search assumes that errors persist; if they vanish again later, the result is one of the diverging
    layers but maybe not the first. Returns None if the source is not ONNX, if a subgraph cannot be compiled, or if
    every subgraph alone is correct (converters may treat a subgraph differently).
    """
    if "onnx" not in job.prepared.files:
        return None
    job = job.select(select_samples(job.kinds, cell.precision))
    extractor = SubmodelExtractor(Path(job.prepared.files["onnx"]))
    cut_points = extractor.cut_points()
    measured: dict[int, float] = {}

    def differs(position: int) -> bool:
        job.workspace.progress(
            f"{find_runtime(cell.runtime).title} {cell.precision}: bisecting, {cut_points[position].node}"
        )
        numerics = _measure_subgraph(extractor, cut_points[position], position, cell, job)
        measured[position] = numerics.sqnr_db
        return bool(find_faults(numerics, cell.precision))

    try:
        first = _find_first_true(range(len(cut_points)), differs)
    except (EdgewrightError, ValueError, KeyError):
        return None
    if first is None:
        return None
    place, before = cut_points[first], max((i for i in measured if i < first), default=None)
    return DivergingNode(
        node=place.node,
        op=place.op,
        tensor=place.tensor,
        sqnr_db=measured[first],
        before_db=None if before is None else measured[before],
    )


def _find_first_true(positions: Sequence[int], test: Callable[[int], bool]) -> int | None:
    """Return the first position that passes the test, assuming that all later ones do; None if the last does not."""
    if not positions or not test(positions[-1]):
        return None
    low, high = 0, len(positions) - 1
    while low < high:
        middle = (low + high) // 2
        if test(positions[middle]):
            high = middle
        else:
            low = middle + 1
    return positions[high]


def _measure_subgraph(
    extractor: SubmodelExtractor, place: CutPoint, position: int, cell: CompileCell, job: CompileJob
) -> Numerics:
    """Compare the artifact of the subgraph up to a tensor with the source or the rounding reference."""
    folder = job.work / f"part-{cell.runtime}-{cell.precision}-{position}"
    folder.mkdir()
    path = extractor.extract(place.tensor, job.work / f"{folder.name}.onnx")
    own = job.prepared
    prepared = prepare_file(path, {}, job.work)._replace(operators=own.operators, operators_sha256=own.operators_sha256)
    stack = {spec.name: job.stack[spec.name] for spec in prepared.model.signature.inputs}
    part = replace(job, prepared=prepared, stack=stack)
    info = find_runtime(cell.runtime)
    compiled, _ = run_compiler(cell, info, part, folder, "part")
    rounding_reference = take_rounding_reference(compiled, folder, part.work)
    record = make_artifact_record(cell, compiled, folder, "", part)
    reference = (
        run_rounding_reference(rounding_reference, part)
        if rounding_reference
        else run_reference(prepared, stack, job.workspace.device, job.plan.timeout_s)
    )
    outputs, _ = infer(
        read_artifact(folder / record.main, record, ""), record, cell.runtime, stack, job.workspace.device,
        timeout_s=job.plan.timeout_s,
    )  # fmt: skip
    return compare_outputs(reference, outputs, None, job.kinds)
