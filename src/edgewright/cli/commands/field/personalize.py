"""`edgewright personalize`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import click

from edgewright.cli.code import allow_code
from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import PATH
from edgewright.cli.rendering.output import localize, print_json, print_line, print_message, print_table, show_progress
from edgewright.schema.vocabulary import AdapterMethod

if TYPE_CHECKING:
    from edgewright.flows.personalize.report import PersonalizeReport


@click.command(cls=HelpedCommand)
@click.argument("source", metavar="FILE.py:FACTORY")
@click.option("--weights", type=PATH, help="Weights of the model for all users.")
@click.option("--task", "task_file", type=PATH, metavar="FILE.toml", help="Task of the model; required.")
@click.option("--data", metavar="DATA", help="Labeled samples of the user; required.")
@click.option("--val", metavar="DATA", help="Other samples of the user, which accept or reject the result; required.")
@click.option("--public", metavar="DATA", help="Samples of everybody, to measure what is forgotten; required.")
@click.option("--replay", metavar="DATA", help="Replayed samples; default: one half of --public, without its labels.")
@click.option("--method", type=click.Choice(get_args(AdapterMethod)), default="lora", help="What is trained.")
@click.option("--rank", default=4, help="Rank of the updates of --method lora.")
@click.option("--replay-ratio", default=3, help="Replayed samples for each of the user's; 0: none.")
@click.option("--replay-weight", default=6.0, help="Weight of the loss of the replayed samples.")
@click.option("--epochs", default=8.0, help="Passes over --data.")
@click.option("--batch", default=20, help="Samples of the user for each step.")
@click.option("--lr", default=0.0, help="Highest learning rate; 0: that of the method.")
@click.option("--train-threads", "threads", default=0, help="Threads of the training; 0: all.")
@click.option("--seed", default=0, help="Random seed, of the halves of --public too.")
@click.option("--apply", "adapter", type=PATH, metavar="ADAPTER", help="Merge this adapter; nothing is trained.")
@click.option("-o", "--output", type=PATH, required=True, help="Folder for the adapter and the merged model.")
@allow_code
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.personalize/1).")
def personalize(adapter: str | None, output: str, as_json: bool, **given: Any) -> None:
    """Adapt a model to one user with few trained parameters.

    The result is kept only if it is at least as good on the user's held-out samples as the model for all; otherwise the
    exit code is 3 and nothing is written. --public shows what it forgets.
    """
    from pathlib import Path

    from edgewright.api.field.personal import apply_adapter, personalize_model
    from edgewright.api.plans import plan_personalization
    from edgewright.cli.code import check_code

    check_code(given)
    if adapter is not None:
        with show_progress() as progress:
            applied = apply_adapter(given["source"], given["weights"], Path(adapter), Path(output), progress=progress)
        if as_json:
            print_json(applied)
        else:
            print_line(f"Merged model: {applied.model}; weights: {applied.weights}")
        return
    with show_progress() as progress:
        report, error = personalize_model(plan_personalization(given), Path(output), progress=progress)
    if as_json:
        print_json(report)
    else:
        _show(report)
    if error is not None:
        raise error


def _show(report: PersonalizeReport) -> None:
    print_line(localize(report.answer))
    rows = [
        (name, f"{before:.4f}", f"{after:.4f}", str(count))
        for name, before, after, count in (
            ("user", report.before.user, report.after.user, report.val_samples),
            ("public", report.before.public, report.after.public, report.public_samples),
        )
    ]
    print_table(("samples", f"{report.metric} before", "after", "number"), rows)
    if report.adapter.path:
        print_message(f"Adapter: {report.adapter.path} ({report.adapter.bytes:,} bytes); model: {report.model}")
