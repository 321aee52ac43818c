"""`edgewright llm compile`."""

from __future__ import annotations

import click

from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import PATH
from edgewright.cli.rendering.output import localize, print_json, print_line, print_message, print_table, show_progress
from edgewright.schema.units import UNKNOWN, show_bytes


@click.command("compile", cls=HelpedCommand)
@click.argument("model", type=PATH, metavar="MODEL")
@click.option("--tokenizer", type=PATH, metavar="FILE", help="The tokenizer's file, for models that have none.")
@click.option("--runtime", default="llamacpp", metavar="NAME,…", help="Engines; default: llamacpp.")
@click.option("--precision", default="w4", metavar="NAME,…", help="Of the weights: fp32, w8, w4; default: w4.")
@click.option("--method", default="gptq", help="Of 4-bit weights: gptq or rounding; default: gptq.")
@click.option("--seed", type=int, default=7, help="Seed of the calibration texts; default: 7.")
@click.option("-o", "--output", type=PATH, metavar="FOLDER", required=True, help="Folder of the artifacts.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.llm-compile/1).")
def compile_command(
    model: str,
    tokenizer: str | None,
    runtime: str,
    precision: str,
    method: str,
    seed: int,
    output: str,
    as_json: bool,
) -> None:
    """Convert a language model for engines, with weights in several precisions.

    Each artifact is run once in its engine and compared with the reference computation. 4-bit weights are calibrated on
    texts that the model writes itself.
    """
    from edgewright.api.field.llm import compile_for_engines
    from edgewright.errors import EdgewrightError
    from edgewright.flows.llm.compile import LanguageCompileRequest

    request = LanguageCompileRequest(
        model=model,
        tokenizer=tokenizer or "",
        runtimes=_split(runtime),
        precisions=_split(precision),
        output=output,
        method=method,
        seed=seed,
    )
    failure: EdgewrightError | None = None
    with show_progress() as progress:
        try:
            report = compile_for_engines(request, progress=progress)
        except EdgewrightError as error:
            if error.result is None:
                raise
            report, failure = error.result, error
    if as_json:
        print_json(report)
    else:
        print_line(localize(report.answer))
        rows = [
            (
                one.runtime,
                one.precision,
                one.state,
                UNKNOWN if one.bytes is None else show_bytes(one.bytes),
                UNKNOWN if one.divergence is None else f"{one.divergence:.2g}",
                one.path or one.reason,
            )
            for one in report.artifacts
        ]
        print_table(("engine", "precision", "state", "size", "divergence", "path"), rows)
        for note in dict.fromkeys(note for one in report.artifacts for note in one.notes):
            print_message(note)
    if failure is not None:
        raise failure


def _split(words: str) -> tuple[str, ...]:
    return tuple(word.strip().lower() for word in words.split(",") if word.strip())
