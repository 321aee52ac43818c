"""`edgewright distill`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import click

from edgewright.cli.code import check_code, read_task
from edgewright.cli.parse import PATH, make_plan
from edgewright.cli.rendering.output import print_message
from edgewright.cli.training import (
    add_distillation_options,
    add_result_options,
    add_seed_options,
    add_training_options,
    read_settings,
    run_training_command,
    show_comparisons,
    show_networks,
)
from edgewright.schema.vocabulary import TransferLoss

if TYPE_CHECKING:
    from edgewright.flows.distill.report import DistillReport
    from edgewright.schema.plan import DistillPlan


@click.command()
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
@add_training_options
@add_seed_options
@add_result_options("edgewright.distil/1")
def distill(**given: Any) -> None:
    """Distill a large network into a small one.

    The result is compared with the control: the same small network, trained for the same steps without the teacher.
    """
    from edgewright.flows.distill.flow import check_plan
    from edgewright.flows.distill.flow import distill as run

    check_code(given)
    run_training_command(check_plan, run, _make_plan(given), given, _show)


def _make_plan(given: dict[str, Any]) -> DistillPlan:
    import msgspec

    from edgewright.errors import UsageError
    from edgewright.runtimes.table import find_runtime
    from edgewright.schema.plan import DistillPlan

    needed = {"teacher": "--teacher", "student": "--student", "task_file": "--task", "data": "--data", "val": "--val"}
    for name, flag in needed.items():
        if not given[name]:
            raise UsageError(f"{flag} is missing", "distillation requires it", "see docs/distill.md")
    task, code = read_task(given)
    return make_plan(
        DistillPlan,
        given,
        runtime=find_runtime(given["runtime"]).name,
        task=msgspec.to_builtins(task),
        code=code,
        settings=read_settings(given),
    )


def _show(report: DistillReport) -> None:
    show_networks(report.sides)
    show_comparisons("student", report.against, report.speedup)
    for note in report.notes:
        print_message(note)
    if report.model:
        print_message(f"Student: {report.model}; PyTorch module: {report.module} with {report.weights}")
