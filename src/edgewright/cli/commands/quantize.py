"""`edgewright quantize`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.calls import call_api, make_keywords, read_given
from edgewright.cli.code import allow_code, check_code
from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import FIXED, PATH, SHAPE, WORDS
from edgewright.cli.rendering.output import print_answer, print_json, print_message, print_table, show_table
from edgewright.cli.training import (
    add_training_options,
    check_html_folder,
    write_html,
)
from edgewright.schema.vocabulary import QUANTIZED_PRECISIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgewright.api.results.artifacts import QuantizeResult
    from edgewright.flows.quantize.report import TriedPrecision
    from edgewright.quantization.job import WeightNodeReport

MAX_NODES = 10


@click.command(cls=HelpedCommand)
@click.argument("model", metavar="MODEL")
@click.option("--task", "task_file", type=PATH, metavar="FILE.toml", help="Task of the model; required.")
@click.option("--data", metavar="DATA", help="Dataset: folder, .zip, .npz, or FILE.py:function; required.")
@click.option(
    "--eval-data",
    metavar="DATA",
    help="Evaluation dataset; default: the samples of --data that are not used for calibration.",
)
@click.option("--samples", default=100, help="Number of calibration samples; labels are not used.")
@click.option("--seed", default=0, help="Seed of the sample choice.")
@click.option(
    "--precision",
    default="w8a8",
    metavar="WORD",
    help=f"Precision: {', '.join(QUANTIZED_PRECISIONS)}; int8 means w8a8.",
)
@click.option(
    "--runtime", type=WORDS, multiple=True, help="Runtimes, comma-separated; default: onnxruntime and litert."
)
@click.option(
    "--max-drop",
    type=float,
    help="Maximum metric drop, in points of a share or the metric's unit; default: 1 point, or 1 % of a metric that "
    "is not a share; above it, exit code 3.",
)
@click.option("--recipe", type=PATH, metavar="FILE.toml", help="Quantization recipe to follow exactly.")
@click.option("-o", "--output", type=PATH, help="Output folder; default: m-artifacts for m.onnx.")
@click.option(
    "--shape",
    "shapes",
    type=SHAPE,
    multiple=True,
    metavar="NAME=SIZES",
    help="Shape of an input; default: from the task.",
)
@FIXED
@click.option("--weights", type=PATH, help="Weights of a torch model from FILE.py:FACTORY.")
@click.option("--measure/--no-measure", default=True, help="Benchmark the artifacts against the float model.")
@click.option("--force", is_flag=True, help="Keep artifacts that are slower than float.")
@click.option("--integer-io", is_flag=True, help="Integer model inputs and outputs, where the runtime supports them.")
@click.option("--qat", is_flag=True, help="Quantization-aware training on --data, evaluated on --eval-data.")
@click.option(
    "--control/--no-control",
    default=True,
    help="With --qat, also train the float model for the same steps, as the control.",
)
@add_training_options(epochs="3", lr="0.0001", optimizer="adamw", weight_decay="0")
@click.option(
    "--report", is_flag=True, help="Show the quantization error of each operator, and operators in higher precision."
)
@click.option("--html", type=PATH, metavar="FILE", help="Path of an HTML report.")
@click.option("--timeout", "timeout_s", default=600.0, help="Timeout of each step, in seconds.")
@click.option("--dry-run", is_flag=True, help="Print the plan without quantizing.")
@allow_code
@click.option(
    "--on",
    "device",
    default="local",
    help="Device that runs the result; local is this machine.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.quantize/1).")
def quantize(**given: Any) -> None:
    """Quantize a model once for every runtime, and evaluate it before it is written.

    Some samples of the dataset are used for calibration, the others for the evaluation. The QDQ graph, its recipe and
    a report are written beside the artifacts.
    """
    from edgewright.api.convert import quantize as run
    from edgewright.api.plans import plan_quantization

    check_code(given)
    shown, given["report"] = given["report"], given["report"] or given["html"] is not None
    if given["dry_run"]:
        print_json(plan_quantization(given["model"], read_given(given)))
        return
    check_html_folder(given["html"])
    result, error = call_api(run, given["model"], **make_keywords(given))
    if given["as_json"]:
        print_json(result.report)
    else:
        _show(result, sites=shown)
    write_html(result, given["html"])
    if error is not None:
        raise error


def _show(result: QuantizeResult, *, sites: bool) -> None:
    report = result.report
    print_answer(result.answer)
    show_table(result.table())
    for row in report.artifacts:
        if row.reason:
            print_message(f"{row.runtime} {row.precision}: {row.reason}")
        for note in row.notes:
            print_message(f"{row.runtime} {row.precision}: {note}")
    if len(report.tried) > len(report.artifacts):
        for row in report.artifacts:
            words = (_describe_tried(one) for one in report.tried if one.runtime == row.runtime)
            print_message(f"{row.runtime}: tried {', '.join(words)}")
    if report.graph:
        print_message(f"QDQ graph: {report.graph}; recipe: {report.recipe}")
    if (one := report.tuning) is not None:
        recovered = f", {one.recovered:.0%} of the drop recovered" if one.recovered is not None else ""
        print_message(
            f"Trained: {one.before.name} {one.before.value:.4f} → {one.after.value:.4f}{recovered}; {one.steps} steps"
        )
        if one.control is not None:
            print_message(f"Control (float model trained for the same steps): {one.control.value:.4f}")
            if (before := report.reference) is not None:
                gained = one.control.value - before.value
                if (gained if before.better == "higher" else -gained) < 0:
                    print_message("The training made the float model worse: try a smaller --lr or more --epochs.")
    findings = report.quantization.sites if report.quantization else ()
    kept = [node_report for node_report in findings if node_report.kept]
    if report.quantization and (others := report.quantization.float_operators):
        print_message("Kept in float: " + ", ".join(f"{one.op} {one.node} ({one.why})" for one in others[:MAX_NODES]))
        if len(others) > MAX_NODES:
            print_message(f"… and {len(others) - MAX_NODES} more operators without weights")
    if kept and not sites:
        nodes = ", ".join(f"{node_report.node} ({node_report.precision})" for node_report in kept)
        print_message(f"Kept in higher precision: {nodes}")
    if sites and findings:
        _show_node_reports(findings)


def _describe_tried(one: TriedPrecision) -> str:
    from edgewright.report.outcome import name_state

    speed = f", {one.speedup.ratio:.2f}×" if one.speedup else ""
    return f"{one.precision} ({name_state(one.state)}{speed})"


def _show_node_reports(sites: Sequence[WeightNodeReport]) -> None:
    """Print the operators with the largest quantization error first."""
    rows = [
        (
            node_report.node,
            node_report.op,
            node_report.precision,
            _format_db(node_report.sqnr_db),
            _format_db(node_report.weights_db),
            _format_db(node_report.input_db),
            f"{node_report.agreement:.0%}" if node_report.agreement is not None else "–",
            node_report.kept or "–",
        )
        for node_report in sorted(sites, key=lambda one: (not one.kept, one.sqnr_db or 0.0))
    ]
    headers = ("operator", "type", "precision", "SQNR alone", "weights SQNR", "input SQNR", "agreement", "reason kept")
    print_table(headers, rows, "Error when only this operator is quantized", droppable=("input SQNR", "weights SQNR"))


def _format_db(value: float | None) -> str:
    return f"{value:.1f} dB" if value is not None else "–"
