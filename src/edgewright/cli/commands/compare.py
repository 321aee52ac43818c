"""`edgewright compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgewright.cli.calls import call_api
from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.rendering.output import print_json, print_message, show_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgewright.schema.run import Run


@click.command(cls=HelpedCommand)
@click.argument("items", nargs=-1, required=True, metavar="A B...")
@click.option(
    "--threshold",
    type=float,
    help="Smallest relative difference that is reported as one. Default: that of the session of both, else 0.02.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.compare/1).")
def compare(items: tuple[str, ...], threshold: float | None, as_json: bool) -> None:
    """Compare runs, or measure models now and compare them.

    A and B are run ids (the unique beginning or a unique piece is enough) or model files. Each is compared with the
    first: the time ratio with its confidence interval, and a verdict. Models are measured with the defaults of
    `edgewright benchmark`. Runs of `edgewright evaluate` are compared sample by sample.
    """
    from edgewright.api.measure import compare as compare_items

    result, error = call_api(compare_items, *items, threshold=threshold)
    if error is not None:
        raise error
    if as_json:
        print_json(result.to_dict())
    else:
        print_message(result.answer)
        show_table(result.table())
        if not result.evaluations:
            _show_differences(result.runs)


def _show_differences(runs: Sequence[Run]) -> None:
    from edgewright.flows.benchmark.comparison import find_differences, get_session_id

    for run in runs:
        if run.imported:
            print_message(f"{run.id} is imported: it was measured on another machine.")
    for run in runs[1:]:
        if get_session_id(run) != get_session_id(runs[0]):
            print_message(
                f"{run.id} is from another session: a verdict requires an interval that is completely beyond 5 %."
            )
        for name, (before, after) in find_differences(runs[0], run).items():
            print_message(f"{run.id} differs in {name}: {before} → {after}")
