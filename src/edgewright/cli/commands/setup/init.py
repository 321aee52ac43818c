"""`edgewright init`."""

import click

from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import PATH


@click.command(cls=HelpedCommand)
@click.argument("model", type=PATH, metavar="MODEL")
@click.option("--force", is_flag=True, help="Overwrite existing files.")
def init(model: str, force: bool) -> None:
    """Write edgewright.toml and task.toml for a model into the current folder.

    edgewright.toml has the defaults of the commands as comments, task.toml describes the model's inputs, outputs and
    metric. Check the scaling, resizing and metric: they are assumed.
    """
    from pathlib import Path
    from shlex import quote

    from edgewright.cli.rendering.output import print_line, print_message
    from edgewright.flows.tasks.project import write_project

    project = write_project(Path(model), Path(), force=force)
    for path in project.files:
        print_line(str(path))
    for doubt in project.doubts:
        print_message(f"Check: {doubt}.")
    print_message(f"Next: edgewright compile {quote(model)}")
