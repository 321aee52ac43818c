"""`edgewright split`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import PATH
from edgewright.cli.rendering.output import localize, print_json, print_line, print_table, show_progress

if TYPE_CHECKING:
    from edgewright.api.field.split import SplitReport

SHOWN_CUTS = 10


@click.command(cls=HelpedCommand)
@click.argument("model", type=PATH)
@click.option(
    "--between",
    required=True,
    metavar="SIDE,SIDE",
    help="Device and server: each a name of --on, or the URL of `edgewright serve --allow-profile`.",
)
@click.option("--link", required=True, metavar="SPEED,DELAY", help="Network such as 20Mbit,15ms (delay of one way).")
@click.option("--runtime", default="onnxruntime", metavar="RUNTIME,…", help="Runtime of both parts, or of each.")
@click.option(
    "--shape", "shapes", multiple=True, metavar="NAME=SIZES", help="Sizes of an input, such as x=1,3,224,224."
)
@click.option("--threads", type=click.IntRange(1, 64), default=1, help="Threads per inference; default: 1.")
@click.option("--token-file", type=PATH, metavar="FILE", help="File with the token of the server.")
@click.option("-o", "--output", type=PATH, required=True, metavar="DIR", help="Folder for head and tail.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.split/1).")
def split(
    model: str,
    between: str,
    link: str,
    runtime: str,
    shapes: tuple[str, ...],
    threads: int,
    token_file: str | None,
    output: str,
    as_json: bool,
) -> None:
    """Cut a network into a part for a device and a part for a server, where the predicted time is smallest.

    Both sides measure the layers; the optimum over all cuts is found with proof. Head and tail are artifacts, and
    together they are checked against the model.
    """
    from edgewright.api.field.serve import read_token
    from edgewright.api.field.split import SplitRequest, make_pair
    from edgewright.api.field.split import split as run_split
    from edgewright.api.values import to_shapes
    from edgewright.errors import GateFailed

    request = SplitRequest(
        model=model,
        between=make_pair(between, "--between"),
        link=link,
        output=output,
        runtimes=make_pair(runtime if "," in runtime else f"{runtime},{runtime}", "--runtime"),
        shapes=to_shapes(shapes),
        threads=threads,
        token=read_token(token_file or "").decode(),
    )
    error: GateFailed | None = None
    try:
        with show_progress() as progress:
            report = run_split(request, progress=progress)
    except GateFailed as failed:
        if failed.result is None:
            raise
        report, error = failed.result, failed
    if as_json:
        print_json(report)
    else:
        _show(report)
    if error is not None:
        raise error


def _show(report: SplitReport) -> None:
    print_line(localize(report.answer))
    rows = [(", ".join(one.tensors), f"{one.bytes:,}", f"{one.ms:.4g}") for one in report.cuts[:SHOWN_CUTS]]
    print_table(("tensors sent", "bytes", "ms"), rows)
    print_line("")
    print_line(f"head: {report.head}")
    print_line(f"tail: {report.tail} ({report.sqnr_db:.0f} dB together)")
