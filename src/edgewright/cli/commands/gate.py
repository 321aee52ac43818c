"""`edgewright gate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.parse import PATH, SHAPE
from edgewright.cli.rendering.output import print_json, print_message, print_table

if TYPE_CHECKING:
    from edgewright.flows.gate.baseline import GateOptions
    from edgewright.flows.gate.report import GateReport

HEADERS = ("goal", "state", "value", "interval", "method", "reason")


@click.command()
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
@click.option("--inputs", type=PATH, metavar="FILE.npz", help="Input file with one array per model input.")
@click.option("--seed", type=int, help="Seed of the random inputs and of the sample choice; default: 0.")
@click.option("--threads", type=int, help="Threads per inference; default: 1.")
@click.option("--runs", type=int, help="Timed inferences per process; default: enough to fill --seconds.")
@click.option("--seconds", type=float, help="Steady-state time per process; default: 0.2.")
@click.option("--processes", type=int, help="Number of fresh processes per model; default: 15.")
@click.option("--warmup-seconds", type=float, help="Maximum warm-up time per process; default: 2.")
@click.option("--timeout", type=float, help="Timeout for a response of a worker, in seconds; default: 120.")
@click.option("--power-w", type=float, help="Device power in watts, for an energy estimate without a sensor.")
@click.option("--task", type=PATH, metavar="FILE.toml", help="Task of the model, for the metrics metric and drop.")
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
    from pathlib import Path

    from edgewright.cli.user_store import open_workspace
    from edgewright.flows.gate.baseline import read_baseline
    from edgewright.flows.gate.flow import check_gate, record_baseline
    from edgewright.flows.gate.plan import GateRequest, complete_request
    from edgewright.flows.gate.report import write_junit, write_summary

    path = Path(given["baseline"])
    baseline = read_baseline(path) if path.exists() or not given["write"] else None
    request = GateRequest(
        model=given["model"],
        baseline=path,
        options=_make_options(given),
        goals=given["goal"] or "",
        undecided=given["undecided"],
        device=given["device"],
        allow_code=given["allow_code"],
        write=given["write"],
    )
    complete = complete_request(request, baseline)
    with open_workspace(given["device"]) as workspace:
        if given["write"]:
            report, error = record_baseline(complete, workspace), None
        else:
            report, error = check_gate(complete.plan, workspace, complete.notes)
    for name, write in (("junit", write_junit), ("summary", write_summary)):
        if given[name]:
            write(report, Path(given[name]))
    if given["as_json"]:
        print_json(report)
    else:
        _show(report)
    for note in report.notes:
        print_message(f"Note: {note}.")
    if error is not None:
        raise error


def _make_options(given: dict[str, Any]) -> GateOptions:
    from edgewright.flows.gate.baseline import GateOptions

    options = {name: given[name] for name in GateOptions.__struct_fields__ if given[name] not in (None, ())}
    if "shape" in options:
        options["shape"] = dict(options["shape"])
    return GateOptions(**options)


def _show(report: GateReport) -> None:
    from edgewright.flows.gate.report import show_interval, show_value

    if report.written:
        figures = [
            (
                name,
                f"{one.value:g}",
                "" if one.low is None or one.low == one.high else f"{one.low:g}–{one.high:g}",
                one.unit,
            )
            for name, one in report.figures.items()
        ]
        print_table(("figure", "value", "interval", "unit"), figures)
        print_message(f"Wrote {report.baseline}.")
        return
    checks = report.checks
    rows = [
        (one.goal, one.state, show_value(one, one.value), show_interval(one), one.method, one.reason) for one in checks
    ]
    print_table(HEADERS, rows, droppable=("method",))
    if any(one.state == "not shown" for one in checks):
        print_message(f"A goal that is not shown {'passes' if report.undecided == 'pass' else 'fails'} (--undecided).")
