"""Shell completion of model files, runtimes and run ids; click completes commands, options and paths."""

from collections.abc import Callable

import click
from click.shell_completion import CompletionItem

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
SHELLS = ("bash", "zsh", "fish")
MAX_IDS = 50


def make_script(command: click.Command, program: str, shell: str) -> str:
    """Return the script that a shell reads to complete the words of a command."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, shell  # noqa: S101 - click has a class for each of SHELLS
    return kind(command, {}, program, f"_{program.upper()}_COMPLETE").source()


def add_completion(command: click.Command) -> None:
    """Set the completion of each parameter of a command and its subcommands, by its name or its metavar."""
    for param in command.params:
        complete = COMPLETE.get(str(param.name)) or COMPLETE.get(str(param.metavar))
        if complete is not None:
            param._custom_shell_complete = complete  # the constructor's argument `shell_complete`
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            add_completion(inner)


def _complete_files(context: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


def _complete_runtimes(context: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the last of comma-separated runtimes."""
    from edgewright.flows.doctor.flow import TEST_RUNTIME
    from edgewright.runtimes.table import TABLE

    before, comma, last = incomplete.rpartition(",")
    names = [name for name in TABLE if name.startswith(last) and (name != TEST_RUNTIME or last)]
    return [CompletionItem(f"{before}{comma}{name}") for name in names]


def _complete_runs(context: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the newest run ids, with kind and model as help."""
    from contextlib import closing, suppress

    from edgewright.api.user_store import open_user_store
    from edgewright.errors import EdgewrightError
    from edgewright.store.runs.queries import RunFilter

    with suppress(EdgewrightError), closing(open_user_store()) as store:
        runs = store.list_runs(RunFilter(limit=None if incomplete else MAX_IDS, metrics=()))
        return [
            CompletionItem(run.id, help=f"{run.kind} {run.model_name or ''} {run.runtime}")
            for run in runs
            if run.id.startswith(incomplete.upper())
        ][:MAX_IDS]
    return []


def _complete_runs_or_files(context: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return (_complete_runs(context, param, incomplete) if incomplete else []) or _complete_files(
        context, param, incomplete
    )


COMPLETE: dict[str, Complete] = {
    "runtime": _complete_runtimes,
    "MODEL": _complete_files,
    "MODEL...": _complete_files,
    "DATA": _complete_files,
    "ID": _complete_runs,
    "ID...": _complete_runs,
    "ID... [FOLDER]": _complete_runs_or_files,
    "A B...": _complete_runs_or_files,
}
