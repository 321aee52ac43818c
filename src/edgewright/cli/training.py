"""Options and output shared by the commands that train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.code import allow_code
from edgewright.cli.parse import PATH, SHAPE
from edgewright.cli.rendering.output import print_json, print_message, print_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from msgspec import Struct

    from edgewright.flows.distill.report import DistillReport
    from edgewright.flows.experiment.report import MetricDelta, NetworkReport
    from edgewright.flows.prune.report import PruneReport
    from edgewright.flows.quantize.report import Speedup

    Command = Callable[..., None]

NETWORK_HEADERS = (
    "network",
    "metric",
    "interval",
    "mean of seeds",
    "size",
    "packed",
    "parameters",
    "zeros",
    "MACs",
    "latency",
)
TRAINING_SETTINGS = (
    "epochs", "batch", "lr", "schedule", "warmup", "optimizer", "momentum", "weight_decay", "label_smoothing", "clip",
    "train_precision", "patience", "checkpoint_s", "train_threads", "seed",
)  # fmt: skip
DISTILLATION_OPTIONS = ("temperature", "alpha", "views")


def _combine(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return one decorator that adds all these options in their order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def add_training_options(command: Command) -> Command:
    """Add the training options to a command."""
    return _combine(
        click.option("--epochs", type=float, help="Training epochs; default: 10."),
        click.option("--batch", type=int, help="Batch size; default: 128."),
        click.option("--lr", type=float, help="Maximum learning rate; default: 0.05 (AdamW: 0.001)."),
        click.option(
            "--schedule",
            type=click.Choice(("cosine", "one-cycle", "constant")),
            help="Learning rate schedule; default: cosine.",
        ),
        click.option("--warmup", type=float, help="Fraction of steps for learning rate warm-up."),
        click.option("--optimizer", type=click.Choice(("sgd", "adamw")), help="Optimizer; default: sgd."),
        click.option("--momentum", type=float, help="Momentum of SGD; default: 0.9."),
        click.option("--weight-decay", type=float, help="Weight decay; default: 0.0005."),
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
    )(command)


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
        click.option("-o", "--output", type=PATH, default="artifacts", help="Output folder."),
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


def run_training_command(
    check: Callable[[Any], None], run: Callable[..., Any], plan: Struct, given: dict[str, Any],
    show: Callable[[Any], None],
) -> None:  # fmt: skip
    """Check the plan and print it (`--dry-run`), or run it and show the report; raise the error of a failed result."""
    from pathlib import Path

    from edgewright.cli.user_store import open_workspace

    if given["dry_run"]:
        check(plan)
        print_json(plan)
        return
    check_html_folder(given["html"])
    with open_workspace() as workspace:
        report, error = run(plan, Path(given["output"]), workspace)
    if given["as_json"]:
        print_json(report)
    else:
        show(report)
    if given["html"] is not None:
        _write_html(Path(given["html"]), report)
    if error is not None:
        raise error


def reject_unused_options(words: Sequence[str], why: str, hint: str) -> None:
    """Raise UsageError if one of these options was given but has no effect."""
    from click.core import ParameterSource

    from edgewright.errors import UsageError

    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in words and context.get_parameter_source(parameter.name) is not ParameterSource.DEFAULT:
            raise UsageError(f"{parameter.opts[0]} has no effect here", why, hint)


def read_settings(given: dict[str, Any]) -> dict[str, Any]:
    """Return the training settings that were given; the others keep the defaults of `training.job.Settings`."""
    names = {"train_precision": "precision", "train_threads": "threads"}
    settings = {names.get(name, name): given[name] for name in TRAINING_SETTINGS if given[name] is not None}
    if settings.get("optimizer") == "adamw":
        settings.setdefault("lr", 0.001)
    return settings


def show_networks(networks: Sequence[NetworkReport]) -> None:
    from edgewright.schema.units import show_bytes

    rows = []
    for network in networks:
        metric = network.metric
        rows.append(
            (
                network.name,
                f"{metric.name} {metric.value:.4f}" if metric else "–",
                f"{metric.low:.4f}–{metric.high:.4f}" if metric else "–",
                f"{network.mean:.4f}" if network.mean is not None and len(network.seeds) > 1 else "–",
                show_bytes(network.bytes),
                show_bytes(network.packed_bytes),
                f"{network.parameters:,}" if network.parameters is not None else "–",
                f"{network.zeros / network.parameters:.0%}" if network.zeros and network.parameters else "–",
                f"{network.macs / 1e6:.2f} M" if network.macs else "–",
                f"{network.latency_us:.0f} µs" if network.latency_us else "–",
            )
        )
    print_table(NETWORK_HEADERS, rows, droppable=("mean of seeds", "interval", "packed", "parameters"))


def show_comparisons(name: str, against: Sequence[MetricDelta], speedup: Speedup | None) -> None:
    """Print the metric differences and the speedup."""
    for one in against:
        interval = ""
        if one.low is not None and one.high is not None:
            over = f"{one.n} seeds" if one.over == "seeds" else "the samples of one seed"
            interval = f" (95 % CI over {over}: {one.low:+.2f} to {one.high:+.2f})"
        print_message(f"{name} vs. {one.against}:  {one.value:+.2f} {one.unit}{interval}")
    if speedup is not None:
        interval = f" ({speedup.low:.2f}–{speedup.high:.2f})" if speedup.low and speedup.high else ""
        print_message(f"Speedup: {speedup.ratio:.2f} ×{interval}, {speedup.verdict}")


def check_html_folder(html: str | None) -> None:
    """Raise OutputError if the folder of the HTML report does not exist."""
    from pathlib import Path

    from edgewright.errors import OutputError

    if html is not None and not Path(html).parent.is_dir():
        raise OutputError(f"{html} cannot be written", "its folder does not exist")


def _write_html(path: Path, report: PruneReport | DistillReport) -> None:
    from edgewright.system.files import write_atomically
    from edgewright.web.pages.training import render_training

    write_atomically(path, render_training(report), follow=True)
    print_message(f"Wrote {path}.")
