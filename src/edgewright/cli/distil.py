"""`edgewright distil`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.output import print_json, progress, say
from edgewright.cli.parse import SHAPE
from edgewright.cli.training import (
    check_html,
    read_settings,
    seed_options,
    show_sides,
    show_verdicts,
    training_options,
    write_html,
)

if TYPE_CHECKING:
    from edgewright.facts.plan import DistilPlan
    from edgewright.flows.distillation import DistilReport


@click.command()
@click.option("--teacher", default=None, metavar="MODEL", help="FILE.py:FACTORY, or a model file; needed.")
@click.option("--teacher-weights", type=click.Path(), default=None, help="Weights of a torch teacher.")
@click.option("--student", default=None, metavar="MODEL", help="FILE.py:FACTORY, or auto:5x; needed.")
@click.option("--student-weights", type=click.Path(), default=None, help="Weights that the student starts from.")
@click.option(
    "--task", "task_file", type=click.Path(), default=None, metavar="FILE.toml", help="What the model is for; needed."
)
@click.option("--data", default=None, metavar="DATA", help="What the student learns from, with or without labels.")
@click.option("--val", default=None, metavar="DATA", help="What judges the result, and nothing else; needed.")
@click.option("--temperature", type=float, default=4.0, show_default=True, help="Both logits are divided by it.")
@click.option(
    "--alpha",
    type=float,
    default=0.9,
    show_default=True,
    help="Weight of the teacher's loss; that of the labels is the rest.",
)
@click.option(
    "--transfer",
    type=click.Choice(("none", "features", "attention")),
    default="none",
    show_default=True,
    help="What of the teacher's inside is taught too.",
)
@click.option("--transfer-weight", type=float, default=1.0, show_default=True, help="Weight of that loss.")
@click.option(
    "--views",
    type=int,
    default=4,
    show_default=True,
    help="Augmentations of each sample that the teacher is asked about.",
)
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
@training_options
@seed_options
@click.option("-o", "--output", type=click.Path(), default="artifacts", show_default=True, help="Folder of the result.")
@click.option(
    "--shape", "shapes", type=SHAPE, multiple=True, metavar="NAME=SIZES", help="Sizes of an input; default: the task's."
)
@click.option(
    "--timeout", "timeout_s", type=float, default=600.0, show_default=True, help="Longest silence of a worker, seconds."
)
@click.option("--html", type=click.Path(), default=None, metavar="FILE", help="Write the report as one HTML file.")
@click.option("--dry-run", is_flag=True, help="Print the plan, and train nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.distil/1).")
def distil(**given: Any) -> None:
    """Teach a small network by a big one.

    The result is told against the same small network trained for the same steps without the teacher.
    """
    plan = make_plan(given)
    if given["dry_run"]:
        print_json(plan)
        return
    run(plan, given["output"], given["html"], as_json=given["as_json"])


def make_plan(given: dict[str, Any]) -> DistilPlan:
    from pathlib import Path

    import msgspec

    from edgewright.errors import UsageError
    from edgewright.facts.plan import DistilPlan
    from edgewright.runtimes.table import runtime_info
    from edgewright.tasks.task import read_task

    needed = {"teacher": "--teacher", "student": "--student", "task_file": "--task", "data": "--data", "val": "--val"}
    for name, flag in needed.items():
        if not given[name]:
            raise UsageError(f"{flag} is missing", "a student is not taught without it", "see docs/distil.md")
    return DistilPlan(
        teacher=given["teacher"],
        teacher_weights=given["teacher_weights"],
        student=given["student"],
        student_weights=given["student_weights"],
        runtime=runtime_info(given["runtime"]).name,
        task=msgspec.to_builtins(read_task(Path(given["task_file"]))),
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


def run(plan: DistilPlan, output: str, html: str | None, *, as_json: bool) -> None:
    from contextlib import closing
    from pathlib import Path

    from edgewright.cli.places import open_user_store
    from edgewright.flows.device import open_device
    from edgewright.flows.distil import distil as run_distillation

    check_html(html)
    with closing(open_device("local")) as device, closing(open_user_store()) as store, progress() as tell:
        report, error = run_distillation(plan, Path(output), device, store, tell)
    if as_json:
        print_json(report)
    else:
        show(report)
    if html is not None:
        write_html(Path(html), report)
    if error is not None:
        raise error


def show(report: DistilReport) -> None:
    show_sides(report.sides)
    show_verdicts("student", report.against, report.speedup)
    for note in report.notes:
        say(note)
    if report.model:
        say(f"The student: {report.model}; as torch: {report.module} with {report.weights}")
