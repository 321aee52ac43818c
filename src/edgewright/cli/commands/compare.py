"""`edgewright compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgewright.cli.rendering.output import print_json, print_message

if TYPE_CHECKING:
    from edgewright.schema.run import Comparison, Run


@click.command()
@click.argument("items", nargs=-1, required=True, metavar="A B...")
@click.option("--threshold", default=0.02, help="Smallest relative difference that is reported as one.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.compare/1).")
def compare(items: tuple[str, ...], threshold: float, as_json: bool) -> None:
    """Compare runs, or measure models now and compare them.

    A and B are run ids (a unique prefix is enough) or model files. Each is compared with the first: the time ratio
    with its confidence interval, and a verdict. Models are measured with the defaults of `edgewright benchmark`. Runs
    of `edgewright evaluate` are compared sample by sample.
    """
    from edgewright.errors import UsageError
    from edgewright.flows.benchmark.comparison import are_evaluations, compare_runs

    if len(items) < 2:
        raise UsageError("compare needs two runs or models", f"{len(items)} is given", "edgewright compare A B")
    runs = _measure_models(items, threshold) if _are_files(items) else _load_runs(items)
    if are_evaluations(runs):
        _compare_samples(runs, as_json=as_json)
        return
    comparisons = compare_runs(runs, threshold)
    if as_json:
        from edgewright.flows.benchmark.report import make_report

        rows = make_report(runs, comparisons)
        print_json({"schema": "edgewright.compare/1", "runs": rows.runs, "comparisons": comparisons})
        return
    _show(runs, comparisons)


def _compare_samples(runs: list[Run], *, as_json: bool) -> None:
    from edgewright.cli.rendering.output import print_table
    from edgewright.flows.benchmark.comparison import compare_evaluations

    found = compare_evaluations(runs)
    if as_json:
        print_json({"schema": "edgewright.compare/1", "runs": [], "comparisons": [], "evaluations": found})
        return
    names = {run.id: f"{run.id} {run.model.name if run.model else ''} in {run.runtime}" for run in runs}
    rows = [
        (
            names[one.a],
            names[one.b],
            one.metric,
            str(one.n),
            f"{one.difference:+.4f} ({one.low:+.4f} to {one.high:+.4f})",
            f"{one.p:.2g}",
        )
        for one in found
    ]
    print_table(("reference", "compared", "metric", "samples", "difference (95 % interval)", "p"), rows)


def _are_files(items: tuple[str, ...]) -> bool:
    """Return whether the items are model files: they exist, or do not look like run ids."""
    from pathlib import Path

    return any(Path(item).exists() or "." in item or "/" in item for item in items)


def _measure_models(items: tuple[str, ...], threshold: float) -> list[Run]:
    from edgewright.cli.commands.benchmark import measure_plan
    from edgewright.flows.candidates import pair_candidates, read_models
    from edgewright.schema.plan import BenchmarkPlan

    models = read_models(items)
    candidates = pair_candidates([models[path] for path in items], [], [])
    outcome = measure_plan(BenchmarkPlan(candidates=candidates, threshold=threshold), {})
    if outcome.error is not None:
        raise outcome.error
    return list(outcome.runs)


def _load_runs(items: tuple[str, ...]) -> list[Run]:
    from contextlib import closing

    from edgewright.cli.user_store import open_user_store

    with closing(open_user_store()) as store:
        return [store.load(item) for item in items]


def _show(runs: list[Run], comparisons: tuple[Comparison, ...]) -> None:
    from edgewright.cli.rendering.tables import show_comparisons
    from edgewright.flows.benchmark.comparison import find_differences, get_session_id

    names = {run.id: f"{run.id} {run.model.name if run.model else ''} in {run.runtime}" for run in runs}
    show_comparisons(comparisons, names)
    for run in runs:
        if run.imported:
            print_message(f"{run.id} is imported: it was measured on another machine.")
    for run in runs[1:]:
        if get_session_id(run) != get_session_id(runs[0]):
            print_message(
                f"{run.id} is from another session: a verdict requires an interval that is completely beyond 5 %."
            )
        for name, (before, after) in find_differences(runs[0], run).items():
            print_message(f"{run.id} differs in {name}: {before} → {after}")
