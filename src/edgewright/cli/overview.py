"""What `edgewright` prints without arguments: the sequence of commands, and the next step from the record."""

from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from edgewright.cli.rendering.output import print_line, print_table
from edgewright.errors import EdgewrightError
from edgewright.schema.run import PART_OF
from edgewright.schema.units import UNKNOWN
from edgewright.store.runs.queries import RunFilter, RunSummary

MAX_RUNS = 500
MAKERS = ("compile", "quantize")  # kinds of runs whose model is the user's


class Step(NamedTuple):
    """One command of the sequence; `kind` is that of its runs, empty if it has none."""

    command: str
    purpose: str
    kind: str = ""


STEPS = (
    Step("edgewright init {model}", "describe the model: edgewright.toml, task.toml"),
    Step("edgewright compile {model}", "convert it for every installed runtime", "compile"),
    Step("edgewright benchmark {artifacts}", "measure the artifacts", "benchmark"),
    Step("edgewright quantize {model} --task task.toml --data DATA", "quantize it", "quantize"),
    Step("edgewright evaluate {model} {artifacts} --task task.toml --data DATA", "compare the accuracy", "evaluate"),
    Step("edgewright gate {model} --baseline baseline.json --write", "let CI check it from now on", "gate"),
)


def show_overview() -> None:
    """Print the sequence with the last run of each command, and the first step that was not taken."""
    runs = _list_runs()
    model = next((run.model_name for run in runs if run.kind in MAKERS and run.model_name), None)
    words = {"model": model or "MODEL", "artifacts": f"{Path(model).stem if model else 'MODEL'}-artifacts"}
    words = {name: quote(word) for name, word in words.items()}
    last = {run.kind: run for run in reversed(runs)}
    rows = [(step.command.format(**words), step.purpose, _show_last(step, last.get(step.kind))) for step in STEPS]
    print_table(("command", "purpose", "last run"), rows, droppable=("last run",))
    print_line("")
    following = next((row[0] for row in rows if row[2] == UNKNOWN), "edgewright ui")
    print_line(f"Next: {following}")
    print_line("Without a model of your own: edgewright demo. All commands and options: edgewright --help")


def _list_runs() -> Sequence[RunSummary]:
    """Return the newest runs without steps of others; none if the record cannot be read."""
    from edgewright.api.user_store import open_user_store

    with suppress(EdgewrightError), closing(open_user_store()) as store:
        runs = store.list_runs(RunFilter(limit=MAX_RUNS, metrics=()))
        return [run for run in runs if PART_OF not in run.tags]
    return []


def _show_last(step: Step, run: RunSummary | None) -> str:
    if not step.kind:
        return "done" if Path("task.toml").is_file() else UNKNOWN
    return UNKNOWN if run is None else f"{run.started_at[:10]} {run.model_name or ''}".strip()
