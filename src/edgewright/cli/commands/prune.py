"""`edgewright prune`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import click

from edgewright.cli.calls import read_given
from edgewright.cli.code import check_code
from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import PATH
from edgewright.cli.rendering.output import print_answer, print_message, print_table, show_table
from edgewright.cli.training import (
    add_distillation_options,
    add_result_options,
    add_seed_options,
    add_training_options,
    print_plan,
    run_training,
)
from edgewright.schema.vocabulary import ImportanceCriterion

if TYPE_CHECKING:
    from edgewright.api.results.training import PruneResult

MAX_FIXED = 5


@click.command(cls=HelpedCommand)
@click.argument("model", metavar="MODEL")
@click.option("--weights", type=PATH, help="Weights of a torch model from FILE.py:FACTORY.")
@click.option("--task", "task_file", type=PATH, metavar="FILE.toml", help="Task of the model; required.")
@click.option("--data", metavar="DATA", help="Fine-tuning data. If omitted, the model is pruned only.")
@click.option("--val", metavar="DATA", help="Validation data, used only for the final evaluation; required.")
@click.option(
    "--method",
    type=click.Choice(("structured", "unstructured")),
    default="structured",
    help="Structured: channels, heads and neurons; unstructured: single weights.",
)
@click.option(
    "--importance",
    type=click.Choice(get_args(ImportanceCriterion)),
    help="Importance criterion; default: taylor with fine-tuning, else l2.",
)
@click.option("--target-speedup", type=float, metavar="N", help="Target speedup in the runtime.")
@click.option("--target-bytes", metavar="SIZE", help="Target size, such as 800kB, or 2x (half the size).")
@click.option("--target-macs", metavar="NUMBER", help="Target number of MACs, such as 15M, or 2x (half as many).")
@click.option(
    "--max-drop",
    default=1.0,
    help="Maximum metric drop against source and control; above it, exit code 3. Without a target, the pruning budget.",
)
@click.option("--sparsity", default=0.8, help="Fraction of zero weights (unstructured).")
@click.option(
    "--scope",
    type=click.Choice(("global", "layer")),
    default="global",
    help="Set of weights that are ranked together (unstructured).",
)
@click.option("--pattern", metavar="N:M", help="Sparsity pattern: N nonzero weights of each M (unstructured).")
@click.option("--multiple", default=8, help="Number that channel counts are a multiple of.")
@click.option("--rounds", default=1, help="Number of pruning steps with fine-tuning in between.")
@click.option("--round-epochs", default=1.0, help="Fine-tuning epochs between two rounds.")
@click.option("--runtime", default="onnxruntime", help="Runtime of the timing and the evaluation.")
@click.option("--threads", default=1, help="Threads per timed inference.")
@click.option(
    "--control/--no-control", default=True, help="Also train the unpruned network for the same steps, as the control."
)
@click.option(
    "--distill/--no-distill",
    default=True,
    help="Use the source model as the teacher of the pruned network and the control.",
)
@add_distillation_options
@add_training_options()
@add_seed_options
@add_result_options("edgewright.prune/1")
def prune(**given: Any) -> None:
    """Prune a network and fine-tune it.

    The result is compared with the control: the same network, trained for the same steps without pruning.
    """
    from edgewright.api.convert import prune as run
    from edgewright.api.plans import plan_pruning
    from edgewright.flows.prune.check import check_plan

    check_code(given)
    if given["dry_run"]:
        print_plan(plan_pruning(given["model"], read_given(given)), check_plan)
        return
    run_training(run, _show, given, given["model"])


def _show(result: PruneResult) -> None:
    report = result.report
    print_answer(result.answer)
    show_table(result.table())
    if report.widths:
        rows = [(row.name, row.kind, str(row.before), str(row.after), f"{len(row.layers)}") for row in report.widths]
        print_table(("group", "kind", "before", "after", "layers"), rows, "Pruned groups")
    for name, reason in list(report.fixed.items())[:MAX_FIXED]:
        print_message(f"Not pruned: {name}: {reason}")
    if (more := len(report.fixed) - MAX_FIXED) > 0:
        print_message(f"… and {more} more, in --json")
    for note in report.notes:
        print_message(note)
    if report.model:
        print_message(f"Pruned model: {report.model}" + (f"; PyTorch module: {report.module}" if report.module else ""))
