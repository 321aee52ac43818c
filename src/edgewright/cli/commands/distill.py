"""`edgewright distill`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import click

from edgewright.cli.calls import read_given
from edgewright.cli.code import check_code
from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import PATH
from edgewright.cli.rendering.output import print_answer, print_message, show_table
from edgewright.cli.training import (
    add_distillation_options,
    add_result_options,
    add_seed_options,
    add_training_options,
    print_plan,
    run_training,
)
from edgewright.schema.vocabulary import TransferLoss

if TYPE_CHECKING:
    from edgewright.api.results.training import DistillResult


@click.command(cls=HelpedCommand)
@click.option("--teacher", metavar="MODEL", help="Teacher: FILE.py:FACTORY, or a model file; required.")
@click.option("--teacher-weights", type=PATH, help="Weights of a torch teacher.")
@click.option(
    "--student", metavar="MODEL", help="Student: FILE.py:FACTORY, or auto:5x (a fifth of the parameters); required."
)
@click.option("--student-weights", type=PATH, help="Initial weights of the student.")
@click.option("--task", "task_file", type=PATH, metavar="FILE.toml", help="Task of the model; required.")
@click.option("--data", metavar="DATA", help="Training data, with or without labels; required.")
@click.option("--val", metavar="DATA", help="Validation data, used only for the final evaluation; required.")
@add_distillation_options
@click.option(
    "--transfer",
    type=click.Choice(get_args(TransferLoss)),
    default="none",
    help="Teacher's intermediate outputs that the student also matches.",
)
@click.option("--transfer-weight", default=1.0, help="Weight of the loss of --transfer.")
@click.option("--runtime", default="onnxruntime", help="Runtime of the timing and the evaluation.")
@click.option("--threads", default=1, help="Threads per timed inference.")
@click.option(
    "--control/--no-control", default=True, help="Also train the same student without the teacher, as the control."
)
@click.option("--max-drop", default=0.0, help="Maximum metric drop against the control; above it, exit code 3.")
@add_training_options()
@add_seed_options
@add_result_options("edgewright.distil/1")
def distill(**given: Any) -> None:
    """Distill a large network into a small one.

    The result is compared with the control: the same small network, trained for the same steps without the teacher.
    """
    from edgewright.api.convert import distill as run
    from edgewright.api.plans import plan_distillation
    from edgewright.flows.distill.flow import check_plan

    check_code(given)
    if given["dry_run"]:
        print_plan(plan_distillation(read_given(given)), check_plan)
        return
    run_training(run, _show, given)


def _show(result: DistillResult) -> None:
    report = result.report
    print_answer(result.answer)
    show_table(result.table())
    for note in report.notes:
        print_message(note)
    if report.model:
        print_message(f"Student: {report.model}; PyTorch module: {report.module} with {report.weights}")
