"""`edgewright llm fit`."""

from __future__ import annotations

from typing import Any

import click

from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import PATH
from edgewright.cli.rendering.output import localize, print_json, print_line, print_message, print_table
from edgewright.schema.units import show_bytes


@click.command(cls=HelpedCommand)
@click.argument("models", type=PATH, nargs=-1, required=True, metavar="MODEL...")
@click.option("--memory", metavar="SIZE", required=True, help="Memory that the device has for the model, as 4GB.")
@click.option("--context", type=int, default=2048, help="Tokens of a sequence; default: 2048.")
@click.option("--batch", type=int, default=1, help="Sequences at once; default: 1.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.llm-fit/1).")
def fit(as_json: bool, **given: Any) -> None:
    """Find the weight and key-value formats with which language models fit into a device's memory.

    The need is weights, keys and values, activations, and the engine. It is measured for artifacts that
    `edgewright llm benchmark` has measured, else estimated.
    """
    from edgewright.flows.llm.fit import FitRequest, fit_models

    report = fit_models(FitRequest(**{key: value for key, value in given.items() if value is not None}))
    if as_json:
        print_json(report)
        return
    print_line(localize(report.answer))
    rows = [
        (
            one.model,
            one.precision,
            one.kv,
            show_bytes(one.weights_bytes),
            show_bytes(one.kv_bytes),
            show_bytes(one.bytes),
            "yes" if one.fits else "no",
            str(one.longest_context),
            one.evidence,
        )
        for one in report.fits
    ]
    columns = (
        "model",
        "precision",
        "kv",
        "weights",
        "keys and values",
        "memory",
        "fits",
        "longest context",
        "evidence",
    )
    print_table(columns, rows, droppable=("evidence",))
    for note in report.notes:
        print_message(note)
