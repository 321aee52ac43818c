"""`edgewright compile`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.code import find_task_folder
from edgewright.cli.parse import PATH, SHAPE_CHOICE, WORDS, join_words, make_plan
from edgewright.cli.rendering.output import print_json, print_message, print_table

if TYPE_CHECKING:
    from edgewright.flows.compile.flow import CellReport, CompileReport
    from edgewright.schema.plan import CompilePlan

MAX_LINES = 6
HEADERS = (
    "runtime",
    "precision",
    "state",
    "size",
    "seconds",
    "cosine",
    "SQNR",
    "max abs",
    "argmax agreement",
    "artifact",
)


@click.command("compile")
@click.argument("model", metavar="MODEL")
@click.option(
    "--runtime", type=WORDS, multiple=True, help="Runtimes, comma-separated, or all; default: all that are installed."
)
@click.option(
    "--precision", type=WORDS, multiple=True, help="Precisions, comma-separated: fp32, fp16; default: the model's own."
)
@click.option("-o", "--output", type=PATH, default="artifacts", help="Output folder of the artifacts.")
@click.option(
    "--shape",
    "shapes",
    type=SHAPE_CHOICE,
    multiple=True,
    metavar="NAME=SIZES",
    help="Shape of a dynamic input, such as x=1,3,224,224; x=1,3,48,160|320 compiles one artifact for each size.",
)
@click.option("--weights", type=PATH, help="Weights of a torch model from FILE.py:FACTORY.")
@click.option(
    "-p", "--option", "options", multiple=True, metavar="KEY=VALUE", help="Compiler option, such as litert.io=source."
)
@click.option(
    "--check/--no-check",
    default=True,
    help="Run the artifacts and compare their outputs with those of the source model.",
)
@click.option("--samples", default=8, help="Number of random inputs for the comparison.")
@click.option("--inputs", type=PATH, metavar="FILE.npz", help="Inputs for the comparison, one array per model input.")
@click.option(
    "--task",
    "task_file",
    type=PATH,
    metavar="FILE.toml",
    help="Task whose labels and scaling are stored in the artifact.",
)
@click.option("--seed", default=0, help="Seed of the random inputs.")
@click.option("--bisect", is_flag=True, help="For a failed artifact, find the first layer with different outputs.")
@click.option("--timeout", "timeout_s", default=600.0, help="Timeout of each step, in seconds.")
@click.option("--dry-run", is_flag=True, help="Print the plan without compiling.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.compile/1).")
def compile(**given: Any) -> None:
    """Convert a model into artifacts for every runtime, and check that their outputs match the source model.

    MODEL is an ONNX or TFLite file, a torch program (.pt2, or TorchScript .pt), or FILE.py:FACTORY. An artifact is
    written under its final name only after the check.
    """
    plan = _make_plan(given)
    if given["dry_run"]:
        from edgewright.flows.compile.flow import complete_plan

        print_json(complete_plan(plan))
        return
    _run(plan, given["output"], bisect=given["bisect"], as_json=given["as_json"])


def _make_plan(given: dict[str, Any]) -> CompilePlan:
    from pathlib import Path

    from edgewright.flows.candidates import hash_npz, split_compile_options
    from edgewright.flows.compile.cells import plan_cells, read_source_precision
    from edgewright.flows.compile.sizes import expand_sizes
    from edgewright.flows.tasks.flow import make_model_metadata
    from edgewright.schema.plan import CompilePlan

    names = _choose_runtimes(join_words(given["runtime"]))
    precisions = join_words(given["precision"])
    inputs = str(Path(given["inputs"]).absolute()) if given["inputs"] else None
    sizes = expand_sizes(given["shapes"])
    return make_plan(
        CompilePlan,
        given,
        shapes=sizes[0] if len(sizes) == 1 else {},
        sizes=sizes if len(sizes) > 1 else (),
        source=given["model"],
        cells=plan_cells(
            names, precisions, split_compile_options(given["options"], names), read_source_precision(given["model"])
        ),
        inputs=inputs,
        inputs_sha256=hash_npz(inputs),
        metadata=make_model_metadata(Path(given["task_file"]), given["model"], find_task_folder())
        if given["task_file"]
        else None,
    )


def _choose_runtimes(words: list[str]) -> list[str]:
    """Return the named runtimes; all with a compiler for `all`; without a name, the installed ones of these."""
    from edgewright.flows.doctor.flow import TEST_RUNTIME, examine_runtime
    from edgewright.runtimes.table import TABLE

    compiling = [info for info in TABLE.values() if info.writes and info.reads and info.name != TEST_RUNTIME]
    if words and "all" not in words:
        return words
    return [info.name for info in compiling if words or examine_runtime(info).usable]


def _run(plan: CompilePlan, output: str, *, bisect: bool, as_json: bool) -> None:
    from pathlib import Path

    from edgewright.cli.user_store import open_workspace
    from edgewright.flows.compile.flow import compile_all

    with open_workspace() as workspace:
        report, error = compile_all(plan, Path(output), workspace, bisect=bisect)
    if as_json:
        print_json(report)
    else:
        _show(report)
    if error is not None:
        raise error


def _show(report: CompileReport) -> None:
    print_table(
        HEADERS, [_make_cell_row(cell) for cell in report.artifacts], droppable=("max abs", "seconds", "cosine")
    )
    for one in report.sets:
        print_message(f"{one.runtime} {one.precision}: {one.path} has {one.artifacts} sizes")
    for cell in report.artifacts:
        title = f"{cell.runtime} {cell.precision}"
        if cell.reason:
            print_message(f"{title}: {_shorten_reason(cell.reason)}")
        if cell.try_this:
            print_message(f"    Try: {cell.try_this}")
        for note in cell.notes:
            print_message(f"{title}: {note}")
        if (found := cell.culprit) is not None:
            before = "" if found.before_db is None else f", {found.before_db:.1f} dB before it"
            print_message(
                f"{title}: outputs first differ at {found.op} '{found.node}': {found.sqnr_db:.1f} dB after it{before}"
            )


def _shorten_reason(reason: str) -> str:
    """Return the first lines of a long reason, such as the log of a crashed worker."""
    lines = reason.splitlines()
    return "\n    ".join(lines[:MAX_LINES]) + (
        f"\n    … and {len(lines) - MAX_LINES} more lines, in --json" * (len(lines) > MAX_LINES)
    )


def _make_cell_row(cell: CellReport) -> tuple[str, ...]:
    from edgewright.schema.units import UNKNOWN, show_bytes, show_share

    state = "cached" if cell.cached else cell.state
    figures = (UNKNOWN,) * 4
    if (n := cell.numerics) is not None:
        agreement = UNKNOWN if n.argmax_agreement is None else show_share(n.argmax_agreement)
        figures = (f"{n.cosine:.6f}", f"{n.sqnr_db:.1f} dB", f"{n.max_abs:.2g}", agreement)
    size = UNKNOWN if cell.bytes is None else show_bytes(cell.bytes)
    return (cell.runtime, cell.precision, state, size, f"{cell.seconds:.1f}", *figures, cell.path or UNKNOWN)
