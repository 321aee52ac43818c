"""`edgewright compile`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.calls import call_api, make_keywords, read_given
from edgewright.cli.code import check_task_folder
from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import FIXED, PATH, SHAPE_CHOICE, WORDS
from edgewright.cli.rendering.output import print_json, print_message, show_table

if TYPE_CHECKING:
    from edgewright.api.results.artifacts import CompileResult

MAX_LINES = 6


@click.command("compile", cls=HelpedCommand)
@click.argument("model", metavar="MODEL")
@click.option(
    "--runtime", type=WORDS, multiple=True, help="Runtimes, comma-separated, or all; default: all that are installed."
)
@click.option(
    "--precision", type=WORDS, multiple=True, help="Precisions, comma-separated: fp32, fp16; default: the model's own."
)
@click.option("-o", "--output", type=PATH, help="Output folder; default: m-artifacts for m.onnx.")
@click.option(
    "--shape",
    "shapes",
    type=SHAPE_CHOICE,
    multiple=True,
    metavar="NAME=SIZES",
    help="Shape of an input, such as x=1,3,224,224; x=1,3,48,160|320 compiles one artifact for each size.",
)
@FIXED
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
@click.option(
    "--custom-ops", type=PATH, metavar="FOLDER", help="Folder of your own operators: C kernels and operators.toml."
)
@click.option("--bisect", is_flag=True, help="For a failed artifact, find the first layer with different outputs.")
@click.option("--timeout", "timeout_s", default=600.0, help="Timeout of each step, in seconds.")
@click.option("--dry-run", is_flag=True, help="Print the plan without compiling.")
@click.option("--on", "device", default="local", help="Device that runs the result; local is this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.compile/1).")
def compile(**given: Any) -> None:
    """Convert a model into artifacts for every runtime, and check that their outputs match the source model.

    MODEL is an ONNX or TFLite file, a torch program (.pt2, or TorchScript .pt), or FILE.py:FACTORY. An artifact is
    written under its final name only after the check.
    """
    from edgewright.api.convert import compile as convert
    from edgewright.api.plans import plan_compile
    from edgewright.flows.compile.flow import complete_plan

    check_task_folder(given)
    if given["dry_run"]:
        print_json(complete_plan(plan_compile(given["model"], read_given(given))))
        return
    result, error = call_api(convert, given["model"], **make_keywords(given))
    if given["as_json"]:
        print_json(result.report)
    else:
        _show(result)
    if error is not None:
        raise error


def _show(result: CompileResult) -> None:
    show_table(result.table())
    for one in result.report.sets:
        print_message(f"{one.runtime} {one.precision}: {one.path} has {one.artifacts} sizes")
    for cell in result.rows:
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
