"""`edgewright route`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import PATH
from edgewright.cli.rendering.output import localize, print_json, print_line, print_message, print_table, show_progress

if TYPE_CHECKING:
    from edgewright.flows.route.flow import RouteReport


@click.command(cls=HelpedCommand)
@click.option("--levels", metavar="MODEL,…", required=True, help="Models from the device outward, the smallest first.")
@click.option(
    "--task",
    "task_files",
    type=PATH,
    multiple=True,
    required=True,
    metavar="FILE.toml",
    help="Task of all models; or repeated, one for each level.",
)
@click.option("--data", metavar="DATA", required=True, help="Labeled samples that the rule is fitted on.")
@click.option("--eval-data", metavar="DATA", required=True, help="Other labeled samples that it is tested on.")
@click.option("--goal", default="offload<=0.4", metavar="GOALS", help="Goals: offload, drop, metric.")
@click.option("--runtime", default="", metavar="RUNTIME", help="Runtime of the models; default: that of each file.")
@click.option("-o", "--output", type=PATH, metavar="FILE.json", help="File for the rule (edgewright.router/1).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.route/1).")
def route(
    levels: str,
    task_files: tuple[str, ...],
    data: str,
    eval_data: str,
    goal: str,
    runtime: str,
    output: str | None,
    as_json: bool,
) -> None:
    """Fit the rule by which easy inputs stay with a small model, and hard ones go on to a larger one.

    The rule is fitted on --data and tested on --eval-data: accuracy at its share of offloaded samples, and that of
    random routing beside it. The exit code is 3 if a goal is missed there.
    """
    from pathlib import Path

    from edgewright.api.field.route import fit_router
    from edgewright.cli.code import check_code
    from edgewright.flows.route.flow import RouteRequest
    from edgewright.tasks.spec.file import read_task
    from edgewright.tasks.spec.functions import is_function

    check_code({"data": data, "eval_data": eval_data})
    request = RouteRequest(
        levels=tuple(one.strip() for one in levels.split(",") if one.strip()),
        tasks=tuple(read_task(Path(one)) for one in task_files),
        data=data,
        eval_data=eval_data,
        goal=goal,
        runtime=runtime,
        code=tuple(one for one in (data, eval_data) if is_function(one) and not Path(one).exists()),
    )
    with show_progress() as progress:
        report, error = fit_router(request, Path(output) if output else None, progress=progress)
    if as_json:
        print_json(report)
    else:
        _show(report)
    if error is not None:
        raise error


def _show(report: RouteReport) -> None:
    print_line(localize(report.answer))
    rows = [
        (one.path, f"{one.metric:.1%}", f"{one.share:.1%}", "" if one.temperature is None else f"{one.temperature:.2f}")
        for one in report.levels
    ]
    print_table(("level", "accuracy alone", "answers", "temperature"), rows)
    for one in report.checks:
        if one.state == "not shown":
            print_message(f"{one.goal} is not shown: it is {one.value:.4g} ({one.low:.4g} to {one.high:.4g}).")
    print_message(f"Tested on {report.samples} samples, fitted on {report.fit_samples} others.")
