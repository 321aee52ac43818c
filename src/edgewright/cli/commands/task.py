"""`edgewright task`: propose a task for a model, check and show a task."""

import click

from edgewright.cli.help.pages import HelpedGroup
from edgewright.cli.parse import PATH
from edgewright.cli.rendering.output import print_json, print_line, print_table


@click.group(cls=HelpedGroup)
def task() -> None:
    """Manage task files, which describe a model's inputs, outputs and metric: init, show."""


@task.command("init")
@click.argument("model", type=PATH, metavar="MODEL")
@click.option("-o", "--output", type=PATH, metavar="FILE.toml", help="Output file; default: stdout.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def init(model: str, output: str | None, force: bool) -> None:
    """Propose a task from a model's signature.

    Sizes, layouts and types come from the model. Check the scaling, resizing and metric: they are assumed.
    """
    from pathlib import Path

    from edgewright.cli.rendering.output import print_message
    from edgewright.flows.tasks.flow import propose_task_text, save_task

    text, doubts = propose_task_text(Path(model))
    if output is None:
        print_line(text.rstrip("\n"))
    else:
        save_task(Path(output), text, force=force)
        print_message(f"Wrote {output}.")
    for doubt in doubts:
        print_message(f"Check: {doubt}.")


@task.command("show")
@click.argument("file", type=PATH, metavar="FILE.toml")
@click.option("--model", type=PATH, help="Model to check the task against.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole task as one JSON object (edgewright.task/1).")
def show(file: str, model: str | None, as_json: bool) -> None:
    """Check a task file and show all its settings, including defaults."""
    from pathlib import Path

    from edgewright.flows.tasks.flow import list_task_fields, open_task

    read = open_task(Path(file), Path(model) if model else None)
    if as_json:
        print_json(read)
        return
    print_table(("key", "value"), list_task_fields(read))
