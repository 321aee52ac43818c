"""Options and output shared by the commands that train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgewright.cli.calls import call_api, make_keywords
from edgewright.cli.code import allow_code
from edgewright.cli.parse import PATH, SHAPE
from edgewright.cli.rendering.output import print_json, print_message

if TYPE_CHECKING:
    from collections.abc import Callable

    from msgspec import Struct

    from edgewright.api.results.base import Result

    Command = Callable[..., None]
    PlanT = TypeVar("PlanT", bound=Struct)
    ResultT = TypeVar("ResultT", bound=Result)


def _combine(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return one decorator that adds all these options in their order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def add_training_options(
    epochs: str = "10", lr: str = "0.05 (AdamW: 0.001)", optimizer: str = "sgd", weight_decay: str = "0.0005"
) -> Callable[[Command], Command]:
    """Return a decorator that adds the training options to a command; the arguments are defaults for the help."""
    return _combine(
        click.option("--epochs", type=float, help=f"Training epochs; default: {epochs}."),
        click.option("--batch", type=int, help="Batch size; default: 128."),
        click.option("--lr", type=float, help=f"Maximum learning rate; default: {lr}."),
        click.option(
            "--schedule",
            type=click.Choice(("cosine", "one-cycle", "constant")),
            help="Learning rate schedule; default: cosine.",
        ),
        click.option("--warmup", type=float, help="Fraction of steps for learning rate warm-up."),
        click.option("--optimizer", type=click.Choice(("sgd", "adamw")), help=f"Optimizer; default: {optimizer}."),
        click.option("--momentum", type=float, help="Momentum of SGD; default: 0.9."),
        click.option("--weight-decay", type=float, help=f"Weight decay; default: {weight_decay}."),
        click.option("--label-smoothing", type=float, help="Label smoothing; default: 0."),
        click.option("--clip", type=float, help="Maximum gradient norm; 0 disables clipping."),
        click.option(
            "--train-precision",
            type=click.Choice(("auto", "fp32", "bf16")),
            help="Numeric format of the training; default: auto.",
        ),
        click.option("--patience", type=int, help="Early stopping after epochs without gain; 0: off."),
        click.option("--checkpoint-s", type=float, help="Seconds between checkpoints; default: 60."),
        click.option("--train-threads", type=int, help="Threads per training; 0: all, divided evenly."),
        click.option("--held-out", default=0.1, help="Fraction of --data used for validation during training."),
    )


def add_distillation_options(command: Command) -> Command:
    """Add the options of knowledge distillation to a command."""
    return _combine(
        click.option("--temperature", default=4.0, help="Softmax temperature of teacher and student."),
        click.option(
            "--alpha", default=0.9, help="Weight of the distillation loss; the label loss has the weight 1 - alpha."
        ),
        click.option("--views", default=4, help="Augmented views per sample with stored teacher outputs."),
    )(command)


def add_seed_options(command: Command) -> Command:
    command = click.option("--seeds", default=1, help="Number of repetitions with different seeds.")(command)
    return click.option("--seed", default=0, help="First random seed.")(command)


def add_result_options(schema: str) -> Callable[[Command], Command]:
    """Return a decorator that adds the output options to a command that prints this schema."""

    return _combine(
        click.option("-o", "--output", type=PATH, help="Output folder; default: m-artifacts for m.onnx."),
        click.option(
            "--shape",
            "shapes",
            type=SHAPE,
            multiple=True,
            metavar="NAME=SIZES",
            help="Shape of an input; default: from the task.",
        ),
        click.option(
            "--timeout", "timeout_s", default=600.0, help="Timeout for a response of the runtime's worker, in seconds."
        ),
        click.option("--html", type=PATH, metavar="FILE", help="Path of an HTML report."),
        allow_code,
        click.option("--dry-run", is_flag=True, help="Print the plan without training."),
        click.option("--json", "as_json", is_flag=True, help=f"Print one JSON object ({schema})."),
    )


def print_plan(plan: PlanT, check: Callable[[PlanT], None]) -> None:
    """Check a plan and print it."""
    check(plan)
    print_json(plan)


def run_training(
    function: Callable[..., ResultT], show: Callable[[ResultT], None], given: dict[str, Any], *models: str
) -> None:
    """Train and show the result; raise the error of a failed gate."""
    check_html_folder(given["html"])
    result, error = call_api(function, *models, **make_keywords(given))
    if given["as_json"]:
        print_json(result.report)
    else:
        show(result)
    write_html(result, given["html"])
    if error is not None:
        raise error


def check_html_folder(html: str | None) -> None:
    """Raise OutputError if the folder of the HTML report does not exist."""
    from pathlib import Path

    from edgewright.errors import OutputError

    if html is not None and not Path(html).parent.is_dir():
        raise OutputError(f"{html} cannot be written", "its folder does not exist")


def write_html(result: Result, html: str | None) -> None:
    """Write the HTML report, if a file was named."""
    if html is not None:
        print_message(f"Wrote {result.save(html)}.")
