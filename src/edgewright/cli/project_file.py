"""What `./edgewright.toml` may set: a folder that came from elsewhere chooses how things are measured, and no more.

It chooses no code, no host, no path outside of the folder, and nothing about the record. The list is one of what is
allowed, so that a new option stays refused until somebody decides; docs/configuration.md shows it, and a test holds the
two together. The reasons are in docs/decisions/0017-what-a-project-file-may-set.md.
"""

from pathlib import Path
from typing import Literal

import click

from edgewright.errors import ConfigError

FILE_NAME = "edgewright.toml"
SEE_DOCS = "docs/configuration.md lists what it may set"

# value: taken as it is. path: has to stay inside of the folder. data: such a path, or a function. model: such a path,
# or a torch source. Functions and torch sources are code. options: of runtimes, none of which is a path.
SettingKind = Literal["value", "path", "data", "model", "options"]

_VALUES = """
    threads affinity runs seconds processes interleave shape seed warmup_seconds timeout layers layer_runs threshold
    power_w fail_on_fallback tag dry_run json runtime precision check samples bisect leave_out indices max_drop measure
    force integer_io qat control epochs batch lr schedule warmup optimizer momentum weight_decay label_smoothing clip
    train_precision patience checkpoint_s train_threads held_out report teach views method importance target_speedup
    target_bytes target_macs sparsity scope pattern multiple rounds round_epochs seeds temperature alpha transfer
    transfer_weight
"""
MAY_SET: dict[str, SettingKind] = {
    **dict.fromkeys(_VALUES.split(), "value"),
    **dict.fromkeys(
        ("inputs", "task", "recipe", "weights", "teacher_weights", "student_weights", "output", "html", "work_folder"),
        "path",
    ),
    **dict.fromkeys(("data", "eval_data", "val"), "data"),
    **dict.fromkeys(("teacher", "student"), "model"),
    "option": "options",
}
# The options that exist and are refused, with the reason.
MAY_NOT_SET = {
    "allow_code": "a file cannot allow its own code to run",
    "on": "it must not choose the device that models are sent to",
    "plan": "a plan names files and devices of its own",
    "host": "it must not choose who can reach the pages",
    "port": "it must not choose where the pages answer",
    "open": "it must not start a browser",
    "new_key": "it must not end the key that others have",
}
PATH_OPTIONS = ("weights",)  # options of compilers that are paths: there is a key of its own for them


def check_setting(table: str, key: str, value: object) -> None:
    """Raise ConfigError for what a project file must not set. Code is checked in `check_code`, with the command line.

    Args:
        value: of the type that the option takes; a list where it may be repeated.
    """
    location = f"{FILE_NAME}: [{table}] {key}"
    kind = MAY_SET.get(key)
    if kind is None:
        why = MAY_NOT_SET.get(key, "it is not in the list of what a file in the current folder may set")
        raise ConfigError(f"{location} is not taken from the current folder", why, _suggest_alternative(table, key))
    for one in value if isinstance(value, list) else [value]:
        if kind == "options":
            _check_option(location, str(one))
        elif kind != "value" and not is_code(kind, str(one)) and not (kind == "model" and str(one).startswith("auto:")):
            _check_inside(location, str(one))


def _suggest_alternative(table: str, key: str) -> str:
    """Return how users set themselves what a project file must not."""
    option = f"--{key.replace('_', '-')}"
    return f"remove it there, and use {option} on the command line or [{table}] in your own config file; {SEE_DOCS}"


def _check_option(location: str, text: str) -> None:
    name = text.partition("=")[0].strip().lower().replace("_", "-").rpartition(".")[2]
    if name in PATH_OPTIONS:
        raise ConfigError(f"{location} = {text!r} is not taken from the current folder", f"{name} is a path", SEE_DOCS)


def _check_inside(location: str, text: str) -> None:
    """Raise ConfigError for a path that leads out of the current folder, links followed."""
    here = Path.cwd().resolve()
    try:
        found = (here / text).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a zero byte, a loop of links
        raise ConfigError(f"{location} = {text!r} is no path", str(error), SEE_DOCS) from None
    if not found.is_relative_to(here):
        raise ConfigError(
            f"{location} = {text!r} leads out of the current folder",
            f"it is {found}; a folder that came from elsewhere must not reach your other files",
            f"name a path inside of {here}, or remove it there and use the command line or your own config file; "
            f"{SEE_DOCS}",
        )


def is_code(kind: SettingKind, text: str) -> bool:
    """Return whether a word of a kind names a function, or a torch source, which runs as code."""
    if kind == "data":
        from edgewright.tasks.spec.functions import is_function

        return is_function(text) and not Path(text).exists()
    if kind == "model":
        from edgewright.flows.compile.sources import is_torch

        return is_torch(text)
    return False


def is_from_project(context: click.Context, name: str) -> bool:
    """Return whether a parameter of the running command has its value from the project file."""
    named = context.meta.get(FILE_NAME, {}).get(context.command.name, frozenset())
    return name in named and context.get_parameter_source(name) is click.core.ParameterSource.DEFAULT_MAP
