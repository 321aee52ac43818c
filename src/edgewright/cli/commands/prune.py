"""`edgewright prune`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.code import check_code, read_task
from edgewright.cli.parse import PATH
from edgewright.cli.rendering.output import print_message, print_table
from edgewright.cli.training import (
    DISTILLATION_OPTIONS,
    TRAINING_SETTINGS,
    add_distillation_options,
    add_result_options,
    add_seed_options,
    add_training_options,
    read_settings,
    reject_unused_options,
    run_training_command,
    show_comparisons,
    show_networks,
)

if TYPE_CHECKING:
    from edgewright.flows.prune.report import PruneReport
    from edgewright.schema.plan import PrunePlan

MAX_FIXED = 5
UNSTRUCTURED_OPTIONS = ("sparsity", "scope", "pattern")
STRUCTURED_OPTIONS = ("importance", "multiple", "rounds", "round_epochs")
TRAINING_OPTIONS = ("control", "teach", *DISTILLATION_OPTIONS, "rounds", "round_epochs", "seeds", "held_out")


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("--weights", type=PATH, default=None, help="Weights of a torch model made by FILE.py:FACTORY.")
@click.option(
    "--task", "task_file", type=PATH, default=None, metavar="FILE.toml", help="What the model is for; needed."
)
@click.option("--data", default="", metavar="DATA", help="What it is trained back on; without it, it is only cut.")
@click.option("--val", default=None, metavar="DATA", help="What judges the result, and nothing else; needed.")
@click.option(
    "--method",
    type=click.Choice(("structured", "unstructured")),
    default="structured",
    show_default=True,
    help="Whole channels, heads and neurons; or single weights.",
)
@click.option(
    "--importance",
    type=click.Choice(("l1", "l2", "bn-gamma", "taylor", "latency")),
    default=None,
    help="What tells what matters least; default: taylor where it is trained, else l2.",
)
@click.option("--target-speedup", type=float, default=None, metavar="N", help="Be N times as fast in the runtime.")
@click.option("--target-bytes", default="", metavar="SIZE", help="At most 800kB, or 2x smaller.")
@click.option("--target-macs", default="", metavar="NUMBER", help="At most 15M multiply-accumulates, or 2x fewer.")
@click.option(
    "--max-drop",
    type=float,
    default=1.0,
    show_default=True,
    help="Exit 3 where it is worse by more than source or control; without a target, the budget.",
)
@click.option("--sparsity", type=float, default=0.8, show_default=True, help="Share of zeros (unstructured).")
@click.option(
    "--scope",
    type=click.Choice(("global", "layer")),
    default="global",
    show_default=True,
    help="Where the smallest weights are looked for (unstructured).",
)
@click.option("--pattern", default="", metavar="N:M", help="Keep N of each M weights (unstructured).")
@click.option("--multiple", type=int, default=8, show_default=True, help="Channel counts are multiples of it.")
@click.option("--rounds", type=int, default=1, show_default=True, help="Steps to the target, trained in between.")
@click.option("--round-epochs", type=float, default=1.0, show_default=True, help="Epochs between two rounds.")
@click.option("--runtime", default="onnxruntime", show_default=True, help="That it is timed and judged in.")
@click.option("--threads", type=int, default=1, show_default=True, help="Threads of the timed inferences.")
@click.option(
    "--control/--no-control",
    default=True,
    show_default=True,
    help="Train the unpruned network for the same steps, and compare with it.",
)
@click.option(
    "--teach/--no-teach", default=True, show_default=True, help="Let the source teach what is trained, the control too."
)
@add_distillation_options
@add_training_options
@add_seed_options
@add_result_options("edgewright.prune/1")
def prune(**given: Any) -> None:
    """Make a network smaller by cutting what matters least, and train back what was lost.

    The result is told against the same network trained for the same steps without being cut.
    """
    from edgewright.flows.prune.flow import check_plan
    from edgewright.flows.prune.flow import prune as run

    _check_options(given)
    check_code(given)
    run_training_command(check_plan, run, _make_plan(given), given, _show)


def _check_options(given: dict[str, Any]) -> None:
    """UsageError for options that go with another method or source."""
    if given["method"] == "structured":
        why = "it chooses single weights, and whole channels are cut to a budget"
        reject_unused_options(UNSTRUCTURED_OPTIONS, why, "--method unstructured with it, or --target-speedup 1.5")
    else:
        reject_unused_options(STRUCTURED_OPTIONS, "it is for whole channels", "leave it out, or --method structured")
    if ".py:" not in given["model"]:
        why = "only a torch source is trained back, FILE.py:FACTORY with its weights"
        reject_unused_options(
            (*TRAINING_SETTINGS, "data", *TRAINING_OPTIONS), why, "leave it out: the network is cut as it is"
        )
        if given["importance"] == "taylor":
            reject_unused_options(("importance",), "taylor needs gradients", "--importance l2")
    elif not given["data"]:
        reject_unused_options(
            (*TRAINING_SETTINGS, *TRAINING_OPTIONS), "nothing is trained without --data", "--data train.zip"
        )
    if not given["teach"]:
        reject_unused_options(DISTILLATION_OPTIONS, "the source does not teach", "leave out --no-teach")


def _make_plan(given: dict[str, Any]) -> PrunePlan:
    import msgspec

    from edgewright.errors import UsageError
    from edgewright.runtimes.table import find_runtime
    from edgewright.schema.plan import PrunePlan

    for name, flag in (("task_file", "--task"), ("val", "--val")):
        if not given[name]:
            raise UsageError(f"{flag} is missing", "the result is judged by it", f"{flag} …, see docs/prune.md")
    task, code = read_task(given)
    return PrunePlan(
        source=given["model"],
        weights=given["weights"],
        runtime=find_runtime(given["runtime"]).name,
        task=msgspec.to_builtins(task),
        code=code,
        data=given["data"],
        val=given["val"],
        method=given["method"],
        importance=given["importance"] or ("taylor" if given["data"] and ".py:" in given["model"] else "l2"),
        target_speedup=given["target_speedup"],
        target_bytes=given["target_bytes"],
        target_macs=given["target_macs"],
        max_drop=given["max_drop"],
        sparsity=given["sparsity"],
        scope=given["scope"],
        pattern=given["pattern"],
        multiple=given["multiple"],
        rounds=given["rounds"],
        round_epochs=given["round_epochs"],
        settings=read_settings(given),
        held_out=given["held_out"],
        seeds=given["seeds"],
        teach=given["teach"],
        views=given["views"],
        temperature=given["temperature"],
        alpha=given["alpha"],
        control=given["control"],
        threads=given["threads"],
        shapes=dict(given["shapes"]),
        timeout_s=given["timeout_s"],
    )


def _show(report: PruneReport) -> None:
    show_networks(report.sides)
    if report.widths:
        rows = [(row.name, row.kind, str(row.before), str(row.after), f"{len(row.layers)}") for row in report.widths]
        print_table(("group", "kind", "before", "after", "layers"), rows, "What is left of each group")
    show_comparisons("pruned", report.against, report.speedup)
    for name, reason in list(report.fixed.items())[:MAX_FIXED]:
        print_message(f"Left alone: {name}: {reason}")
    if (more := len(report.fixed) - MAX_FIXED) > 0:
        print_message(f"… and {more} more, in the JSON")
    for note in report.notes:
        print_message(note)
    if report.model:
        print_message(f"The pruned model: {report.model}" + (f"; as torch: {report.module}" if report.module else ""))
