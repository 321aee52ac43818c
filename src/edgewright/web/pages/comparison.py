"""Page that compares two to eight runs with the first one as the reference."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

from markupsafe import Markup
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from edgewright.bench.summary import read_chunk_medians
from edgewright.errors import RunNotFound, UsageError
from edgewright.flows.benchmark.comparison import compare_pair, get_session_id
from edgewright.flows.benchmark.report import make_row
from edgewright.report.charts.run import draw_strip_plot
from edgewright.report.numbers import get_unit
from edgewright.schema.metrics import METRICS, get_metric_info
from edgewright.schema.run import Comparison, Metric, Run
from edgewright.schema.units import show_ratio
from edgewright.store.store import Store
from edgewright.web.pages import figures
from edgewright.web.pages.layers import AlignedRow, align_layers
from edgewright.web.pages.run_detail import flatten
from edgewright.web.server.responses import make_csv_response, make_page_response, translate_display_errors
from edgewright.web.server.state import get_app_state

MIN_RUNS, MAX_RUNS = 2, 8
THRESHOLD = 0.02
LETTERS = "ABCDEFGH"
IGNORED_PLAN_KEYS = ("candidates", "inputs")  # paths and hashes, which always differ


class FigureCell(Struct, frozen=True, kw_only=True):
    """One figure of one run; `mark` is `faster` or `slower` (better or worse) if its interval does not overlap with
    that of the reference, else empty."""

    metric: Metric | None
    mark: str = ""


class FigureRow(Struct, frozen=True, kw_only=True):
    name: str
    title: str
    unit: str
    cells: tuple[FigureCell, ...]


def compare_page(request: Request) -> Response:
    runs = load_runs(request)
    if request.query_params.get("by") not in (None, "", "time"):
        raise UsageError("unknown sort order of the layers", "only execution order and time are supported", "by=time")
    with translate_display_errors(*(run.id for run in runs)):
        context = make_compare_context(runs, by_time=request.query_params.get("by") == "time")
        return make_page_response(request, "compare.html", "compare", lambda: make_compare_facts(runs), context)


def load_runs(request: Request) -> list[Run]:
    """Return the runs of the address, in order; raise UsageError for a wrong number, RunNotFound for a deleted run."""
    app_state = get_app_state(request)
    words = list(dict.fromkeys(request.query_params.getlist("run")))
    if not MIN_RUNS <= len(words) <= MAX_RUNS:
        raise UsageError(
            f"{len(words)} runs cannot be compared",
            f"a comparison has {MIN_RUNS} to {MAX_RUNS} runs",
            "choose runs on the list of runs",
        )
    runs = _load_all(words, app_state.store)
    if gone := set(app_state.deletions.hidden()).intersection(run.id for run in runs):
        raise RunNotFound(
            f"run {min(gone)} is deleted", "the deletion can still be undone", "use Undo on the list of runs"
        )
    return runs


def _load_all(words: Sequence[str], store: Store) -> list[Run]:
    runs = [store.load(word) for word in words]
    return list({run.id: run for run in runs}.values())


def make_compare_facts(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the page's data for JSON."""
    return {
        "runs": [make_row(run) for run in runs],
        "imported": {run.id: run.imported for run in runs},
        "comparisons": [one for one in _compare_with_first(runs) if one],
        "figures": make_figure_rows(runs),
        "layers": align_layers(runs),
        "differences": _list_differences(runs),
    }


def make_compare_context(runs: Sequence[Run], *, by_time: bool = False) -> dict[str, Any]:
    """Return the template's values."""
    rows = align_layers(runs)
    if by_time:
        rows.sort(key=lambda row: -max(cell.median_us for cell in row.cells if cell))
    return {
        "runs": list(zip(LETTERS, runs, strict=False)),
        "verdicts": [_format_verdict(one) for one in _compare_with_first(runs)],
        "others": any(run.imported is not False for run in runs),
        "sessions": len({get_session_id(run) for run in runs}),
        "figure_rows": make_figure_rows(runs),
        "strips": draw_process_medians(runs),
        "layer_rows": rows,
        "layer_most": _find_max_median(rows),
        "without_intervals": [
            letter
            for letter, run in zip(LETTERS, runs, strict=False)
            if run.layers and all(layer.low_us is None for layer in run.layers)
        ],
        "by_time": by_time,
        "differences": _list_differences(runs),
        "run_ids": [run.id for run in runs],
    }


def _compare_with_first(runs: Sequence[Run]) -> list[Comparison | None]:
    """Return the comparison of each run with the first; None for the first, and if either has no samples."""
    known = [bool(read_chunk_medians(run)) for run in runs]
    return [
        None,
        *(
            compare_pair(runs[0], run, THRESHOLD) if known[0] and has else None
            for run, has in zip(runs[1:], known[1:], strict=True)
        ),
    ]


def _format_verdict(one: Comparison | None) -> tuple[str, str, str]:
    """Return the CSS class, text and interval of a verdict, in the format of `edgewright benchmark`."""
    if one is None:
        return "", "", ""
    css = one.verdict.replace("no difference", "same")
    ratio, low, high = one.ratio, one.low, one.high
    if one.verdict == "faster":
        ratio, low, high = 1 / ratio, high and 1 / high, low and 1 / low
    bounds = show_ratio(ratio, low, high).partition(" ")[2]
    confidence = "" if low is None else f" {one.confidence:.0%}"
    words = f"{ratio:.2f}× {one.verdict}" if one.verdict in ("faster", "slower") else one.verdict
    return css, words, f"{bounds}{confidence}" if bounds else f"{ratio:.2f}×" if isfinite(ratio) else ""


def make_figure_rows(runs: Sequence[Run]) -> list[FigureRow]:
    """Return one row per main figure, with a cell for each run."""
    metrics = [figures.index_metrics(run) for run in runs]
    rows = []
    for name, info in METRICS.items():
        found = [known.get(name) for known in metrics]
        first = next((metric for metric in found if metric is not None and metric.value is not None), None)
        if first is None or not info.title:
            continue
        cells = tuple(FigureCell(metric=metric, mark=_choose_mark(metric, found[0])) for metric in found)
        rows.append(FigureRow(name=name, title=info.title, unit=get_unit(first), cells=cells))
    return rows


def _choose_mark(metric: Metric | None, reference: Metric | None) -> str:
    """Return the mark of a figure whose interval does not overlap with that of the reference, else an empty text."""
    if metric is None or reference is None or metric is reference:
        return ""
    if None in (metric.low, metric.high, reference.low, reference.high):
        return ""
    below = (metric.high or 0) < (reference.low or 0)
    above = (metric.low or 0) > (reference.high or 0)
    better = get_metric_info(metric.name).better
    if not better or not (below or above):
        return ""
    return "faster" if below == (better == "lower") else "slower"


def draw_process_medians(runs: Sequence[Run]) -> Markup:
    """Draw the process medians and the interval of each run on one scale."""
    rows = []
    for letter, run in zip(LETTERS, runs, strict=False):
        p50 = figures.index_metrics(run).get("latency.p50")
        if p50 is not None:
            rows.append((letter, figures.compute_process_medians(run), p50.value, p50.low, p50.high))
    return draw_strip_plot(rows, "us") if len(rows) > 1 else Markup("")


def _find_max_median(rows: Sequence[AlignedRow]) -> float:
    return max((cell.median_us for row in rows for cell in row.cells if cell), default=0.0)


def _list_differences(runs: Sequence[Run]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the entries of plan, environment and device that differ, with one value per run."""
    flat = [
        dict(
            flatten(
                {
                    "plan": {key: value for key, value in run.plan.items() if key not in IGNORED_PLAN_KEYS},
                    "environment": run.environment,
                    "device": run.device.facts if run.device else {},
                    "options": _get_options(run),
                }
            )
        )
        for run in runs
    ]
    names = list(dict.fromkeys(name for lines in flat for name in lines))
    found = [(name, tuple(lines.get(name, "–") for lines in flat)) for name in names]
    return [(name, values) for name, values in found if len(set(values)) > 1]


def _get_options(run: Run) -> dict[str, Any]:
    candidates = run.plan.get("candidates")
    first = candidates[0] if isinstance(candidates, list) and candidates else {}
    found: dict[str, Any] = first.get("options", {}) if isinstance(first, dict) else {}
    return found


def compare_csv(request: Request) -> Response:
    """Return figures and layers as CSV, with a column for each run."""
    runs = load_runs(request)
    rows: list[list[object]] = [
        [row.name, row.unit, *(cell.metric and cell.metric.value for cell in row.cells)]
        for row in make_figure_rows(runs)
    ]
    rows += [
        [f"layer:{row.name}", "us", *(cell and cell.median_us for cell in row.cells)] for row in align_layers(runs)
    ]
    return make_csv_response(("what", "unit", *(run.id for run in runs)), rows, "comparison.csv")
