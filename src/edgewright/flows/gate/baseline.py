"""The baseline: a small JSON file in the user's repository, with figures, options and goals. It is not trusted."""

import os
from collections.abc import Iterator
from contextlib import suppress
from math import isfinite
from pathlib import Path
from shlex import quote
from typing import Any

import msgspec
from msgspec import Struct

from edgewright.bench.statistics import Interval, make_exact
from edgewright.bench.verdict import LARGEST, SMALLEST
from edgewright.errors import ConfigError, EdgewrightError, UsageError
from edgewright.flows.gate.figures import TIMED
from edgewright.flows.stored_model import fetch_model
from edgewright.formats.artifacts import is_file_name
from edgewright.formats.files import read_model
from edgewright.store.store import Store
from edgewright.system.files import read_regular, write_atomically

SCHEMA = "edgewright.baseline/1"
MAX_BYTES = 1 << 20
MAX_FETCHED = 5  # runs that are tried for the bytes of a model
DIGITS = 6
FIGURES = ("bytes", *TIMED, "metric")


class GateOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Options of the measurement that were given, by their names on the command line; None has the default.

    Paths are relative to the folder of the baseline.
    """

    runtime: str | None = None
    option: tuple[str, ...] | None = None
    shape: dict[str, tuple[int, ...]] | None = None
    fix: dict[str, tuple[int | float, ...]] | None = None
    inputs: str | None = None
    seed: int | None = None
    threads: int | None = None
    runs: int | None = None
    seconds: float | None = None
    processes: int | None = None
    warmup_seconds: float | None = None
    timeout: float | None = None
    power_w: float | None = None
    task: str | None = None
    data: str | None = None
    samples: int | None = None


class BaselineFigure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A figure with its confidence interval; an exact one has none. `unit` is the first unit of the metric."""

    value: float
    low: float | None = None
    high: float | None = None
    confidence: float = 1.0
    unit: str = ""

    def to_interval(self) -> Interval:
        if self.confidence == 1.0:
            return make_exact(self.value)
        return Interval(value=self.value, low=self.low, high=self.high, confidence=self.confidence)


class Baseline(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of a baseline file.

    Attributes:
        model: file name of the model, which is looked for beside the baseline and, by its hash, in the store.
        device: name of the device, and the facts that times depend on.
        metric: of the task; empty without an evaluation.
        figures: by the metrics of `schema.goals`.
    """

    schema: str = SCHEMA
    model: str
    model_sha256: str
    runtime: str
    precision: str
    device: dict[str, Any]
    date: str
    edgewright: str
    goals: str = ""
    metric: str = ""
    data_fingerprint: str = ""
    options: GateOptions
    figures: dict[str, BaselineFigure]


def read_baseline(path: Path) -> Baseline:
    """Return the content of a baseline file. Raises UsageError without a file, ConfigError for an invalid one."""
    write = f"edgewright gate MODEL --baseline {quote(str(path))} --write"
    try:
        data = read_regular(path, MAX_BYTES)
    except FileNotFoundError:
        raise UsageError(f"there is no baseline {path}", "a model is compared with a baseline", write) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read as a baseline", error.strerror or str(error), write) from None
    try:
        found = msgspec.json.decode(data, type=Baseline)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not a baseline", str(error), f"restore the file, or write it: {write}") from None
    if found.schema != SCHEMA:
        hint = f"install the Edgewright that wrote it, or write it again: {write}"
        raise ConfigError(f"{path} has schema {found.schema[:80]}", f"this version reads {SCHEMA}", hint)
    if wrong := next(filter(None, (_find_problem(name, one) for name, one in found.figures.items())), ""):
        raise ConfigError(f"{path} is not a baseline", wrong, f"restore the file, or write it: {write}")
    return found


def _find_problem(name: str, figure: BaselineFigure) -> str:
    """Return the first error of a figure; empty without one."""
    if name not in FIGURES:
        return f"{name[:80]!r} is none of the figures {', '.join(FIGURES)}"
    known = [one for one in (figure.low, figure.value, figure.high) if one is not None]
    if not all(map(isfinite, (figure.confidence, *known))):
        return f"{name} is not finite"
    if not 0 <= figure.confidence <= 1:
        return f"the confidence of {name} is not between 0 and 1"
    if name != "metric" and min(known) <= 0:
        return f"{name} is not positive"
    if max(map(abs, known)) > LARGEST or (name != "metric" and min(known) < SMALLEST):
        return f"{name} is not between {SMALLEST} and {LARGEST}"
    return "" if known == sorted(known) else f"{name} is outside of its interval"


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write the file with one fact per line. Raises OutputError."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(baseline), indent=2) + b"\n", follow=True)


def make_figure(interval: Interval, unit: str) -> BaselineFigure:
    """Return a figure with six digits, so that a change of the file is easy to read."""
    if interval.confidence == 1.0:
        return BaselineFigure(value=interval.value, unit=unit)
    low, high = (None if one is None else _shorten(one) for one in (interval.low, interval.high))
    confidence = round(interval.confidence, 4)
    return BaselineFigure(value=_shorten(interval.value), low=low, high=high, confidence=confidence, unit=unit)


def _shorten(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def describe_device(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the name of a device with the facts that must be equal if times of two sessions are compared."""
    return {"name": name, **{key: facts[key] for key in ("model", "machine", "logical_cores") if key in facts}}


def find_model(baseline: Baseline, path: Path, model: Path, store: Store, folder: Path) -> Path | None:
    """Return the file of the baseline's model: beside the baseline, the given model, or from the store into `folder`.

    None if there is none with the baseline's hash.
    """
    beside = [path.parent / baseline.model] if is_file_name(baseline.model) else []
    for one in (*beside, model):
        if _has_hash(one, baseline.model_sha256):
            return one
    return next(_fetch_models(baseline.model_sha256, store, folder), None)


def _has_hash(path: Path, sha256: str) -> bool:
    try:
        return read_model(path).sha256 == sha256
    except EdgewrightError:
        return False


def _fetch_models(sha256: str, store: Store, folder: Path) -> Iterator[Path]:
    for run_id in store.list_runs_with_file(sha256, MAX_FETCHED):
        with suppress(EdgewrightError):  # another run may still have the bytes
            yield fetch_model(store.load(run_id), store, folder)


def relate_path(text: str, baseline: Path) -> str:
    """Return a path that the user gave, relative to the folder of the baseline, with `/` between its parts."""
    try:
        return Path(os.path.relpath(text, baseline.absolute().parent)).as_posix()
    except ValueError:  # another drive of Windows
        return text


def is_reachable(text: str, baseline: Path) -> bool:
    """Return whether a path, relative to the folder of the baseline, is inside of that or of the current folder."""
    found = (baseline.parent / text).resolve()
    return any(found.is_relative_to(root) for root in (baseline.parent.resolve(), Path.cwd()))


def resolve_path(text: str, key: str, baseline: Path) -> str:
    """Return a path that the baseline names. ConfigError if it is not reachable."""
    what = f"{baseline}: {key} = {text[:200]!r}"
    try:
        if is_reachable(text, baseline):
            return str(baseline.parent / text)
    except (OSError, ValueError, RuntimeError) as error:  # a zero byte, a loop of links
        raise ConfigError(f"{what} is not a valid path", str(error), f"give --{key}") from None
    why = "a downloaded file must not reach your other files"
    raise ConfigError(f"{what} is outside of the baseline's and the current folder", why, f"give --{key}")
