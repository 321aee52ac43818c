"""Location of the user's store, from the environment or the user's config file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgewright.errors import ConfigError
from edgewright.formats.toml import TomlError, read_toml

STORE_KEYS = ("home", "database_url", "blob_url")
DOCS_HINT = "see docs/configuration.md"


def find_user_config(environ: Mapping[str, str]) -> Path:
    """Return the path of the user's config file, which need not exist."""
    folder = environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(folder) / "edgewright" / "config.toml"


def load_store_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `home`, `database_url` and `blob_url` if the environment or the user's config file sets them."""
    path = find_user_config(environ)
    settings = check_store_table(path, read_config_tables(path).get("store", {})) if path.is_file() else {}
    for key in STORE_KEYS:
        if value := environ.get(f"EDGEWRIGHT_{key.upper()}", "").strip():
            settings[key] = value
    return settings


def read_config_tables(path: Path) -> dict[str, Any]:
    """Return the tables of a config file; ConfigError if it cannot be read."""
    try:
        return read_toml(path)[0]
    except (OSError, TomlError) as error:
        raise ConfigError(f"{path} cannot be read", str(error), DOCS_HINT) from None


def check_store_table(path: Path, table: Any) -> dict[str, str]:
    """Return the settings of the table `[store]`; ConfigError for an unknown key or a value that is not text."""
    plain = {key.replace("-", "_"): value for key, value in table.items()} if isinstance(table, dict) else {"": table}
    if unknown := plain.keys() - set(STORE_KEYS):
        raise ConfigError(
            f"{path}: [store] has no key '{min(unknown)}'", f"known keys: {', '.join(STORE_KEYS)}", DOCS_HINT
        )
    if wrong := [key for key, value in plain.items() if not isinstance(value, str)]:
        what = f"{path}: [store]: wrong type in {wrong[0]} = {plain[wrong[0]]!r}"
        raise ConfigError(what, "the value must be text", f'write {wrong[0]} = "…"; {DOCS_HINT}')
    return plain
