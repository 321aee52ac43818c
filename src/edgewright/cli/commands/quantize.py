"""`edgewright quantize`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.code import allow_code, check_code, read_task
from edgewright.cli.parse import PATH, SHAPE, WORDS
from edgewright.cli.rendering.output import print_json, print_message, print_table, show_progress
from edgewright.cli.training import (
    TRAINING_SETTINGS,
    add_training_options,
    check_html_folder,
    read_settings,
    reject_unused_options,
)
from edgewright.schema.vocabulary import QUANTIZED_PRECISIONS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgewright.flows.quantize.report import QuantizedRow, QuantizeReport
    from edgewright.quantization.job import WeightNodeReport
    from edgewright.schema.plan import QuantizePlan

HEADERS = (
    "runtime",
    "precision",
    "state",
    "size",
    "smaller",
    "metric",
    "interval",
    "float",
    "agreement",
    "SQNR",
    "speed-up",
    "on integers",
    "artifact",
)
DROPPABLE = ("interval", "on integers", "size")
MAX_NODES = 10


@click.command()
@click.argument("model", metavar="MODEL")
@click.option(
    "--task", "task_file", type=PATH, default=None, metavar="FILE.toml", help="What the model is for; needed."
)
@click.option("--data", default=None, metavar="DATA", help="Folder, .zip, .npz, or FILE.py:function; needed.")
@click.option("--eval-data", default=None, metavar="DATA", help="Judge on this data set instead of the rest of --data.")
@click.option(
    "--samples", type=int, default=100, show_default=True, help="Calibration samples; their labels are not used."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of their choice.")
@click.option(
    "--precision",
    default="w8a8",
    show_default=True,
    metavar="WORD",
    help=f"{', '.join(QUANTIZED_PRECISIONS)}; int8 means w8a8.",
)
@click.option(
    "--runtime", type=WORDS, multiple=True, help="Runtimes, comma-separated; default: onnxruntime and litert."
)
@click.option(
    "--max-drop",
    type=float,
    default=1.0,
    show_default=True,
    help="Exit 3 where the metric gets worse by more: in points of a share, else in its own unit.",
)
@click.option("--recipe", type=PATH, default=None, metavar="FILE.toml", help="Do just what this recipe says.")
@click.option("-o", "--output", type=PATH, default="artifacts", show_default=True, help="Folder of the artifacts.")
@click.option(
    "--shape",
    "shapes",
    type=SHAPE,
    multiple=True,
    metavar="NAME=SIZES",
    help="Sizes of a free input; default: the task's.",
)
@click.option("--weights", type=PATH, default=None, help="Weights of a torch model made by FILE.py:FACTORY.")
@click.option("--measure/--no-measure", default=True, show_default=True, help="Time the artifacts against float ones.")
@click.option("--force", is_flag=True, help="Keep what --precision auto chose though it is slower than float.")
@click.option("--integer-io", is_flag=True, help="Artifacts take and give the quantised integers, where they can.")
@click.option("--qat", is_flag=True, help="Train the quantised graph on --data; --eval-data judges it.")
@click.option(
    "--control/--no-control",
    default=True,
    show_default=True,
    help="With --qat, train the float model for the same steps, and compare with it.",
)
@add_training_options
@click.option("--report", is_flag=True, help="Show what each operator costs, and what was kept and why.")
@click.option("--html", type=PATH, default=None, metavar="FILE", help="Write that report as one HTML file.")
@click.option(
    "--timeout", "timeout_s", type=float, default=600.0, show_default=True, help="Longest time of a step, seconds."
)
@click.option("--dry-run", is_flag=True, help="Print the plan, and quantise nothing.")
@allow_code
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.quantize/1).")
def quantize(**given: Any) -> None:
    """Quantise a model once for every runtime, and judge it on data before it gets its name.

    Calibration takes some samples of the data set, the others judge the result. Everything is kept: the QDQ graph, its
    recipe and a report lie beside the artifacts.
    """
    if not given["qat"]:
        named = [word for word in (*TRAINING_SETTINGS, "held_out", "control") if word != "seed"]
        reject_unused_options(named, "nothing is trained without --qat", "--qat with it, or leave it out")
    check_code(given)
    plan = _make_plan(given)
    if given["dry_run"]:
        print_json(plan)
        return
    _run(plan, given["output"], given["html"], sites=given["report"], as_json=given["as_json"])


def _make_plan(given: dict[str, Any]) -> QuantizePlan:
    from pathlib import Path

    import msgspec

    from edgewright.errors import UsageError
    from edgewright.quantization.recipe import read_recipe, write_recipe
    from edgewright.runtimes.table import find_runtime
    from edgewright.schema.plan import QuantizePlan
    from edgewright.schema.vocabulary import PRECISION_ALIASES, normalize_word

    for name, flag in (("task_file", "--task"), ("data", "--data")):
        if not given[name]:
            raise UsageError(
                f"{flag} is missing", "calibration and judging need it", "edgewright task init MODEL -o task.toml"
            )
    word = normalize_word(given["precision"])
    word = PRECISION_ALIASES.get(word, word)
    if word == "bf16":
        why = "no runtime has a compiler to bf16 here, and none of their CPU kernels computes a whole network in it"
        raise UsageError("--precision bf16 cannot be made", why, "--precision fp16, which is as small and more exact")
    if word not in QUANTIZED_PRECISIONS:
        raise UsageError(
            f"--precision {given['precision']} is not known here",
            f"known are {', '.join(QUANTIZED_PRECISIONS)}",
            "--precision w8a8",
        )
    words = [word for words in given["runtime"] for word in words] or ["onnxruntime", "litert"]
    task, code = read_task(given)
    return QuantizePlan(
        source=given["model"],
        weights=given["weights"],
        runtimes=tuple(dict.fromkeys(find_runtime(word).name for word in words)),
        precision=word,  # type: ignore[arg-type] # one of QUANTIZED
        task=msgspec.to_builtins(task),
        code=code,
        data=given["data"],
        eval_data=given["eval_data"],
        samples=given["samples"],
        seed=given["seed"],
        shapes=dict(given["shapes"]),
        recipe=write_recipe(read_recipe(Path(given["recipe"]))) if given["recipe"] is not None else "",
        max_drop=given["max_drop"],
        measure=given["measure"],
        force=given["force"],
        integer_io=given["integer_io"],
        qat=read_settings(given) if given["qat"] else None,
        held_out=given["held_out"],
        control=given["control"],
        timeout_s=given["timeout_s"],
    )


def _run(plan: QuantizePlan, output: str, html: str | None, *, sites: bool, as_json: bool) -> None:
    from contextlib import closing
    from pathlib import Path

    from edgewright.cli.user_store import open_user_store
    from edgewright.flows.device_names import open_device
    from edgewright.flows.quantize.flow import quantize as run_quantization

    check_html_folder(html)
    with closing(open_device("local")) as device, closing(open_user_store()) as store, show_progress() as progress:
        report, error = run_quantization(plan, Path(output), device, store, progress)
    if as_json:
        print_json(report)
    else:
        _show(report, sites=sites)
    if html is not None:
        _write_html(Path(html), report)
    if error is not None:
        raise error


def _write_html(path: Path, report: QuantizeReport) -> None:
    from edgewright.system.files import write_atomically
    from edgewright.web.pages.quantization import render_quantization

    write_atomically(path, render_quantization(report), follow=True)
    print_message(f"Wrote {path}.")


def _show(report: QuantizeReport, *, sites: bool) -> None:
    print_table(HEADERS, [_make_artifact_row(row) for row in report.artifacts], droppable=DROPPABLE)
    for row in report.artifacts:
        if row.reason:
            print_message(f"{row.runtime} {row.precision}: {row.reason}")
        for note in row.notes:
            print_message(f"{row.runtime} {row.precision}: {note}")
    if report.graph:
        print_message(f"The QDQ graph: {report.graph}; its recipe: {report.recipe}")
    if (one := report.tuning) is not None:
        back = f", {one.recovered:.0%} of what was lost" if one.recovered is not None else ""
        print_message(
            f"Fine-tuned: {one.before.name} {one.before.value:.4f} → {one.after.value:.4f}{back}; {one.steps} steps"
        )
        if one.control is not None:
            print_message(f"The float model trained for the same steps: {one.control.value:.4f}")
            if (before := report.reference) is not None:
                gained = one.control.value - before.value
                if (gained if before.better == "higher" else -gained) < 0:
                    print_message("That is worse than without: a smaller --lr, or more --epochs, may serve both.")
    findings = report.quantization.sites if report.quantization else ()
    kept = [node_report for node_report in findings if node_report.kept]
    if kept and not sites:
        nodes = ", ".join(f"{node_report.node} ({node_report.precision})" for node_report in kept)
        print_message(f"Kept in higher precision: {nodes}")
    if sites and findings:
        _show_node_reports(findings)


def _make_artifact_row(row: QuantizedRow) -> tuple[str, ...]:
    from edgewright.schema.units import show_bytes

    metric, speed = row.metric, row.speedup
    return (
        row.runtime,
        row.precision,
        row.state,
        show_bytes(row.bytes) if row.bytes is not None else "–",
        f"{row.bytes_ratio:.2f}×" if row.bytes_ratio else "–",
        f"{metric.name} {metric.value:.4g}" if metric else "–",
        f"{metric.low:.4g}–{metric.high:.4g}" if metric else "–",
        f"{metric.reference:.4g}" if metric else "–",
        f"{row.agreement:.2%}" if row.agreement is not None else "–",
        f"{row.sqnr_db:.1f} dB" if row.sqnr_db is not None else "–",
        f"{speed.ratio:.2f}×" if speed else "–",
        f"{row.int8_share:.0%}" if row.int8_share is not None else "–",
        row.path or "–",
    )


def _show_node_reports(sites: Sequence[WeightNodeReport]) -> None:
    """The operators that cost most by themselves first."""
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
    headers = ("operator", "kind", "precision", "alone", "its weights", "its input", "agreement", "kept because")
    print_table(
        headers, rows, "What each operator costs when it alone is quantised", droppable=("its input", "its weights")
    )


def _format_db(value: float | None) -> str:
    return f"{value:.1f} dB" if value is not None else "–"
