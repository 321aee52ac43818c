"""`edgewright completion`: scripts for shells, and the manual page."""

import click

from edgewright.cli.completion import SHELLS, make_script
from edgewright.cli.help.pages import HelpedCommand

MANUAL = "man"


@click.command(cls=HelpedCommand)
@click.argument("shell", type=click.Choice((*SHELLS, MANUAL)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands, options, model files, runtimes and run ids in a shell.

    For bash, add this line to ~/.bashrc: eval "$(edgewright completion bash)". With `man`, print the manual page.
    """
    root = ctx.find_root().command
    if shell == MANUAL:
        from edgewright.cli.help.manual import make_manual

        assert isinstance(root, click.Group)  # noqa: S101 - the program has commands
        click.echo(make_manual(root), nl=False)
        return
    click.echo(make_script(root, "edgewright", shell))
