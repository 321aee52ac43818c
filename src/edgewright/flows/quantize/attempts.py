"""Precisions that `--precision auto` tries in turn, and the result over all of them."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec

from edgewright.errors import EdgewrightError, GateFailed
from edgewright.flows.quantize.acceptance import QuantizeSetup
from edgewright.flows.quantize.job import QuantizerOutput
from edgewright.flows.quantize.report import QuantizedRow, QuantizeReport, TriedPrecision
from edgewright.quantization.job import LeaveOut

REJECTED = ("refused", "slower")
NextPrecision = Literal["mixed", "w8", "fp16"]
NEXT: dict[str, tuple[NextPrecision, ...]] = {
    "static": ("mixed", "w8", "fp16"),
    "products": ("w8", "fp16"),
}


class Attempt(NamedTuple):
    """The result of one precision in some of the plan's runtimes."""

    setup: QuantizeSetup
    quantized: QuantizerOutput | None
    report: QuantizeReport
    error: EdgewrightError | None


def list_next_setups(
    setup: QuantizeSetup, precision: NextPrecision, runtimes: Sequence[str]
) -> Iterator[QuantizeSetup]:
    """Yield the setups of the next precision for the runtimes that are left.

    What is faster in integers is measured in ONNX Runtime only, so that it has a graph of its own.
    """
    groups: dict[LeaveOut, tuple[str, ...]] = {"": tuple(runtimes)}
    if precision == "mixed":
        groups = {
            "not-faster": tuple(name for name in runtimes if name == "onnxruntime"),
            "no-kernel": tuple(name for name in runtimes if name != "onnxruntime"),
        }
    for leave_out, names in groups.items():
        if names:
            yield setup._replace(
                plan=msgspec.structs.replace(setup.plan, runtimes=names),
                recipe=msgspec.structs.replace(setup.recipe, precision="w8" if precision == "w8" else "w8a8"),
                precision=precision,
                form="float" if precision == "fp16" else setup.form,
                why="what was tried before did not pass",
                leave_out=leave_out,
            )


def make_unsupported(setup: QuantizeSetup, first: Attempt, error: EdgewrightError) -> Attempt:
    """Return the attempt that ended with this error, in place of a result."""
    rows = tuple(
        QuantizedRow(
            runtime=name, precision=setup.precision, path=None, bytes=None, bytes_ratio=None, metric=None,
            agreement=None, sqnr_db=None, speedup=None, int8_share=None, kept=(), state="unsupported",
            reason=error.why or error.what,
        )
        for name in setup.plan.runtimes
    )  # fmt: skip
    report = msgspec.structs.replace(
        first.report, precision=setup.precision, artifacts=rows, graph=None, recipe=None, quantization=None
    )
    return Attempt(setup, None, report, error)


def merge_attempts(
    runtimes: Sequence[str], attempts: Sequence[Attempt]
) -> tuple[Attempt, QuantizeReport, EdgewrightError | None]:
    """Return the attempt that stands for the run, the report over all, and the first error.

    The artifact of a runtime is the one that passed, else the last. The graph and the findings are those of the first
    attempt of which an artifact passed, else of the first.
    """
    chosen = next(
        (one for one in attempts if one.report.graph or any(row.path for row in one.report.artifacts)), attempts[0]
    )
    tried = tuple(
        TriedPrecision(
            runtime=row.runtime, precision=row.precision, state=row.state, speedup=row.speedup, metric=row.metric,
            reason=row.reason,
        )
        for one in attempts
        for row in one.report.artifacts
    )  # fmt: skip
    rows, errors = list[QuantizedRow](), list[EdgewrightError]()
    for runtime in runtimes:
        of_runtime = [row for one in attempts for row in one.report.artifacts if row.runtime == runtime]
        row = next((row for row in of_runtime if row.path), of_runtime[-1])
        if row.path is None and len(of_runtime) > 1 and any(one.state in REJECTED for one in of_runtime):
            error = _make_none_error(runtime, of_runtime)
            row = msgspec.structs.replace(row, reason=f"{error.what}: {error.why}")
            errors.append(error)
        elif row.path is None:
            errors += [one.error for one in attempts if one.error is not None][:1]
        rows.append(row)
    return chosen, msgspec.structs.replace(chosen.report, artifacts=tuple(rows), tried=tried), next(iter(errors), None)


def _make_none_error(runtime: str, rows: Sequence[QuantizedRow]) -> GateFailed:
    why = "; ".join(f"{row.precision} {row.state}: {row.reason}" for row in rows)
    return GateFailed(
        f"no precision passes in {runtime}",
        why,
        "use the float artifact (edgewright compile), --max-drop for another gate, or --force to keep what is slower",
    )
