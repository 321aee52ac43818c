"""`edgewright invoke`."""

from __future__ import annotations

from typing import Any

import click

from edgewright.cli.calls import call_api, make_keywords
from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import PATH
from edgewright.cli.rendering.output import print_json, print_message, show_table


@click.command(cls=HelpedCommand)
@click.argument("artifact", type=PATH, metavar="ARTIFACT")
@click.option(
    "--inputs",
    type=PATH,
    required=True,
    metavar="FILE.npz",
    help="Input file with one array per input of the source model.",
)
@click.option("-o", "--output", type=PATH, required=True, metavar="FILE.npz", help="Output file.")
@click.option("--runtime", help="Runtime that reads the format; default: the default runtime of the format.")
@click.option("-p", "--option", "options", multiple=True, metavar="KEY=VALUE", help="Runtime option.")
@click.option("--on", "device", default="local", help="Device; local is this machine.")
@click.option("--timeout", "timeout_s", default=120.0, help="Timeout for a response, in seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.invocation/1).")
def invoke(artifact: str, as_json: bool, **given: Any) -> None:
    """Run a model once on your inputs and write its outputs.

    An artifact of `edgewright compile` has the same inputs and outputs as its source model: names, shapes and layouts.
    Of a set file, the artifact for the size of the inputs is run.
    """
    from edgewright.api.measure import invoke as run_once

    result, _ = call_api(run_once, artifact, **make_keywords(given))
    for note in result.notes:
        print_message(note)
    if as_json:
        print_json(result.report)
    else:
        show_table(result.table())
