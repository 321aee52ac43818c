"""Lossless conversion of a run to and from JSON.

JSON has no NaN and infinities; samples and metrics that are not finite are the texts `"nan"`,
`"inf"` and `"-inf"`. Inside `plan`, `environment` and a device's facts, which are plain JSON, they become null.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from edgewright.schema.run import Run

_NUMBER_TEXTS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_NUMBER_FIELDS = {
    "metrics": ("value", "low", "high"),
    "layers": ("start_us", "median_us", "p90_us", "low_us", "high_us"),
}


def to_plain(run: Run) -> dict[str, Any]:
    """Convert a run to dicts, lists, texts and finite numbers."""
    plain: dict[str, Any] = msgspec.to_builtins(run)
    _replace_numbers(plain, _to_text)
    return plain


def from_plain(plain: dict[str, Any]) -> Run:
    """Convert plain values to a run. Raises msgspec.ValidationError if they are not a run."""
    _replace_numbers(plain, _to_number)
    return msgspec.convert(plain, Run)


def to_json(run: Run) -> bytes:
    """Return the run as canonical JSON: equal runs give equal bytes."""
    return msgspec.json.encode(to_plain(run), order="sorted")


def from_json(data: bytes) -> Run:
    """Parse a run. Raises msgspec.DecodeError if `data` is not a run."""
    return from_plain(msgspec.json.decode(data, type=dict[str, Any]))


def make_storable(run: Run) -> Run:
    """Return the run with texts that every database and file can store.

    NUL characters and invalid surrogates, for example from a crashed worker's output or a file name, become `␀` and
    `?`.
    """
    probe = (msgspec.structs.replace(run, series=()), [(series.name, series.unit) for series in run.series])
    try:
        clean = b"\\u0000" not in msgspec.json.encode(probe)
    except UnicodeEncodeError:
        clean = False
    if clean:
        return run
    return msgspec.convert(_replace_unstorable(msgspec.to_builtins(run)), Run)


def _replace_unstorable(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "␀").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_replace_unstorable(key): _replace_unstorable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_unstorable(item) for item in value]
    return value


def _replace_numbers(plain: dict[str, Any], change: Callable[[Any], Any]) -> None:
    for part, names in _NUMBER_FIELDS.items():
        for row in _iterate_rows(plain, part):
            row.update({name: change(row[name]) for name in names if name in row})
    for row in _iterate_rows(plain, "series"):
        if isinstance(row.get("data"), list | tuple):
            row["data"] = [change(sample) for sample in row["data"]]


def _iterate_rows(plain: dict[str, Any], part: str) -> Iterator[dict[str, Any]]:
    """Yield the dicts under a key of an untrusted file."""
    rows = plain.get(part)
    if isinstance(rows, list | tuple):
        yield from (row for row in rows if isinstance(row, dict))


def _to_text(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def _to_number(value: Any) -> Any:
    return _NUMBER_TEXTS.get(value, value) if isinstance(value, str) else value
