"""`edgewright completion`."""

import click

from edgewright.cli.completion import SHELLS, make_script


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands, options, model files, runtimes and run ids in a shell.

    For bash, add this line to ~/.bashrc: eval "$(edgewright completion bash)"
    """
    click.echo(make_script(ctx.find_root().command, "edgewright", shell))
