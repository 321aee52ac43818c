"""Defaults from config files: `./edgewright.toml` over the user's own file.

A config file has one table per command, whose keys are the command's options, and a table `[store]`. What is given
on the command line or in the environment takes precedence: flag > `EDGEWRIGHT_*` > `./edgewright.toml` > user file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click

from edgewright.api.settings import (
    DOCS_HINT,
    STORE_KEYS,
    check_store_table,
    find_user_config,
    read_config_tables,
)
from edgewright.cli.project_file import FILE_NAME, check_setting
from edgewright.cli.registry import COMMANDS, FORMER_NAMES, find_command, list_options
from edgewright.errors import ConfigError
from edgewright.schema.vocabulary import FORMER_OPTIONS


def _find_config_files(environ: Mapping[str, str]) -> list[Path]:
    """Return the existing config files, the one with the highest precedence last."""
    return [path for path in (find_user_config(environ), Path(FILE_NAME)) if path.is_file()]


class Config(NamedTuple):
    """Merged content of all config files.

    Attributes:
        tables: options by command, merged key by key.
        project: keys of each table that `./edgewright.toml` sets.
    """

    tables: dict[str, dict[str, Any]]
    project: dict[str, frozenset[str]]


def load_config(environ: Mapping[str, str]) -> Config:
    """Return the merged config; raise ConfigError for an unknown table or key, or one that must not be set there."""
    merged = Config({}, {})
    for path in _find_config_files(environ):
        for name, table in _read_config(path).items():
            merged.tables.setdefault(name, {}).update(table)
            if path == Path(FILE_NAME):
                merged.project[name] = frozenset(table)
    return merged


def _read_config(path: Path) -> dict[str, dict[str, Any]]:
    tables = read_config_tables(path)
    current = {former: name for name, former in FORMER_NAMES.items()}
    names = {name: current.get(name, name.replace("-", "_")) for name in tables}
    return {names[name]: _check_table(path, names[name], table) for name, table in tables.items()}


def _check_table(path: Path, name: str, table: object) -> dict[str, Any]:
    """Return the table with click's parameter names; raise ConfigError for an unknown key or a wrong type."""
    known = list_known_keys()
    if name == "store" and path == Path(FILE_NAME):
        raise ConfigError(
            f"{path}: [store] must not be set by a file in the current folder",
            "a downloaded folder must not choose where your runs and models are stored",
            "move it to your user config file, or set EDGEWRIGHT_HOME",
        )
    if name not in known or not isinstance(table, dict):
        raise ConfigError(f"{path}: unknown table '{name}'", f"known tables: {', '.join(known)}", DOCS_HINT)
    if name == "store":
        return check_store_table(path, table)
    plain = {key.replace("-", "_"): value for key, value in table.items()}
    plain = {key if key in known[name] else FORMER_OPTIONS.get(key, key): value for key, value in plain.items()}
    if unknown := plain.keys() - set(known[name]):
        raise ConfigError(
            f"{path}: [{name}] has no key '{min(unknown)}'",
            f"known keys: {', '.join(known[name])}",
            DOCS_HINT,
        )
    options = _list_command_options(name)
    location = f"{path}: [{name}]"
    fitted = {key: _convert_value(location, key, options[key], value) for key, value in plain.items()}
    if path == Path(FILE_NAME):
        for key, value in fitted.items():
            check_setting(name, key, value)
    return {str(options[key].name): value for key, value in fitted.items()}


def _convert_value(location: str, key: str, option: click.Option, value: object) -> object:
    """Return the value as click expects it: a list for a repeatable option, else the value itself."""
    values = value if option.multiple and isinstance(value, list) else [value]
    if not all(
        isinstance(one, _list_value_types(option)) and isinstance(one, bool) == option.is_flag for one in values
    ):
        raise ConfigError(f"{location}: wrong type in {key} = {value!r}", f"the option means: {option.help}")
    return values if option.multiple else value


def _list_value_types(option: click.Option) -> tuple[type, ...]:
    if option.is_flag:
        return (bool,)
    if isinstance(option.type, click.Path):  # click would accept a number as a file descriptor
        return (str,)
    return {"integer": (int,), "float": (int, float), "percent": (int, float)}.get(option.type.name, (str, int))


def list_known_keys() -> dict[str, tuple[str, ...]]:
    """Return every valid table with its keys: the options of each command, and the settings of the store."""
    tables = {name: tuple(_list_command_options(name)) for name in COMMANDS}
    return {"store": STORE_KEYS, **{name: keys for name, keys in tables.items() if keys}}


def _list_command_options(name: str) -> dict[str, click.Option]:
    """Return the options of a command by their config keys; empty for a group."""
    command = find_command(name)
    return {} if command is None or isinstance(command, click.Group) else list_options(command)


def make_command_defaults(config: Config) -> dict[str, Any]:
    """Return click's `default_map`: one mapping of defaults per command."""
    return {name: table for name, table in config.tables.items() if name != "store"}
