"""`edgewright distil`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.code import check_code, read_task
from edgewright.cli.parse import PATH
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

if TYPE_CHECKING:
    from edgewright.flows.distill.report import DistillReport
    from edgewright.schema.plan import DistillPlan


@click.command()
@click.option("--teacher", default=None, metavar="MODEL", help="FILE.py:FACTORY, or a model file; needed.")
@click.option("--teacher-weights", type=PATH, default=None, help="Weights of a torch teacher.")
@click.option("--student", default=None, metavar="MODEL", help="FILE.py:FACTORY, or auto:5x; needed.")
@click.option("--student-weights", type=PATH, default=None, help="Weights that the student starts from.")
@click.option(
    "--task", "task_file", type=PATH, default=None, metavar="FILE.toml", help="What the model is for; needed."
)
@click.option("--data", default=None, metavar="DATA", help="What the student learns from, with or without labels.")
@click.option("--val", default=None, metavar="DATA", help="What judges the result, and nothing else; needed.")
@add_distillation_options
@click.option(
    "--transfer",
    type=click.Choice(("none", "features", "attention")),
    default="none",
    show_default=True,
    help="What of the teacher's inside is taught too.",
)
@click.option("--transfer-weight", type=float, default=1.0, show_default=True, help="Weight of that loss.")
@click.option("--runtime", default="onnxruntime", show_default=True, help="That all are timed and judged in.")
@click.option("--threads", type=int, default=1, show_default=True, help="Threads of the timed inferences.")
@click.option(
    "--control/--no-control",
    default=True,
    show_default=True,
    help="Train the same student without the teacher, and compare with it.",
)
@click.option(
    "--max-drop",
    type=float,
    default=0.0,
    show_default=True,
    help="Exit 3 where the student is worse than its control by more.",
)
@add_training_options
@add_seed_options
@add_result_options("edgewright.distil/1")
def distill(**given: Any) -> None:
    """Teach a small network by a big one.

    The result is told against the same small network trained for the same steps without the teacher.
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
            raise UsageError(f"{flag} is missing", "a student is not taught without it", "see docs/distill.md")
    task, code = read_task(given)
    return DistillPlan(
        teacher=given["teacher"],
        teacher_weights=given["teacher_weights"],
        student=given["student"],
        student_weights=given["student_weights"],
        runtime=find_runtime(given["runtime"]).name,
        task=msgspec.to_builtins(task),
        code=code,
        data=given["data"],
        val=given["val"],
        temperature=given["temperature"],
        alpha=given["alpha"],
        transfer=given["transfer"],
        transfer_weight=given["transfer_weight"],
        views=given["views"],
        settings=read_settings(given),
        held_out=given["held_out"],
        seeds=given["seeds"],
        control=given["control"],
        max_drop=given["max_drop"],
        threads=given["threads"],
        shapes=dict(given["shapes"]),
        timeout_s=given["timeout_s"],
    )


def _show(report: DistillReport) -> None:
    show_networks(report.sides)
    show_comparisons("student", report.against, report.speedup)
    for note in report.notes:
        print_message(note)
    if report.model:
        print_message(f"The student: {report.model}; as torch: {report.module} with {report.weights}")
