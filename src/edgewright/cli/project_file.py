"""Options that `./edgewright.toml` may set: a downloaded folder may choose how a model is measured, and no more.

It must not choose code, hosts, paths outside of the folder, or the store. The list names what is allowed, so that a
new option is rejected until somebody adds it. docs/configuration.md shows the list, and a test compares the two.
The reasons are in docs/decisions/0017-what-a-project-file-may-set.md.
"""

from pathlib import Path
from typing import Literal

import click

from edgewright.errors import ConfigError

FILE_NAME = "edgewright.toml"
SEE_DOCS = "docs/configuration.md lists what this file may set"

# value: no restriction. path: must be inside the folder. data: such a path, or a function. model: such a path, or a
# torch source. Functions and torch sources are code. options: runtime options, none of which is a path.
SettingKind = Literal["value", "path", "data", "model", "options"]

_VALUES = """
    threads affinity cores sustain rate cool_below phases
    runs seconds processes interleave shape fix seed warmup_seconds timeout layers layer_runs threshold
    power_w fail_on_fallback tag dry_run json runtime precision check samples bisect leave_out indices max_drop measure
    force integer_io qat control epochs batch lr schedule warmup optimizer momentum weight_decay label_smoothing clip
    train_precision patience checkpoint_s train_threads held_out report distill views method importance target_speedup
    target_bytes target_macs sparsity scope pattern multiple rounds round_epochs seeds temperature alpha transfer
    rank replay_ratio replay_weight
    transfer_weight goal undecided units prove find tiers model device_class minutes load ambient_c limit_c battery_wh
    link
"""
MAY_SET: dict[str, SettingKind] = {
    **dict.fromkeys(_VALUES.split(), "value"),
    **dict.fromkeys(
        (
            *("inputs", "task", "recipe", "weights", "teacher_weights", "student_weights", "output", "html"),
            *("work_folder", "baseline", "apply", "junit", "summary", "profile"),
        ),
        "path",
    ),
    **dict.fromkeys(("data", "eval_data", "val", "public", "replay"), "data"),
    **dict.fromkeys(("teacher", "student"), "model"),
    "option": "options",
}
# Options that must not be set, with the reason.
MAY_NOT_SET = {
    "copy": "this file must not turn the demo into a copy of its files",
    "allow_code": "a file must not allow its own code to run",
    "custom_ops": "the folder's code is compiled and runs",
    "on": "this file must not choose the device that models are sent to",
    "write": "this file must not turn a check into a new baseline",
    "plan": "a plan names its own files and devices",
    **dict.fromkeys(("policy", "scenario"), "this file must not turn each benchmark into one of a bundle"),
    "host": "this file must not choose who can reach the pages",
    "port": "this file must not choose the port of the pages",
    "open": "this file must not start a browser",
    "new_key": "this file must not replace the key that other machines use",
    "between": "this file must not choose the devices and servers that models are sent to",
    "levels": "the models of a routing are named on the command line",
    **dict.fromkeys(
        ("grpc_port", "allow_profile", "token_file", "tls_cert", "tls_key", "queue", "max_body_bytes", "limit"),
        "this file must not choose who can reach the server, and what it accepts",
    ),
}
PATH_OPTIONS = ("weights",)  # compiler options that are paths and have their own key


def check_setting(table: str, key: str, value: object) -> None:
    """Raise ConfigError for a setting that a project file must not have. `check_code` checks code.

    Args:
        value: value of the option's type; a list for a repeatable option.
    """
    location = f"{FILE_NAME}: [{table}] {key}"
    kind = MAY_SET.get(key)
    if kind is None:
        why = MAY_NOT_SET.get(
            key, "this option is not in the list of settings that a file in the current folder may have"
        )
        raise ConfigError(
            f"{location} must not be set by a file in the current folder", why, _suggest_alternative(table, key)
        )
    for one in value if isinstance(value, list) else [value]:
        if kind == "options":
            _check_option(location, str(one))
        elif kind != "value" and not is_code(kind, str(one)) and not (kind == "model" and str(one).startswith("auto:")):
            _check_inside(location, str(one))


def _suggest_alternative(table: str, key: str) -> str:
    """Return how a user sets an option that a project file must not set."""
    option = f"--{key.replace('_', '-')}"
    return f"remove it from the file, and use {option} or [{table}] in your user config file; {SEE_DOCS}"


def _check_option(location: str, text: str) -> None:
    name = text.partition("=")[0].strip().lower().replace("_", "-").rpartition(".")[2]
    if name in PATH_OPTIONS:
        raise ConfigError(f"{location} = {text!r} must not be set here", f"{name} is a path", SEE_DOCS)


def _check_inside(location: str, text: str) -> None:
    """Raise ConfigError for a path that, with links resolved, is outside of the current folder."""
    here = Path.cwd().resolve()
    try:
        found = (here / text).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a zero byte, a loop of links
        raise ConfigError(f"{location} = {text!r} is not a valid path", str(error), SEE_DOCS) from None
    if not found.is_relative_to(here):
        raise ConfigError(
            f"{location} = {text!r} is outside of the current folder",
            f"the path is {found}; a downloaded folder must not reach your other files",
            f"name a path inside of {here}, or use the command line or your user config file; {SEE_DOCS}",
        )


def is_code(kind: SettingKind, text: str) -> bool:
    """Return whether the value of an option names code: a function or a torch source."""
    if kind == "data":
        from edgewright.tasks.spec.functions import is_function

        return is_function(text) and not Path(text).exists()
    if kind == "model":
        from edgewright.flows.compile.sources import is_torch

        return is_torch(text)
    return False


def is_from_project(context: click.Context, name: str) -> bool:
    """Return whether a parameter of the running command takes its value from the project file."""
    named = context.meta.get(FILE_NAME, {}).get(context.command.name, frozenset())
    return name in named and context.get_parameter_source(name) is click.core.ParameterSource.DEFAULT_MAP
