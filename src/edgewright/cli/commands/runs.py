"""`edgewright runs`: the stored runs."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, get_args

import click

from edgewright.cli.help.pages import HelpedGroup
from edgewright.cli.parse import PATH, TAG
from edgewright.cli.rendering.output import (
    print_answer,
    print_json,
    print_message,
    print_table,
    show_progress,
    show_table,
)
from edgewright.schema.vocabulary import RunState

if TYPE_CHECKING:
    from edgewright.schema.run import Run
    from edgewright.store.store import Store


@click.group(cls=HelpedGroup)
def runs() -> None:
    """Manage stored runs: list, show, export, import, rerun, tag, delete."""


@runs.command("list")
@click.option("--model", help="Model name, or the first digits of its hash.")
@click.option("--runtime", help="Runtime of the run.")
@click.option("--kind", help="Kind of the run, such as benchmark or evaluate.")
@click.option("--device", help="Device name or id.")
@click.option("--tag", "tags", type=TAG, multiple=True, metavar="NAME=VALUE", help="Tag of the run; may be repeated.")
@click.option("--state", type=click.Choice(get_args(RunState)), help="State of the run.")
@click.option("--since", metavar="DATE", help="Earliest start date, such as 2026-11-01 (UTC).")
@click.option("--until", metavar="DATE", help="Date before which the run started (UTC).")
@click.option("--text", help="Text in a note, an error, or a name of a model, device or runtime.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=50, help="Maximum number of runs, newest first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.runs/1).")
def list_command(tags: tuple[tuple[str, str], ...], as_json: bool, **wanted: Any) -> None:
    """List the runs, newest first."""
    from edgewright.api.records import list_runs

    result = list_runs(tag=tags, **wanted)
    if as_json:
        print_json(result.report)
        return
    show_table(result.table())
    if not result.rows:
        print_message("No runs are stored. `edgewright benchmark MODEL` or `edgewright demo` creates some.")


@runs.command()
@click.argument("run_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print the whole run (edgewright.run/1).")
def show(run_id: str, as_json: bool) -> None:
    """Show one run: facts, figures, outputs, lineage, layers, warnings."""
    from edgewright.api.records import load_run
    from edgewright.cli.rendering.tables import show_run

    result = load_run(run_id)
    if as_json:
        print_json(result.report)
        return
    print_answer(result.answer)
    show_run(result.run, result.lineage)


@runs.command("export")
@click.argument("items", nargs=-1, metavar="ID... [FOLDER]")
@click.option("--html", type=PATH, metavar="FILE", help="Path of an HTML report of one to eight runs.")
@click.option("--site", type=PATH, metavar="FOLDER", help="Folder for static pages; without ID, of all runs.")
@click.option("--chrome-trace", type=PATH, metavar="FILE", help="Path of a layer trace for Perfetto.")
@click.option(
    "--model-explorer", type=PATH, metavar="FILE", help="Path of the layer times as Model Explorer node data."
)
@click.option("--csv", type=PATH, metavar="FILE", help="Path of a CSV table of the layers.")
def export_command(items: tuple[str, ...], **wanted: str | None) -> None:
    """Export a run with its model to a folder that another machine can import, or export reports of runs."""
    from edgewright.api.user_store import open_user_store

    chosen = {name: path for name, path in wanted.items() if path is not None}
    with closing(open_user_store()) as store:
        if not chosen:
            _export_folder(items, store)
        for name, path in chosen.items():
            _write_report(name, path, items, store)
            click.echo(path)


def _export_folder(items: tuple[str, ...], store: Store) -> None:
    from pathlib import Path

    from edgewright.errors import UsageError

    if len(items) != 2:
        what = "a run and a folder are required"
        raise UsageError(what, f"{len(items)} arguments are given", "edgewright runs export ID FOLDER")
    for output in store.export_run(items[0], Path(items[1])):
        print_message(f"Warning: {output.role} is not in the store and was not exported.")
    click.echo(items[1])


def _write_report(name: str, path: str, items: tuple[str, ...], store: Store) -> None:
    from pathlib import Path

    from edgewright.errors import UsageError
    from edgewright.system.files import write_atomically
    from edgewright.web.pages.reports import render_one_file, write_layers, write_site

    if name == "site":
        write_site(Path(path), items, store)
        return
    if not items or (name != "html" and len(items) > 1):
        what = f"--{name.replace('_', '-')} needs {'exactly one run' if name != 'html' else 'at least one run'}"
        raise UsageError(what, f"{len(items)} are given", "give the run's id")
    runs = [store.load(item) for item in items]
    if name == "html":
        write_atomically(Path(path), render_one_file(runs, store), follow=True)
    else:
        write_layers(name, Path(path), runs[0])


@runs.command("import")
@click.argument("folder", type=PATH, metavar="FOLDER")
def import_command(folder: str) -> None:
    """Import a run that was exported on another machine."""
    from pathlib import Path

    from edgewright.api.user_store import open_user_store

    with closing(open_user_store()) as store:
        click.echo(store.import_run(Path(folder)))


@runs.command()
@click.argument("run_id", metavar="ID")
@click.option("--on", "device", help="Device of a repeated benchmark; default: the device of the run.")
@click.option("-o", "--output", type=PATH, default="artifacts", help="Output folder, for runs that make artifacts.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.rerun/1).")
def rerun(run_id: str, device: str | None, output: str, as_json: bool) -> None:
    """Repeat a stored run with the same model, inputs and plan, and compare the two.

    A benchmark is repeated with the stored model. For other runs, the model and the data must still be where the plan
    names them.
    """
    from edgewright.api.results.measurement import BenchmarkResult, make_comparison_table
    from edgewright.api.user_store import open_user_store
    from edgewright.cli.rendering.tables import show_benchmark
    from edgewright.flows.benchmark.report import make_report
    from edgewright.flows.benchmark.rerun import load_recorded_plan
    from edgewright.flows.benchmark.rerun import rerun as repeat
    from edgewright.flows.devices.names import open_device
    from edgewright.flows.workspace import Workspace

    with closing(open_user_store()) as store:
        original = store.load(run_id)
        if original.kind != "benchmark" and device is None:
            _repeat(original, output, as_json=as_json)
            return
        word = device or load_recorded_plan(original).device
        with closing(open_device(word)) as opened, show_progress() as progress:
            repeated = repeat(run_id, Workspace(opened, store, progress), moved_to=device or "")
    comparisons = (repeated.comparison,) if repeated.comparison else ()
    runs = (repeated.original, *repeated.outcome.runs)
    result = BenchmarkResult(make_report(runs, comparisons), runs)
    if as_json:
        print_json({"schema": "edgewright.rerun/1", "runs": result.rows, "comparisons": comparisons})
    else:
        show_benchmark(result)
        show_table(make_comparison_table(comparisons, {run.id: run.id for run in runs}))
    if repeated.outcome.error is not None:
        raise repeated.outcome.error


def _repeat(original: Run, output: str, *, as_json: bool) -> None:
    """Repeat a run that is no benchmark, and show the metrics of both."""
    from pathlib import Path

    from edgewright.api.results.records import format_metric
    from edgewright.cli.user_store import open_workspace
    from edgewright.flows.rerun import pair_metrics, repeat_run

    with open_workspace() as workspace:
        repeated = repeat_run(original, Path(output), workspace)
    again, pairs = repeated.run, pair_metrics(repeated)
    if as_json:
        runs = [{"run_id": run.id, "state": run.state, "error": run.error} for run in (original, again)]
        metrics = [{"name": a.name, "unit": a.unit, "original": a.value, "repeated": b.value} for a, b in pairs]
        content = {"runs": runs, "comparisons": [], "metrics": metrics, "changed": repeated.changed}
        print_json({"schema": "edgewright.rerun/1", **content})
    else:
        print_table(
            ("metric", "original", "repeated"), [(a.name, format_metric(a), format_metric(b)) for a, b in pairs]
        )
        if again.id == original.id:
            print_message("Nothing was compiled: the artifact exists and is unchanged.")
        else:
            print_message(f"Repeated as run {again.id}.")
        for name in repeated.changed:
            print_message(f"The plan differs: {name}")
    if repeated.error is not None:
        raise repeated.error


@runs.command()
@click.argument("run_id", metavar="ID")
@click.argument("tags", nargs=-1, type=TAG, metavar="[NAME=VALUE]...")
@click.option("--note", help="New note of the run.")
@click.option("--remove", multiple=True, metavar="NAME", help="Tag to remove; may be repeated.")
def tag(run_id: str, tags: tuple[tuple[str, str], ...], note: str | None, remove: tuple[str, ...]) -> None:
    """Set tags or the note of a run, or remove tags."""
    from edgewright.api.user_store import open_user_store

    with closing(open_user_store()) as store:
        for name, value in tags:
            store.tag(run_id, name, value)
        for name in remove:
            store.untag(run_id, name)
        if note is not None:
            store.note(run_id, note)


@runs.command()
@click.argument("run_ids", nargs=-1, required=True, metavar="ID...")
@click.option("--yes", is_flag=True, help="Skip the confirmation.")
def delete(run_ids: tuple[str, ...], yes: bool) -> None:
    """Delete runs and the files that no other run uses."""
    import sys

    from edgewright.api.user_store import open_user_store
    from edgewright.errors import UsageError

    if not yes and not sys.stdin.isatty():
        raise UsageError("nothing was deleted", "the confirmation requires a terminal", "add --yes")
    with closing(open_user_store()) as store:
        ids = [store.load(run_id).id for run_id in run_ids]
        if yes or click.confirm(f"Delete {len(ids)} run{'s' if len(ids) > 1 else ''}?", err=True):
            store.delete(ids)
            print_message(f"Deleted {', '.join(ids)}.")
