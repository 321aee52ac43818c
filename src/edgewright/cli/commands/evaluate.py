"""`edgewright evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.calls import call_api, make_keywords
from edgewright.cli.code import allow_code, check_code
from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import FIXED, INDICES, PATH, TAG, WORDS
from edgewright.cli.rendering.output import print_json, print_message, show_table

if TYPE_CHECKING:
    from edgewright.api.results.evaluation import EvaluateResult

MAX_SHOWN = 5


@click.command(cls=HelpedCommand)
@click.argument("models", nargs=-1, metavar="MODEL...")
@click.option("--task", "task_file", type=PATH, metavar="FILE.toml", help="Task of the model; required.")
@click.option("--data", metavar="DATA", help="Labeled dataset: folder, .zip, .npz, or FILE.py:function; required.")
@click.option(
    "--runtime",
    type=WORDS,
    multiple=True,
    help="Runtimes, comma-separated; default: the default runtime of the format.",
)
@click.option("--samples", type=int, help="Number of samples, chosen by --seed; default: all.")
@click.option(
    "--leave-out", type=int, help="Number of samples to exclude: those that --samples with this number chooses."
)
@click.option("--indices", type=INDICES, metavar="LIST", help="Sample numbers, such as 0-99,200.")
@FIXED
@click.option("--seed", default=0, help="Seed of the sample choice.")
@click.option("--threads", default=1, help="Threads per inference.")
@click.option("-p", "--option", "options", multiple=True, metavar="KEY=VALUE", help="Runtime option.")
@click.option("--timeout", "timeout_s", default=120.0, help="Timeout for a response of a worker, in seconds.")
@click.option("--on", "device", default="local", help="Device; local is this machine.")
@click.option("--tag", "tags", type=TAG, multiple=True, metavar="NAME=VALUE", help="Tag for the runs; may be repeated.")
@allow_code
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.evaluate/1).")
def evaluate(**given: Any) -> None:
    """Evaluate models on labeled data, all on the same samples.

    A folder means all artifacts in it; a set file, the artifact for the size of each sample. The first row is the
    reference of agreement and difference. Every run is stored: see `edgewright runs`.
    """
    from edgewright.api.measure import evaluate as measure

    check_code(given)
    result, error = call_api(measure, given["models"], **make_keywords(given))
    if given["as_json"]:
        print_json(result.report)
    else:
        _show(result)
    if error is not None:
        raise error


def _show(result: EvaluateResult) -> None:
    from edgewright.cli.rendering.output import print_line
    from edgewright.schema.units import show_share

    report = result.report
    show_table(result.table())
    alike: dict[Any, list[str]] = {}
    for row in report.results:
        alike.setdefault(row.worst_classes[:MAX_SHOWN], []).append(f"{row.model} in {row.runtime}")
    for classes, names in alike.items():
        if any(one.n - one.correct > 1 for one in classes):  # one error of one sample means nothing
            print_line("")
            print_line(f"{', '.join(names)}: classes with the most errors")
            for one in classes:
                right = f"{one.correct} of {one.n} correct ({show_share(one.correct / one.n)})"
                other = _format_class(one.taken_for, one.taken_for_name)
                print_line(f"    {_format_class(one.label, one.name)}: {right}, predicted as {other} {one.times}×")
    for note in report.notes:
        print_message(f"{report.data}: {note}.")
    for skipped in report.skipped[:MAX_SHOWN]:
        print_message(f"Skipped {skipped.name}: {skipped.why}.")
    if len(report.skipped) > MAX_SHOWN:
        print_message(f"… and {len(report.skipped) - MAX_SHOWN} more of {report.samples}.")


def _format_class(label: int, name: str) -> str:
    return f"{label} {name}" if name else str(label)
