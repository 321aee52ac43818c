"""Options and output that the commands that train share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.code import allow_code
from edgewright.cli.output import print_json, print_table, progress, say
from edgewright.cli.parse import PATH, SHAPE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from msgspec import Struct

    from edgewright.flows.distillation import DistilReport
    from edgewright.flows.learning import Side, Versus
    from edgewright.flows.pruning import PruneReport
    from edgewright.flows.quantization import Speedup

    Command = Callable[..., None]

SIDE_HEADERS = (
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
SETTINGS = (
    "epochs", "batch", "lr", "schedule", "warmup", "optimizer", "momentum", "weight_decay", "label_smoothing", "clip",
    "train_precision", "patience", "checkpoint_s", "train_threads", "seed",
)  # fmt: skip
TAUGHT = ("temperature", "alpha", "views")


def training_options(command: Command) -> Command:
    """Put the options of the training on a command."""
    options = (
        click.option("--epochs", type=float, default=None, help="Passes over the training data; default: 10."),
        click.option("--batch", type=int, default=None, help="Samples of one step; default: 128."),
        click.option("--lr", type=float, default=None, help="Highest learning rate; default: 0.05 (AdamW: 0.001)."),
        click.option("--schedule", type=click.Choice(("cosine", "one-cycle", "constant")), default=None,
                     help="Of the learning rate; default: cosine."),
        click.option("--warmup", type=float, default=None, help="Share of the steps in which the rate rises."),
        click.option("--optimizer", type=click.Choice(("sgd", "adamw")), default=None, help="Default: sgd."),
        click.option("--momentum", type=float, default=None, help="Of SGD; default: 0.9."),
        click.option("--weight-decay", type=float, default=None, help="Default: 0.0005."),
        click.option("--label-smoothing", type=float, default=None, help="Default: 0."),
        click.option("--clip", type=float, default=None, help="Largest norm of the gradient; 0 does not clip."),
        click.option("--train-precision", type=click.Choice(("auto", "fp32", "bf16")), default=None,
                     help="What the training computes in; default: auto."),
        click.option("--patience", type=int, default=None, help="Stop after so many epochs without a gain; 0: never."),
        click.option("--checkpoint-s", type=float, default=None, help="Seconds between checkpoints; default: 60."),
        click.option("--train-threads", type=int, default=None, help="Threads of each training; 0 shares them out."),
        click.option("--held-out", type=float, default=0.1, show_default=True,
                     help="Share of --data that steers and is not trained on."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def teaching_options(command: Command) -> Command:
    """Put the options `TAUGHT` on a command."""
    options = (
        click.option("--temperature", type=float, default=4.0, show_default=True,
                     help="Both logits are divided by it."),
        click.option("--alpha", type=float, default=0.9, show_default=True,
                     help="Weight of the teacher's loss; that of the labels is the rest."),
        click.option("--views", type=int, default=4, show_default=True,
                     help="Augmentations of each sample that the teacher is asked about."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def seed_options(command: Command) -> Command:
    command = click.option("--seeds", type=int, default=1, show_default=True, help="How often it is repeated.")(command)
    return click.option("--seed", type=int, default=0, show_default=True, help="The first seed.")(command)


def result_options(schema: str) -> Callable[[Command], Command]:
    """Put the options of what comes out on a command that prints this schema."""

    def put(command: Command) -> Command:
        options = (
            click.option("-o", "--output", type=PATH, default="artifacts", show_default=True,
                         help="Folder of the result."),
            click.option("--shape", "shapes", type=SHAPE, multiple=True, metavar="NAME=SIZES",
                         help="Sizes of an input; default: the task's."),
            click.option("--timeout", "timeout_s", type=float, default=600.0, show_default=True,
                         help="Longest silence of a runtime's worker, seconds."),
            click.option("--html", type=PATH, default=None, metavar="FILE",
                         help="Write the report as one HTML file."),
            allow_code,
            click.option("--dry-run", is_flag=True, help="Print the plan, and train nothing."),
            click.option("--json", "as_json", is_flag=True, help=f"Print one JSON object ({schema})."),
        )  # fmt: skip
        for option in reversed(options):
            command = option(command)
        return command

    return put


def carry_out(
    check: Callable[[Any], None], run: Callable[..., Any], plan: Struct, given: dict[str, Any],
    show: Callable[[Any], None],
) -> None:  # fmt: skip
    """Check the plan's words and print it, or run it and show what came of it; raise what kept the result back."""
    from contextlib import closing
    from pathlib import Path

    from edgewright.cli.places import open_user_store
    from edgewright.flows.device import open_device

    if given["dry_run"]:
        check(plan)
        print_json(plan)
        return
    check_html(given["html"])
    with closing(open_device("local")) as device, closing(open_user_store()) as store, progress() as tell:
        report, error = run(plan, Path(given["output"]), device, store, tell)
    if given["as_json"]:
        print_json(report)
    else:
        show(report)
    if given["html"] is not None:
        write_html(Path(given["html"]), report)
    if error is not None:
        raise error


def refuse_idle(words: Sequence[str], why: str, hint: str) -> None:
    """UsageError where one of these options was named and would do nothing."""
    from click.core import ParameterSource

    from edgewright.errors import UsageError

    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in words and context.get_parameter_source(parameter.name) is not ParameterSource.DEFAULT:
            raise UsageError(f"{parameter.opts[0]} does nothing here", why, hint)


def read_settings(given: dict[str, Any]) -> dict[str, Any]:
    """Those that were named; all others keep the defaults of `training.job.Settings`."""
    names = {"train_precision": "precision", "train_threads": "threads"}
    settings = {names.get(name, name): given[name] for name in SETTINGS if given[name] is not None}
    if settings.get("optimizer") == "adamw":
        settings.setdefault("lr", 0.001)
    return settings


def show_sides(sides: Sequence[Side]) -> None:
    from edgewright.facts.units import show_bytes

    rows = []
    for side in sides:
        metric = side.metric
        rows.append(
            (
                side.name,
                f"{metric.name} {metric.value:.4f}" if metric else "–",
                f"{metric.low:.4f}–{metric.high:.4f}" if metric else "–",
                f"{side.mean:.4f}" if side.mean is not None and len(side.seeds) > 1 else "–",
                show_bytes(side.bytes),
                show_bytes(side.packed_bytes),
                f"{side.parameters:,}" if side.parameters is not None else "–",
                f"{side.zeros / side.parameters:.0%}" if side.zeros and side.parameters else "–",
                f"{side.macs / 1e6:.2f} M" if side.macs else "–",
                f"{side.latency_us:.0f} µs" if side.latency_us else "–",
            )
        )
    print_table(SIDE_HEADERS, rows, droppable=("mean of seeds", "interval", "packed", "parameters"))


def show_verdicts(name: str, against: Sequence[Versus], speedup: Speedup | None) -> None:
    """The comparisons in words."""
    for one in against:
        reach = ""
        if one.low is not None and one.high is not None:
            over = f"{one.n} seeds" if one.over == "seeds" else "the samples of one seed"
            reach = f" (95 % over {over}: {one.low:+.2f} to {one.high:+.2f})"
        say(f"{name} against {one.against}: {one.value:+.2f} {one.unit}{reach}")
    if speedup is not None:
        reach = f" ({speedup.low:.2f}–{speedup.high:.2f})" if speedup.low and speedup.high else ""
        say(f"Speed-up: {speedup.ratio:.2f} ×{reach}, {speedup.verdict}")


def check_html(html: str | None) -> None:
    """OutputError now, not after the work."""
    from pathlib import Path

    from edgewright.errors import OutputError

    if html is not None and not Path(html).parent.is_dir():
        raise OutputError(f"{html} cannot be written", "its folder does not exist")


def write_html(path: Path, report: PruneReport | DistilReport) -> None:
    from edgewright.system.files import write_whole
    from edgewright.web.training import render_training

    write_whole(path, render_training(report), follow=True)
    say(f"Wrote {path}.")
