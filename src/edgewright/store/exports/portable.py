"""A whole run as JSON that any tool can read, and back without loss.

JSON has no word for NaN and the infinities; samples and metrics that are not finite stand as the texts `"nan"`,
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
    """The run as dicts, lists, texts and finite numbers."""
    plain: dict[str, Any] = msgspec.to_builtins(run)
    _replace_numbers(plain, _to_text)
    return plain


def from_plain(plain: dict[str, Any]) -> Run:
    """The run again. Raises msgspec.ValidationError where `plain` is no run."""
    _replace_numbers(plain, _to_number)
    return msgspec.convert(plain, Run)


def to_json(run: Run) -> bytes:
    """The same run gives the same bytes."""
    return msgspec.json.encode(to_plain(run), order="sorted")


def from_json(data: bytes) -> Run:
    """Raises msgspec.DecodeError where `data` is no run."""
    return from_plain(msgspec.json.decode(data, type=dict[str, Any]))


def make_storable(run: Run) -> Run:
    """The run with texts that every database and file can hold.

    NUL characters and halves of surrogate pairs, which the output of a crashed worker or an odd file name can
    bring along, become `␀` and `?`: a finished run is not lost for a character.
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
    """The dicts under a key, whatever else a hostile file may have put there."""
    rows = plain.get(part)
    if isinstance(rows, list | tuple):
        yield from (row for row in rows if isinstance(row, dict))


def _to_text(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def _to_number(value: Any) -> Any:
    return _NUMBER_TEXTS.get(value, value) if isinstance(value, str) else value
