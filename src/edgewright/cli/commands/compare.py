"""`edgewright compare`."""

from __future__ import annotations

import click

from edgewright.cli.calls import call_api
from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.rendering.output import print_answer, print_json, print_message, show_table


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
        print_answer(result.answer)
        show_table(result.table())
        for note in result.notes:
            print_message(note)
