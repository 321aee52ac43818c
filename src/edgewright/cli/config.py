"""Defaults from config files: `./edgewright.toml` over the user's own file.

A config file has one table per command, whose keys are the command's options, and a table `[store]`. What is given
on the command line or in the environment goes before it: flag > `EDGEWRIGHT_*` > `./edgewright.toml` > user file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click

from edgewright.cli.project_file import FILE_NAME, check_setting
from edgewright.cli.registry import COMMANDS, FORMER_NAMES, find_command, list_options
from edgewright.errors import ConfigError
from edgewright.formats.toml import TomlError, read_toml

STORE_KEYS = ("home", "database_url", "blob_url")


def _find_config_files(environ: Mapping[str, str]) -> list[Path]:
    """The config files in use, the strongest last."""
    folder = environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return [path for path in (Path(folder) / "edgewright" / "config.toml", Path(FILE_NAME)) if path.is_file()]


class Config(NamedTuple):
    """All config files together.

    Attributes:
        tables: merged key by key.
        project: of each table the keys that `./edgewright.toml` sets.
    """

    tables: dict[str, dict[str, Any]]
    project: dict[str, frozenset[str]]


def load_config(environ: Mapping[str, str]) -> Config:
    """Return what the config files say; ConfigError for what is no table or no key, or must not be set there."""
    merged = Config({}, {})
    for path in _find_config_files(environ):
        for name, table in _read_config(path).items():
            merged.tables.setdefault(name, {}).update(table)
            if path == Path(FILE_NAME):
                merged.project[name] = frozenset(table)
    return merged


def _read_config(path: Path) -> dict[str, dict[str, Any]]:
    try:
        tables, _ = read_toml(path)
    except (OSError, TomlError) as error:
        raise ConfigError(f"{path} cannot be read", str(error), "see docs/configuration.md") from None
    current = {former: name for name, former in FORMER_NAMES.items()}
    names = {name: current.get(name, name.replace("-", "_")) for name in tables}
    return {names[name]: _check_table(path, names[name], table) for name, table in tables.items()}


def _check_table(path: Path, name: str, table: object) -> dict[str, Any]:
    """The table with click's names for its keys; ConfigError for a key or a value that no command takes."""
    known = list_known_keys()
    if name == "store" and path == Path(FILE_NAME):
        raise ConfigError(
            f"{path}: [store] is not taken from the current folder",
            "a folder that came from elsewhere must not decide where your runs and models go",
            "put it into your own config file, or set EDGEWRIGHT_HOME",
        )
    if name not in known or not isinstance(table, dict):
        raise ConfigError(
            f"{path}: '{name}' is not known", f"known tables: {', '.join(known)}", "see docs/configuration.md"
        )
    plain = {key.replace("-", "_"): value for key, value in table.items()}
    if unknown := plain.keys() - set(known[name]):
        raise ConfigError(
            f"{path}: [{name}] has no key '{min(unknown)}'",
            f"known keys: {', '.join(known[name])}",
            "see docs/configuration.md",
        )
    if name == "store":
        return plain
    options = _list_command_options(name)
    location = f"{path}: [{name}]"
    fitted = {key: _convert_value(location, key, options[key], value) for key, value in plain.items()}
    if path == Path(FILE_NAME):
        for key, value in fitted.items():
            check_setting(name, key, value)
    return {str(options[key].name): value for key, value in fitted.items()}


def _convert_value(location: str, key: str, option: click.Option, value: object) -> object:
    """The value as click takes it: an option that may be repeated has a list, and a single value stands for one."""
    values = value if option.multiple and isinstance(value, list) else [value]
    if not all(
        isinstance(one, _list_value_types(option)) and isinstance(one, bool) == option.is_flag for one in values
    ):
        raise ConfigError(f"{location} cannot take {key} = {value!r}", f"it is of another type: {option.help}")
    return values if option.multiple else value


def _list_value_types(option: click.Option) -> tuple[type, ...]:
    if option.is_flag:
        return (bool,)
    if isinstance(option.type, click.Path):  # a number would be taken for an open file
        return (str,)
    return {"integer": (int,), "float": (int, float), "percent": (int, float)}.get(option.type.name, (str, int))


def list_known_keys() -> dict[str, tuple[str, ...]]:
    """Every table and key that a config file may have: each command's options, and the store's places."""
    tables = {name: tuple(_list_command_options(name)) for name in COMMANDS}
    return {"store": STORE_KEYS, **{name: keys for name, keys in tables.items() if keys}}


def _list_command_options(name: str) -> dict[str, click.Option]:
    """The options of a command by their keys; of a group there are none."""
    command = find_command(name)
    return {} if command is None or isinstance(command, click.Group) else list_options(command)


def make_command_defaults(config: Config) -> dict[str, Any]:
    """What click takes as defaults, one mapping per command."""
    return {name: table for name, table in config.tables.items() if name != "store"}


def load_store_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """`home`, `database_url` and `blob_url` where they are set, by environment or config file."""
    table = load_config(environ).tables.get("store", {})
    for key in STORE_KEYS:
        if value := environ.get(f"EDGEWRIGHT_{key.upper()}"):
            table[key] = value
    return {key: str(value) for key, value in table.items()}
