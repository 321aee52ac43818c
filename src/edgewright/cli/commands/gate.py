"""`edgewright gate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.calls import call_api, make_keywords
from edgewright.cli.code import check_code
from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import FIXED, PATH, SHAPE
from edgewright.cli.rendering.output import print_json, print_message, show_table

if TYPE_CHECKING:
    from edgewright.api.gate import GateResult


@click.command(cls=HelpedCommand)
@click.argument("model", type=PATH, metavar="MODEL")
@click.option("--baseline", type=PATH, metavar="FILE.json", required=True, help="Baseline file.")
@click.option("--write", is_flag=True, help="Measure the model, and write the baseline file.")
@click.option(
    "--goal",
    metavar="GOALS",
    help='Goals, such as "latency<=1.05x, drop<0.5, bytes<5MB"; default: those of the baseline, else latency<=1.05x.',
)
@click.option(
    "--undecided",
    type=click.Choice(["pass", "fail"]),
    default="pass",
    help="Result if a goal lies inside the confidence interval.",
)
@click.option("--runtime", metavar="RUNTIME", help="Runtime; default: the default runtime of the format.")
@click.option(
    "-p", "--option", "option", multiple=True, metavar="KEY=VALUE", help="Runtime option, such as optimization=basic."
)
@click.option(
    "--shape",
    type=SHAPE,
    multiple=True,
    metavar="NAME=SIZES",
    help="Shape of a dynamic input, such as x=1,3,224,224; default: batch 1.",
)
@FIXED
@click.option("--inputs", type=PATH, metavar="FILE.npz", help="Input file with one array per model input.")
@click.option("--seed", type=int, help="Seed of the random inputs and of the sample choice; default: 0.")
@click.option("--threads", type=int, help="Threads per inference; default: 1.")
@click.option("--runs", type=int, help="Timed inferences per process; default: enough to fill --seconds.")
@click.option("--seconds", type=float, help="Steady-state time per process; default: 0.2.")
@click.option("--processes", type=int, help="Number of fresh processes per model; default: 15.")
@click.option("--warmup-seconds", type=float, help="Maximum warm-up time per process; default: 2.")
@click.option("--timeout", type=float, help="Timeout for a response of a worker, in seconds; default: 120.")
@click.option("--power-w", type=float, help="Device power in watts, for an energy estimate without a sensor.")
@click.option(
    "--task", "task_file", type=PATH, metavar="FILE.toml", help="Task of the model, for the metrics metric and drop."
)
@click.option("--data", metavar="DATA", help="Labeled dataset: folder, .zip, .npz, or FILE.py:function.")
@click.option("--samples", type=int, help="Number of samples, chosen by --seed; default: all.")
@click.option("--on", "device", default="local", help="Device; local is this machine.")
@click.option("--junit", type=PATH, metavar="FILE.xml", help="File for the result as JUnit XML.")
@click.option("--summary", type=PATH, metavar="FILE.md", help="File for the result as Markdown.")
@click.option(
    "--allow-code", is_flag=True, help="Allow code that is named by the baseline (data) or the task (metric)."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.gate/1).")
def gate(**given: Any) -> None:
    """Check a model's speed, size and accuracy against a baseline file, for pull requests.

    --write measures MODEL and writes the baseline; keep it in the repository. Later calls measure MODEL, interleaved
    with the baseline's model if that is beside the baseline or in the store, and check every goal: exit code 3 if one
    is missed. Options that were given with --write need not be repeated.
    """
    from edgewright.api.gate import gate as check

    check_code(given)
    result, error = call_api(check, given["model"], **make_keywords(given))
    if given["as_json"]:
        print_json(result.report)
    else:
        _show(result)
    for note in result.report.notes:
        print_message(f"Note: {note}.")
    if error is not None:
        raise error


def _show(result: GateResult) -> None:
    report = result.report
    show_table(result.table())
    if report.written:
        print_message(f"Wrote {report.baseline}.")
    elif any(one.state == "not shown" for one in report.checks):
        print_message(f"A goal that is not shown {'passes' if report.undecided == 'pass' else 'fails'} (--undecided).")
