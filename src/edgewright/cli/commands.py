"""Which commands there are, and what their options are called in config files and the environment."""

from importlib import import_module

import click

COMMANDS = {
    "doctor": "edgewright.cli.doctor",
    "demo": "edgewright.cli.demo",
    "analyze": "edgewright.cli.analyze",
    "compile": "edgewright.cli.compile",
    "quantize": "edgewright.cli.quantize",
    "prune": "edgewright.cli.prune",
    "distil": "edgewright.cli.distil",
    "invoke": "edgewright.cli.invoke",
    "task": "edgewright.cli.task",
    "evaluate": "edgewright.cli.evaluate",
    "benchmark": "edgewright.cli.benchmark",
    "compare": "edgewright.cli.compare",
    "runs": "edgewright.cli.runs",
    "runtimes": "edgewright.cli.runtimes",
    "ui": "edgewright.cli.ui",
}
ALIASES = {"profile": "benchmark", "bench": "benchmark"}


def normal(word: str) -> str:
    """Options and commands may be written with `-` or `_`."""
    return word.replace("_", "-")


def find_command(word: str) -> click.Command | None:
    """The command that is meant, its file imported now; None where there is none."""
    name = ALIASES.get(normal(word), normal(word))
    if name not in COMMANDS:
        return None
    command: click.Command = getattr(import_module(COMMANDS[name]), name)
    name_variables(command, f"EDGEWRIGHT_{name.upper()}")
    return command


def options_of(command: click.Command) -> dict[str, click.Option]:
    """The options of a command by their long names, with `_` for `-`: the keys of a config file."""
    options = [param for param in command.params if isinstance(param, click.Option)]
    long = [next(name for name in option.opts if name.startswith("--")) for option in options]
    return {name.removeprefix("--").replace("-", "_"): option for name, option in zip(long, options, strict=True)}


def name_variables(command: click.Command, prefix: str) -> None:
    """Name every option's variable: EDGEWRIGHT_BENCHMARK_THREADS, EDGEWRIGHT_RUNS_LIST_LIMIT."""
    for key, option in options_of(command).items():
        option.envvar = f"{prefix}_{key.upper()}"
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            name_variables(inner, f"{prefix}_{name.upper()}")
