"""`edgewright demo`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgewright.cli.output import print_json, print_table, progress, say

if TYPE_CHECKING:
    from edgewright.flows.demo import Demo
    from edgewright.flows.report import RunRow
    from edgewright.tasks.metrics import Score

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

OF_LAYERS = ("layer-sum", "profiling-cost")  # the demo's table shows no layers


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.demo/1).")
def demo(as_json: bool) -> None:
    """Compile, evaluate and benchmark a digit classifier in every runtime that is installed.

    The model, made for 8 × 8 images of handwritten digits, comes with Edgewright; nothing is downloaded.
    """
    from contextlib import closing

    from edgewright.cli.places import open_user_store
    from edgewright.flows.demo import run_demo
    from edgewright.flows.device import open_device

    with closing(open_device("local")) as device, closing(open_user_store()) as store, progress() as tell:
        result, error = run_demo(device, store, tell)
    if as_json:
        print_json(result)
    else:
        show(result)
    if error is not None:
        raise error


def show(demo: Demo) -> None:
    from edgewright.cli.tables import say_warnings, show_verdict

    verdicts = {comparison.b: show_verdict(comparison) for comparison in demo.benchmark.comparisons}
    rows = [
        demo_row(score, row, verdicts.get(row.run_id, "reference") if row.state == "done" else row.state)
        for score, row in zip(demo.accuracies, demo.benchmark.runs, strict=True)
    ]
    print_table(
        HEADERS,
        rows,
        f"Handwritten digits: {demo.accuracies[0].n} held-out images, one thread",
        piped_only=(ACCURACY_INTERVAL,),
        droppable=DROPPABLE,
    )
    for text in demo.left_out:
        say(f"Left out: {text}.")
    say_warnings(demo.benchmark.runs, hidden=OF_LAYERS)
    say("Every run is kept, with layers and all warnings: edgewright ui, edgewright runs list.")


def demo_row(score: Score, row: RunRow, verdict: str) -> tuple[str, ...]:
    from edgewright.cli.tables import figures

    size, p50, interval, p90, peak, cold = figures(row)
    bounds = f"{score.low:.1%}–{score.high:.1%}"
    return (row.runtime, row.precision, size, f"{score.value:.1%}", bounds, p50, interval, p90, peak, cold, verdict)
