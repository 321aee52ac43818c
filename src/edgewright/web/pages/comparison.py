"""Page that compares two to eight runs with the first one as the reference."""

from collections.abc import Sequence
from contextlib import suppress
from math import isfinite
from typing import Any

import msgspec
from markupsafe import Markup
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from edgewright.bench.summary import read_chunk_medians
from edgewright.bench.trust import judge_trust
from edgewright.errors import RunNotFound, UsageError
from edgewright.flows.benchmark.answer import answer_evaluations, make_answer
from edgewright.flows.benchmark.comparison import are_evaluations, compare_evaluations, compare_pair, get_session_id
from edgewright.flows.benchmark.report import make_row
from edgewright.report.charts.run import draw_strip_plot
from edgewright.report.marks import Mark, Pair, choose_mark
from edgewright.report.numbers import get_unit
from edgewright.schema.metrics import METRICS
from edgewright.schema.run import Comparison, Metric, Run
from edgewright.schema.units import show_ratio
from edgewright.store.store import Store
from edgewright.web.pages import figures
from edgewright.web.pages.layers import AlignedRow, align_layers, sum_median_us
from edgewright.web.pages.run_detail import flatten
from edgewright.web.server.responses import make_csv_response, make_page_response, translate_display_errors
from edgewright.web.server.state import get_app_state

MIN_RUNS, MAX_RUNS = 2, 8
LETTERS = "ABCDEFGH"
PAIRED, OTHER_SESSION = " · paired over {rounds} rounds", " · other session"
TITLE, OF_DEVICE = "{count} runs compared", "{title} on {device}"
IGNORED_PLAN_KEYS = ("candidates", "inputs")  # paths and hashes, which always differ


class FigureCell(Struct, frozen=True, kw_only=True):
    """One figure of one run; `mark` compares it with that of the first (`report.marks`); `note` replaces a value."""

    metric: Metric | None
    mark: Mark = ""
    note: str = ""


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
        "answer": _make_answer(runs),
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
    if by_time and len(runs) == 2:
        rows.sort(key=lambda row: -abs(_get_change(row)))
    elif by_time:
        rows.sort(key=lambda row: -max(cell.median_us for cell in row.cells if cell))
    return {
        "answer": _make_answer(runs),
        "runs": list(zip(LETTERS, runs, strict=False)),
        "verdicts": [
            _format_verdict(one, _count_rounds(runs[0], run))
            for run, one in zip(runs, _compare_with_first(runs), strict=True)
        ],
        "others": any(run.imported is not False for run in runs),
        "sessions": len({get_session_id(run) for run in runs}),
        "figure_rows": make_figure_rows(runs),
        "trusts": [judge_trust(figures.index_metrics(run), [one.code for one in run.warnings]) for run in runs],
        "strips": draw_process_medians(runs),
        "layer_rows": rows,
        "layer_most": _find_max_median(rows),
        "without_intervals": [
            letter
            for letter, run in zip(LETTERS, runs, strict=False)
            if run.layers and all(layer.low_us is None for layer in run.layers)
        ],
        "by_time": by_time,
        "title": _make_title(runs),
        "totals": [sum_median_us(run.layers) if run.layers else None for run in runs],
        "changes": _list_changes(rows) if len(runs) == 2 else None,
        "together": _list_measurable(runs),
        "differences": _list_differences(runs),
        "run_ids": [run.id for run in runs],
    }


def _make_title(runs: Sequence[Run]) -> str:
    """Return the number of runs, with the device that all share."""
    title, devices = TITLE.format(count=len(runs)), {run.device.name if run.device else "" for run in runs}
    device = devices.pop() if len(devices) == 1 else ""
    return OF_DEVICE.format(title=title, device=device) if device else title


def _list_measurable(runs: Sequence[Run]) -> list[str]:
    """Return the models to measure together if the runs are of several sessions; empty if a model is not stored."""
    models = dict.fromkeys(run.model.sha256 for run in runs if run.model is not None)
    stored = all(any(one.role == "model" for one in run.outputs) for run in runs)
    several = len({get_session_id(run) for run in runs}) > 1 and all(run.kind == "benchmark" for run in runs)
    return list(models) if several and stored and len(models) == len(runs) else []


def _get_change(row: AlignedRow) -> float:
    """Return the time of the second run minus that of the first, in microseconds; 0 for a layer that one lacks."""
    first, second = row.cells
    return second.median_us - first.median_us if first and second else 0.0


def _list_changes(rows: Sequence[AlignedRow]) -> list[tuple[float, float]]:
    """Return the change of each row, and its share of the sum of all absolute changes."""
    changes = [_get_change(row) for row in rows]
    total = sum(map(abs, changes)) or 1.0
    return [(change, change / total) for change in changes]


def _make_answer(runs: Sequence[Run]) -> str:
    """Return the verdicts in one sentence, as `edgewright compare` does; empty without samples."""
    compared = [one for one in _compare_with_first(runs) if one]
    if compared or not are_evaluations(runs):
        return make_answer([make_row(run) for run in runs], compared) if compared else ""
    with suppress(UsageError):  # other data or metrics: not comparable sample by sample
        return answer_evaluations(runs, compare_evaluations(runs))
    return ""


def _compare_with_first(runs: Sequence[Run]) -> list[Comparison | None]:
    """Return the comparison of each run with the first; None for the first, and if either has no samples."""
    known = [bool(read_chunk_medians(run)) for run in runs]
    return [
        None,
        *(
            compare_pair(runs[0], run) if known[0] and has else None
            for run, has in zip(runs[1:], known[1:], strict=True)
        ),
    ]


def _count_rounds(first: Run, run: Run) -> int:
    """Return the number of rounds that both measured in one session; 0 for runs of different sessions."""
    if get_session_id(first) != get_session_id(run):
        return 0
    return min(len(read_chunk_medians(first)), len(read_chunk_medians(run)))


def _format_verdict(one: Comparison | None, rounds: int) -> tuple[str, str, str]:
    """Return the CSS class, text and interval of a verdict, with its confidence and how the ratio was measured."""
    if one is None:
        return "", "", ""
    css = one.verdict.replace("no difference", "same")
    ratio, low, high = one.ratio, one.low, one.high
    if one.verdict == "faster":
        ratio, low, high = 1 / ratio, high and 1 / high, low and 1 / low
    bounds = show_ratio(ratio, low, high).partition(" ")[2]
    confidence = "" if low is None else f" · {one.confidence:.0%}"
    known = isfinite(ratio) and one.verdict in ("faster", "slower", "inconclusive")
    words = f"{ratio:.2f}× {one.verdict}" if known else one.verdict
    how = PAIRED.format(rounds=rounds) if rounds else OTHER_SESSION
    return css, words, f"{bounds}{confidence}{how}" if isfinite(ratio) else ""


def make_figure_rows(runs: Sequence[Run]) -> list[FigureRow]:
    """Return one row per main figure, with a cell for each run."""
    metrics = [figures.index_metrics(run) for run in runs]
    pairs = [_make_pair(runs[0], run, one) for run, one in zip(runs, _compare_with_first(runs), strict=True)]
    rows = []
    for name, info in METRICS.items():
        found = [known.get(name) for known in metrics]
        first = next((metric for metric in found if metric is not None and metric.value is not None), None)
        if first is None or not info.title:
            continue
        cells = tuple(
            FigureCell(metric=metric, mark=choose_mark(metric, found[0], pair))
            for metric, pair in zip(found, pairs, strict=True)
        )
        row = FigureRow(name=name, title=info.title, unit=get_unit(first), cells=cells)
        rows.append(_name_reference(row, runs) if info.basis == "outputs" else row)
    return rows


def _make_pair(first: Run, run: Run, verdict: Comparison | None) -> Pair:
    known = figures.index_metrics(first), figures.index_metrics(run)
    confidence = {}
    for name in ("latency.p50", "cpu.p50"):
        found = [metrics.get(f"{name}_confidence") for metrics in known]
        confidence[name] = min((metric.value or 0.0) if metric else 0.0 for metric in found)
    return Pair(verdict=verdict, one_session=get_session_id(first) == get_session_id(run), confidence=confidence)


def _name_reference(row: FigureRow, runs: Sequence[Run]) -> FigureRow:
    """Name the run whose outputs the others are compared with: the first of their evaluation."""
    having = [run for run, cell in zip(runs, row.cells, strict=True) if cell.metric is not None]
    sessions = {get_session_id(run) for run in having}
    cells = tuple(
        msgspec.structs.replace(cell, note="reference") if cell.metric is None and run.id in sessions else cell
        for run, cell in zip(runs, row.cells, strict=True)
    )
    name = _get_first_model(having[0]) if len(sessions) == 1 else "the first model of its own evaluation"
    title = f"{row.title.removesuffix(' reference')} {name}" if name else row.title
    return msgspec.structs.replace(row, title=title, cells=cells)


def _get_first_model(run: Run) -> str:
    """Return the file name of the first model of the run's plan."""
    candidates = run.plan.get("candidates")
    first = candidates[0] if isinstance(candidates, list) and candidates else {}
    return str(first.get("model", "")).rpartition("/")[2] if isinstance(first, dict) else ""


def draw_process_medians(runs: Sequence[Run]) -> Markup:
    """Draw the process medians and the interval of each run on one scale."""
    rows = []
    for letter, run in zip(LETTERS, runs, strict=False):
        p50 = figures.index_metrics(run).get("latency.p50")
        if p50 is not None:
            rows.append((f"{letter} {run.runtime}", figures.compute_process_medians(run), p50.value, p50.low, p50.high))
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
