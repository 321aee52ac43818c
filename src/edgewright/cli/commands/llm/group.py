"""`edgewright llm`."""

import click

from edgewright.cli.commands.llm.benchmark import benchmark
from edgewright.cli.commands.llm.chat import chat
from edgewright.cli.commands.llm.compile import compile_command
from edgewright.cli.commands.llm.evaluate import evaluate
from edgewright.cli.commands.llm.fit import fit
from edgewright.cli.help.pages import HelpedGroup


@click.group(cls=HelpedGroup)
def llm() -> None:
    """Language models: convert them, compare their quality and speed, find what fits, and talk to them."""


for command in (compile_command, evaluate, benchmark, fit, chat):
    llm.add_command(command)
