"""Tables of results as data frames."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from edgewright.errors import RuntimeMissing

LIBRARIES = ("pandas", "polars")


def make_frame(rows: Iterable[Mapping[str, Any]]) -> Any:
    """Return a DataFrame of pandas, or of polars if only that is installed: one row each, nested keys with dots.

    Raises RuntimeMissing if neither is installed.
    """
    name = next((name for name in LIBRARIES if find_spec(name) is not None), None)
    if name is None:
        raise RuntimeMissing(
            "a data frame needs pandas or polars",
            "neither is installed; Edgewright does not depend on them",
            "pip install pandas; result.to_dict() has the same values without it",
        )
    flat = [dict(_flatten(row, "")) for row in rows]
    columns = list(dict.fromkeys(key for row in flat for key in row))
    return import_module(name).DataFrame({key: [row.get(key) for row in flat] for key in columns})


def _flatten(row: Mapping[str, Any], path: str) -> Iterable[tuple[str, Any]]:
    """Yield every value with its dotted name; lists of numbers as text, other lists are tables of their own."""
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{path}{key}.")
        elif isinstance(value, list) and value and all(isinstance(one, int | float) for one in value):
            yield f"{path}{key}", ",".join(map(str, value))
        elif not isinstance(value, list):
            yield f"{path}{key}", value
