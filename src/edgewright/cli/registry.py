"""The commands, and the names of their options in config files and environment variables."""

from importlib import import_module

import click

from edgewright.schema.vocabulary import FORMER_OPTIONS

COMMANDS = {
    "doctor": "edgewright.cli.commands.setup.doctor",
    "demo": "edgewright.cli.commands.setup.demo",
    "init": "edgewright.cli.commands.setup.init",
    "analyze": "edgewright.cli.commands.analyze",
    "compile": "edgewright.cli.commands.compile",
    "quantize": "edgewright.cli.commands.quantize",
    "prune": "edgewright.cli.commands.prune",
    "distill": "edgewright.cli.commands.distill",
    "invoke": "edgewright.cli.commands.invoke",
    "task": "edgewright.cli.commands.task",
    "evaluate": "edgewright.cli.commands.evaluate",
    "benchmark": "edgewright.cli.commands.benchmark",
    "compare": "edgewright.cli.commands.compare",
    "gate": "edgewright.cli.commands.gate",
    "llm": "edgewright.cli.commands.llm.group",
    "serve": "edgewright.cli.commands.field.serve",
    "place": "edgewright.cli.commands.field.place",
    "route": "edgewright.cli.commands.field.route",
    "split": "edgewright.cli.commands.field.split",
    "simulate": "edgewright.cli.commands.field.simulate",
    "bundle": "edgewright.cli.commands.field.bundle",
    "package": "edgewright.cli.commands.field.package",
    "policy": "edgewright.cli.commands.field.policy",
    "heat": "edgewright.cli.commands.field.heat",
    "federate": "edgewright.cli.commands.field.federate",
    "personalize": "edgewright.cli.commands.field.personalize",
    "runs": "edgewright.cli.commands.runs",
    "devices": "edgewright.cli.commands.setup.devices",
    "runtimes": "edgewright.cli.commands.setup.runtimes",
    "kernels": "edgewright.cli.commands.setup.kernels",
    "ui": "edgewright.cli.commands.ui",
    "completion": "edgewright.cli.commands.setup.completion",
}
ALIASES = {"profile": "benchmark", "bench": "benchmark", "distil": "distill"}
# Names that other tools have for a command; an error suggests the command.
OTHER_NAMES = {"convert": "compile", "export": "compile", "optimize": "quantize", "run": "invoke", "test": "evaluate"}
FORMER_NAMES = {"distill": "distil"}  # config tables and variables with these names are still read


def _normalize_word(word: str) -> str:
    """Return an option or command name with `-` for `_`."""
    return word.replace("_", "-")


def normalize_option(word: str) -> str:
    """Return an option name with `-` for `_`; of one with a former name, the present one."""
    word = _normalize_word(word)
    off = "no-" if word.startswith("no-") else ""
    return off + FORMER_OPTIONS.get(word.removeprefix(off), word.removeprefix(off))


def find_command(word: str) -> click.Command | None:
    """Import and return the command with this name or alias; None if there is none."""
    name = ALIASES.get(_normalize_word(word), _normalize_word(word))
    if name not in COMMANDS:
        return None
    command: click.Command = getattr(import_module(COMMANDS[name]), name)
    _name_variables(command, *(f"EDGEWRIGHT_{one.upper()}" for one in (name, FORMER_NAMES.get(name)) if one))
    return command


def list_options(command: click.Command) -> dict[str, click.Option]:
    """Return the options of a command by config key: the long name with `_` for `-`."""
    options = [param for param in command.params if isinstance(param, click.Option)]
    long = [next(name for name in option.opts if name.startswith("--")) for option in options]
    return {name.removeprefix("--").replace("-", "_"): option for name, option in zip(long, options, strict=True)}


def _name_variables(command: click.Command, *prefixes: str) -> None:
    """Set each option's environment variable, such as EDGEWRIGHT_RUNS_LIST_LIMIT."""
    for key, option in list_options(command).items():
        keys = [key, *(former for former, present in FORMER_OPTIONS.items() if present == key)]
        names = [f"{prefix}_{one.upper()}" for one in keys for prefix in prefixes]
        option.envvar = names if len(names) > 1 else names[0]
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            _name_variables(inner, *(f"{prefix}_{name.upper()}" for prefix in prefixes))
