"""A family of models (a source and all that was made of it) as a matrix of runtime and precision, and what to ship."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import msgspec
from msgspec import Struct

from edgewright.bench.statistics import Interval
from edgewright.bench.trust import TrustLevel
from edgewright.bench.verdict import MIN_CONFIDENCE, find_difference
from edgewright.report.numbers import format_value, get_unit, join_words, name_metric
from edgewright.runtimes.table import TABLE
from edgewright.schema.metrics import METRICS, get_metric_info
from edgewright.schema.run import Metric
from edgewright.schema.vocabulary import Verdict
from edgewright.store.runs.browse import ModelRow
from edgewright.store.runs.queries import RunSummary

Verdicts = Mapping[tuple[str, str], Verdict]
NO_VERDICTS: Verdicts = MappingProxyType({})
CellKey = tuple[str, str]  # model id and runtime


class Cell(Struct, frozen=True, kw_only=True):
    """One artifact in one runtime, with its newest benchmark.

    Attributes:
        p50_us, p50_low, p50_high: median latency in microseconds with its interval; None if it was not measured.
        trust, trust_causes, spread: how far the latency can be trusted (`bench.trust`).
        session: id of the session that measured it.
        rank: 1 + the number of cells of the session that are shown to be faster; None in a stale cell.
        stale: whether another session than the matrix's measured it.
        quality: the family's quality metric; None if it was not evaluated.
        loses: whether the quality is shown to be worse than the source's; None if that is not known.
    """

    model_id: str
    model: str
    runtime: str
    precision: str
    bytes: int
    run_id: str | None
    p50_us: float | None
    p50_low: float | None
    p50_high: float | None
    trust: TrustLevel | None
    trust_causes: tuple[str, ...]
    spread: float | None
    session: str | None
    rank: int | None
    stale: bool
    quality: Metric | None
    loses: bool | None


class Matrix(Struct, frozen=True, kw_only=True):
    """All cells of a family, measured ones of the session first, and the sentence that says what to ship."""

    answer: str
    session: str | None
    quality: str
    cells: tuple[Cell, ...]


class Family(NamedTuple):
    """What the store knows of a family.

    Attributes:
        models: by id; `source` is the id of the float model that all others were made of.
        benchmarks: of one device, the newest first.
        qualities: metrics by model and runtime.
        verdicts: of the runs of one session, by reference and compared run (`flows.benchmark.comparison`).
    """

    models: Mapping[str, ModelRow]
    source: str
    benchmarks: Sequence[RunSummary]
    qualities: Mapping[CellKey, Mapping[str, Metric]]
    verdicts: Verdicts = NO_VERDICTS


def make_matrix(family: Family, quality: str = "") -> Matrix:
    """Return the matrix. Its session is the newest of those that measured most of the cells.

    Args:
        quality: metric to show; by default the first of `METRICS` that most cells have.
    """
    sessions: dict[str, dict[CellKey, RunSummary]] = {}
    newest: dict[CellKey, RunSummary] = {}
    for run in family.benchmarks:
        if run.model_id is not None and run.model_id in family.models:
            key = (run.model_id, run.runtime)
            newest.setdefault(key, run)
            sessions.setdefault(run.parent_id or run.id, {}).setdefault(key, run)
    session = max(sessions, key=lambda one: len(sessions[one]), default=None)  # max keeps the first of equals
    chosen = sessions[session] if session else {}
    keys = dict.fromkeys([*newest, *(key for key in family.qualities if key[0] in family.models)])
    name = quality or _choose_quality([family.qualities.get(key, {}) for key in keys])
    cells = [_make_cell(family, key, chosen.get(key) or newest.get(key), session, name) for key in keys]
    answer, ranked = answer_cells(cells, name, family.verdicts)
    return Matrix(answer=answer, session=session, quality=name, cells=tuple(ranked))


def answer_cells(cells: Sequence[Cell], quality: str, verdicts: Verdicts = NO_VERDICTS) -> tuple[str, list[Cell]]:
    """Return what to ship, and the cells with their ranks: those of the session first, by latency."""
    ranked = _sort_cells(_rank_cells(cells, verdicts))
    return _make_answer(ranked, quality, verdicts), ranked


def _choose_quality(known: Iterable[Mapping[str, Metric]]) -> str:
    counts: dict[str, int] = {}
    for metrics in known:
        for name, metric in metrics.items():
            if metric.value is not None and get_metric_info(name).basis == "task":
                counts[name] = counts.get(name, 0) + 1
    return max((name for name in METRICS if name in counts), key=lambda name: counts[name], default="")


def _make_cell(family: Family, key: CellKey, run: RunSummary | None, session: str | None, quality: str) -> Cell:
    model, p50 = family.models[key[0]], run.metrics.get("latency.p50") if run else None
    trust = run.trust if run else None
    own = run.parent_id or run.id if run else None
    found = family.qualities.get(key, {}).get(quality)
    known = family.qualities.items()
    source = next((one[quality] for (model_id, _), one in known if model_id == family.source and quality in one), None)
    return Cell(
        model_id=model.id,
        model=model.name,
        runtime=key[1],
        precision=(run.precision if run else None) or model.precision or "",
        bytes=model.bytes,
        run_id=run.id if run else None,
        p50_us=p50.value if p50 else None,
        p50_low=p50.low if p50 else None,
        p50_high=p50.high if p50 else None,
        trust=trust.level if trust else None,
        trust_causes=trust.causes if trust else (),
        spread=trust.spread if trust else None,
        session=own,
        rank=None,
        stale=own != session,
        quality=found,
        loses=find_loss(found, source),
    )


def find_loss(metric: Metric | None, source: Metric | None) -> bool | None:
    """Return whether the metric is shown to be worse than the source's."""
    if metric is None or source is None or None in (metric.low, metric.high, source.low, source.high):
        return None
    first, second = (
        Interval(value=one.value or 0.0, low=one.low, high=one.high, confidence=MIN_CONFIDENCE)
        for one in (source, metric)
    )
    return find_difference(first, second) == ("lower" if get_metric_info(metric.name).better == "higher" else "higher")


def _is_shown_faster(one: Cell, other: Cell, verdicts: Verdicts) -> bool:
    """Return whether one cell of the session is shown to be faster: by their paired verdict, else by the intervals."""
    if verdict := verdicts.get((other.run_id or "", one.run_id or "")):
        return verdict == "faster"
    if verdict := verdicts.get((one.run_id or "", other.run_id or "")):
        return verdict == "slower"
    return find_difference(_read_latency(other), _read_latency(one)) == "lower"


def _read_latency(cell: Cell) -> Interval:
    confidence = 0.0 if cell.spread is None else MIN_CONFIDENCE
    return Interval(value=cell.p50_us or 0.0, low=cell.p50_low, high=cell.p50_high, confidence=confidence)


def _rank_cells(cells: Sequence[Cell], verdicts: Verdicts) -> list[Cell]:
    fresh = [cell for cell in cells if not cell.stale and cell.p50_us is not None]
    return [
        msgspec.structs.replace(cell, rank=1 + sum(_is_shown_faster(other, cell, verdicts) for other in fresh))
        if cell in fresh
        else cell
        for cell in cells
    ]


def _sort_cells(cells: Iterable[Cell]) -> list[Cell]:
    def order(cell: Cell) -> tuple[bool, float]:
        return cell.stale, cell.p50_us if cell.p50_us is not None else float("inf")

    return sorted(cells, key=order)


def _describe_cell(cell: Cell) -> str:
    """Return runtime and precision, as in `LiteRT w8a8`."""
    title = TABLE[cell.runtime].title if cell.runtime in TABLE else cell.runtime
    return f"{title} {cell.precision}".strip()


def _make_answer(cells: Sequence[Cell], quality: str, verdicts: Verdicts) -> str:
    """Return what to ship: the fastest cell of the session whose quality is not shown to be worse than the source's."""
    fresh = [cell for cell in cells if cell.rank is not None]
    if not fresh:
        return "Nothing of this family has been measured: benchmark its files together."
    without_loss = [cell for cell in fresh if not cell.loses]
    if not without_loss:
        return f"Nothing to ship: every measured file has a worse {name_metric(quality)} than the source."
    best = without_loss[0]
    first = f"Ship {_describe_cell(best)}: {_describe_latency(best)}, {_describe_quality(best)}, " + format_value(
        best.bytes, "bytes"
    )
    tied = [cell for cell in without_loss[1:] if not _is_shown_faster(best, cell, verdicts)]
    slower = [cell for cell in without_loss[1:] if _is_shown_faster(best, cell, verdicts)]
    rest = [f"No difference is shown to {join_words(_describe_cell(cell) for cell in tied)}."] if tied else []
    if slower:
        one = slower[0]
        rest.append(f"{_describe_cell(one)} is {(one.p50_us or 0.0) / (best.p50_us or 1.0):.2g}× slower.")
    return " ".join([f"{first}.", *rest])


def _describe_latency(cell: Cell) -> str:
    shown = format_value(cell.p50_us, "us")
    return shown if cell.trust == "high" else f"{shown} ({'; '.join(cell.trust_causes)})"


def _describe_quality(cell: Cell) -> str:
    if cell.quality is None:
        return "quality not evaluated"
    shown = f"{format_value(cell.quality.value, get_unit(cell.quality))} {name_metric(cell.quality.name)}"
    return f"{shown} ({'no loss shown' if cell.loses is False else 'not compared with the source'})"
