"""`edgewright evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.code import allow_code, check_code, read_task
from edgewright.cli.parse import INDICES, PATH, TAG, WORDS, join_words, make_plan
from edgewright.cli.rendering.output import print_json, print_message, print_table

if TYPE_CHECKING:
    from edgewright.flows.evaluate.report import EvaluationReport, EvaluationRow, PairedRow
    from edgewright.schema.plan import EvaluatePlan

HEADERS = (
    "model",
    "runtime",
    "precision",
    "samples",
    "metric",
    "interval",
    "difference",
    "p",
    "agreement",
    "SQNR",
    "samples/s",
    "run",
)
DROPPABLE = ("samples/s", "p", "precision", "interval")
MAX_SHOWN = 5


@click.command()
@click.argument("models", nargs=-1, metavar="MODEL...")
@click.option("--task", "task_file", type=PATH, metavar="FILE.toml", help="Task of the model; required.")
@click.option("--data", metavar="DATA", help="Labeled dataset: folder, .zip, .npz, or FILE.py:function; required.")
@click.option(
    "--runtime",
    type=WORDS,
    multiple=True,
    help="Runtimes, comma-separated; default: the default runtime of the format.",
)
@click.option("--samples", type=int, help="Number of samples, chosen by --seed; default: all.")
@click.option(
    "--leave-out", type=int, help="Number of samples to exclude: those that --samples with this number chooses."
)
@click.option("--indices", type=INDICES, metavar="LIST", help="Sample numbers, such as 0-99,200.")
@click.option("--seed", default=0, help="Seed of the sample choice.")
@click.option("--threads", default=1, help="Threads per inference.")
@click.option("-p", "--option", "options", multiple=True, metavar="KEY=VALUE", help="Runtime option.")
@click.option("--timeout", "timeout_s", default=120.0, help="Timeout for a response of a worker, in seconds.")
@click.option("--on", "device", default="local", help="Device; local is this machine.")
@click.option("--tag", "tags", type=TAG, multiple=True, metavar="NAME=VALUE", help="Tag for the runs; may be repeated.")
@allow_code
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.evaluate/1).")
def evaluate(**given: Any) -> None:
    """Evaluate models on labeled data, all on the same samples.

    A folder means all artifacts in it; a set file, the artifact for the size of each sample. The first row is the
    reference of agreement and difference. Every run is stored: see `edgewright runs`.
    """

    from edgewright.cli.user_store import open_workspace
    from edgewright.flows.evaluate.flow import evaluate as run_evaluation

    check_code(given)
    plan = _make_plan(given)
    with open_workspace(plan.device) as workspace:
        result = run_evaluation(plan, workspace, dict(given["tags"]))
    if given["as_json"]:
        print_json(result.report)
    else:
        _show(result.report)
    if result.error is not None:
        raise result.error


def _make_plan(given: dict[str, Any]) -> EvaluatePlan:
    import msgspec

    from edgewright.errors import UsageError
    from edgewright.flows.candidates import expand_folders, pair_candidates, read_models
    from edgewright.schema.plan import EvaluatePlan

    example = "edgewright evaluate MODEL --task task.toml --data DATA"
    if not given["models"]:
        raise UsageError("no model is given", "an evaluation needs at least one model or artifact", example)
    if given["task_file"] is None:
        raise UsageError(
            "no task is given",
            "the task describes the model's inputs and outputs",
            "edgewright task init MODEL -o task.toml, then --task task.toml",
        )
    if given["data"] is None:
        raise UsageError("no data is given", "an evaluation needs labeled samples", example)
    runtimes = join_words(given["runtime"])
    task, code = read_task(given)
    paths = expand_folders(given["models"], runtimes)
    models = read_models(paths, sets=True)
    return make_plan(
        EvaluatePlan,
        given,
        candidates=pair_candidates([models[path] for path in paths], runtimes, given["options"]),
        task=msgspec.to_builtins(task),
        code=code,
    )


def _show(report: EvaluationReport) -> None:
    from edgewright.cli.rendering.output import print_line
    from edgewright.schema.units import show_share

    headers = [report.metric if header == "metric" else header for header in HEADERS]
    print_table(
        headers, [_make_evaluation_row(row) for row in report.results], piped_only=("run",), droppable=DROPPABLE
    )
    for row in report.results:
        if any(one.n - one.correct > 1 for one in row.worst_classes):  # one error of one sample means nothing
            print_line("")
            print_line(f"{row.model} in {row.runtime}: classes with the most errors")
            for one in row.worst_classes[:MAX_SHOWN]:
                right = f"{one.correct} of {one.n} correct ({show_share(one.correct / one.n)})"
                other = _format_class(one.taken_for, one.taken_for_name)
                print_line(f"    {_format_class(one.label, one.name)}: {right}, predicted as {other} {one.times}×")
    for note in report.notes:
        print_message(f"{report.data}: {note}.")
    for skipped in report.skipped[:MAX_SHOWN]:
        print_message(f"Skipped {skipped.name}: {skipped.why}.")
    if len(report.skipped) > MAX_SHOWN:
        print_message(f"… and {len(report.skipped) - MAX_SHOWN} more of {report.samples}.")


def _format_class(label: int, name: str) -> str:
    return f"{label} {name}" if name else str(label)


def _make_evaluation_row(row: EvaluationRow) -> tuple[str, ...]:
    from edgewright.schema.units import UNKNOWN, show_number, show_share

    metric, paired = row.metric, row.paired
    share = metric is not None and metric.low >= 0 and metric.high <= 1

    def figure(value: float) -> str:
        return f"{value:.2%}" if share else show_number(value)

    return (
        row.model,
        row.runtime,
        row.precision,
        str(row.evaluated),
        row.state if metric is None else figure(metric.value),
        UNKNOWN if metric is None else f"{figure(metric.low)}–{figure(metric.high)}",
        ("reference" if row.reference else UNKNOWN) if paired is None else _format_difference(paired, share=share),
        UNKNOWN if paired is None else f"{paired.p:.2g}",
        UNKNOWN if row.agreement is None else show_share(row.agreement.value),
        UNKNOWN if row.sqnr_db is None else f"{row.sqnr_db:.1f} dB",
        UNKNOWN if row.samples_per_second is None else f"{row.samples_per_second:.0f}",
        row.run_id,
    )


def _format_difference(paired: PairedRow, *, share: bool) -> str:
    """Return the difference with its interval; for shares in percentage points."""
    value, low, high = paired.difference, paired.low, paired.high
    if share:
        return f"{value * 100:+.2f} pt ({low * 100:+.2f} to {high * 100:+.2f})"
    return f"{value:+.4g} ({low:+.4g} to {high:+.4g})"
