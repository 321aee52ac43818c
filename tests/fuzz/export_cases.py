"""Tampered exports of runs: values of `run.json` changed, with its hash in SHA256SUMS made anew.

A half of the changes aim at figures (series, metrics, layers), where a record that can be read gives pages that cannot
be drawn; the others put any value in any place.
"""

import copy
import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.fuzz.cases import Case
from tests.fuzz.damage_bytes import damage

Chance = random.Random
Place = tuple[str | int, ...]

SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
TEXTS = (
    "", "-", "%", "1", "us", SCRIPT, "=1+1", "A" * 100_000, "\u0000", "\u202e", "a\nb\r\nSet-Cookie: x=1", "nan",
    "\x1b[31m", "../../../victim/keep.bin", "../x", "/etc/passwd", "done", "running", "benchmark", "quantize", "prune",
    "distil", "evaluate", "compile", "9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00", "2099-01-01T00:00:00+00:00",
    "01M8MKTEKJ9V5544WAC44DRGHN", "resnet.py:build", "m.pt2", "model", "data:../x", "artifact:x",
)  # fmt: skip
NUMBERS = (0, -1, 1, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400, 1e308, -1e308, 5e-324, -0.0, 3.5)
FIGURES = ("inf", "-inf", "nan", -1.0, 0.0, 1e308, -1e308, 1e18, 0.5, 5e-324, 3.0, None)
LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
SHOWN = (
    [["runs", "show", "{run}"], ["runs", "list"]],
    [["runs", "show", "{run}", "--json"], ["runs", "list", "--json"]],
    [["compare", "{good}", "{run}"], ["compare", "{run}", "{good}", "--json"]],
    [["runs", "export", "{run}", "--html", "{out}/report.html"], ["runs", "export", "{run}", "{out}/again"]],
    [["runs", "export", "{run}", "--csv", "{out}/t.csv"], ["runs", "export", "{run}", "--chrome-trace", "{out}/t"]],
    [["runs", "export", "--site", "{out}/site"], ["runs", "export", "{run}", "--model-explorer", "{out}/t.json"]],
)  # fmt: skip


def fill(case: Case, chance: Chance, seeds: Path) -> None:
    """Give the case a tampered export, and the commands that import it and show what was taken in."""
    source = chance.choice(sorted((seeds / "exports").iterdir()))
    files = {path.relative_to(source).as_posix(): path.read_bytes() for path in source.rglob("*") if path.is_file()}
    record = json.loads(files["run.json"])
    record["run"]["id"] = record["run"]["id"][:20] + "".join(chance.choices(LETTERS, k=6))
    names = []
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        try:
            names.append(damage_record(record, chance))
        except (LookupError, TypeError, AttributeError):  # what an earlier change left has no such place
            names.append("nothing left to change")
    if chance.random() < 0.5:
        match_outputs(record)
    text = json.dumps(record).encode("utf-8", "surrogatepass")
    if chance.random() < 0.08:
        name, text = damage(text, chance)
        names.append(name)
    files["run.json"] = text
    sums = [line for line in files["SHA256SUMS"].decode().splitlines() if not line.endswith("  run.json")]
    files["SHA256SUMS"] = "\n".join([*sums, f"{hashlib.sha256(text).hexdigest()}  run.json", ""]).encode()
    case.label = f"{source.name}: {', '.join(names)}"
    case.files = {f"export/{name}": data for name, data in files.items()}
    shown = SHOWN[case.number % len(SHOWN)]
    case.commands = [["runs", "import", "export"], *shown, [":pages", str(case.number)]]
    if case.number % 5 == 0:
        case.commands.append(["runs", "import", "export"])


def damage_record(record: dict[str, Any], chance: Chance) -> str:
    """Change one place of the record; its name."""
    figures = [(*place,) for place, _ in walk(record["run"]) if place and place[0] in ("series", "metrics", "layers")]
    if figures and chance.random() < 0.5:
        return damage_figures(record["run"], chance)
    tops = [key for key in ("run", "artefacts", "schema") for _ in range({"run": 12}.get(key, 1)) if key in record]
    top = chance.choice(tops)
    branch: Any = record[top] if top != "schema" else record
    first = chance.choice(list(branch)) if isinstance(branch, dict) and branch else None
    places = [place for place, _ in walk(branch) if place and (first is None or place[0] == first)]
    if not places:
        record[top] = chance.choice((*TEXTS, *NUMBERS, None, [], {}))
        return top
    place = chance.choice(places)
    holder = branch
    for key in place[:-1]:
        holder = holder[key]
    if chance.random() < 0.15:
        del holder[place[-1]]
        return f"no {'.'.join(map(str, place))}"
    holder[place[-1]] = other_value(holder[place[-1]], chance)
    return f"{'.'.join(map(str, place))} = {str(holder[place[-1]])[:30]!r}"


def damage_figures(run: dict[str, Any], chance: Chance) -> str:
    kind = chance.choice([key for key in ("series", "metrics", "layers") if run.get(key)])
    row = chance.choice(run[kind])
    value: Any = chance.choice(FIGURES)
    if kind == "series":
        mixed = [chance.choice(FIGURES) for _ in range(20)]
        row["data"] = chance.choice(([value] * len(row["data"]), [value], [], mixed))
        return f"series {row['name']} = {value}"
    if kind == "metrics":
        key = chance.choice(("value", "low", "high", "n", "unit", "name"))
        row[key] = value if key in ("value", "low", "high") else chance.choice((0, -1, 2**62, "us", "bytes", "", "kHz"))
        return f"metric {row.get('name')} {key}"
    if chance.random() < 0.2:
        run["layers"] = run["layers"] * chance.choice((0, 2, 30))
        return "layers repeated"
    key = chance.choice(sorted(row))
    row[key] = value if key.endswith("_us") else other_value(row[key], chance)
    return f"layer {key} = {str(row[key])[:30]!r}"


def walk(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    yield place, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from walk(inner, (*place, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value[:30]):
            yield from walk(inner, (*place, i))


def other_value(value: Any, chance: Chance) -> Any:
    """Return a value of the same type mostly, else of any."""
    deep = nested(chance.choice((30, 330, 900)))
    anything = chance.choice((*TEXTS, *NUMBERS, None, True, [], {}, [1, 2], {"a": 1}, deep))
    if chance.random() < 0.35:
        return anything
    match value:
        case bool():
            return chance.choice((None, 1, "x", not value))
        case str():
            return chance.choice(TEXTS)
        case int() | float():
            return chance.choice((*NUMBERS, "nan", "inf", "-inf", None))
        case list():
            return chance.choice(([], value * 3, value[:1], value[::-1], [None]))
        case dict():
            return chance.choice(({}, {**value, SCRIPT: SCRIPT}, {**value, "extra": 1}, []))
    return anything


def nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def match_outputs(record: dict[str, Any]) -> None:
    """Keep the list of files in step with the run's outputs, so that more records get in."""
    outputs, listed = record["run"].get("outputs"), record.get("artefacts")
    if not isinstance(outputs, list) or not isinstance(listed, list):
        return
    rows = [dict(row) for row in outputs if isinstance(row, dict)]
    files = {str(row.get("sha256")): row.get("file") for row in listed if isinstance(row, dict)}
    record["artefacts"] = [
        {**{key: row.get(key) for key in ("role", "sha256", "bytes")}, "file": files.get(str(row.get("sha256")))}
        for row in copy.deepcopy(rows)
    ]
