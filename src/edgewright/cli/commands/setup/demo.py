"""`edgewright demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import PATH
from edgewright.cli.rendering.output import print_answer, print_json, print_message, print_table

if TYPE_CHECKING:
    from edgewright.flows.benchmark.report import BenchmarkRow
    from edgewright.flows.demo.flow import DemoReport
    from edgewright.tasks.metrics.metrics import Score

ACCURACY_INTERVAL = "accuracy, 95 % interval"
HEADERS = (
    "runtime",
    "precision",
    "size",
    "accuracy",
    ACCURACY_INTERVAL,
    "p50",
    "95 % interval",
    "p90",
    "peak memory",
    "cold start",
    "verdict",
)
DROPPABLE = ("peak memory", "cold start", "p90", "size", "95 % interval")  # where a terminal is narrow

LAYER_WARNINGS = ("layer-sum", "profiling-cost")  # the demo's table shows no layers


@click.command(cls=HelpedCommand)
@click.option(
    "--copy", type=PATH, metavar="DIR", help="Folder for a copy of the demo's files. With it, nothing is run."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.demo/1, edgewright.demo-files/1)."
)
def demo(copy: str | None, as_json: bool) -> None:
    """Compile, evaluate and benchmark a digit classifier in every runtime that is installed.

    The model, made for 8 × 8 images of handwritten digits, comes with Edgewright; nothing is downloaded.
    """
    if copy is not None:
        _copy(Path(copy), as_json=as_json)
        return

    from edgewright.cli.user_store import open_workspace
    from edgewright.flows.demo.flow import run_demo

    with open_workspace() as workspace:
        result, error = run_demo(workspace)
    if as_json:
        print_json(result)
    else:
        _show(result)
    if error is not None:
        raise error


def _copy(folder: Path, *, as_json: bool) -> None:
    from edgewright.flows.demo.flow import copy_demo_files
    from edgewright.schema.units import show_bytes

    paths = copy_demo_files(folder)
    if as_json:
        print_json({"schema": "edgewright.demo-files/1", "files": [str(path) for path in paths]})
    else:
        print_table(("file", "size"), [(str(path), show_bytes(path.stat().st_size)) for path in paths])


def _show(demo: DemoReport) -> None:
    from edgewright.cli.rendering.tables import print_warnings
    from edgewright.flows.benchmark.answer import format_verdict

    verdicts = {comparison.b: format_verdict(comparison) for comparison in demo.benchmark.comparisons}
    rows = [
        _make_demo_row(score, row, verdicts.get(row.run_id, "reference") if row.state == "done" else row.state)
        for score, row in zip(demo.accuracies, demo.benchmark.runs, strict=True)
    ]
    print_answer(demo.answer)
    print_table(
        HEADERS,
        rows,
        f"Handwritten digits: {demo.accuracies[0].n} held-out images, one thread",
        piped_only=(ACCURACY_INTERVAL,),
        droppable=DROPPABLE,
    )
    for text in demo.left_out:
        print_message(f"Left out: {text}.")
    print_warnings(demo.benchmark.runs, hidden=LAYER_WARNINGS)
    print_message("Every run is kept, with layers and all warnings: edgewright ui, edgewright runs list.")


def _make_demo_row(score: Score, row: BenchmarkRow, verdict: str) -> tuple[str, ...]:
    from edgewright.api.results.measurement import format_figures

    size, p50, interval, p90, peak, cold = format_figures(row)
    bounds = f"{score.low:.1%}–{score.high:.1%}"
    return (row.runtime, row.precision, size, f"{score.value:.1%}", bounds, p50, interval, p90, peak, cold, verdict)
