"""Permission to run code: code named on the command line runs; code named by a file needs `--allow-code`."""

from __future__ import annotations

from typing import Any

import click

from edgewright.cli.project_file import FILE_NAME, MAY_SET, is_code, is_from_project

allow_code = click.option(
    "--allow-code",
    is_flag=True,
    help="Allow code that is named by the task file (metric) or by ./edgewright.toml (data, torch sources).",
)


def check_code(given: dict[str, Any]) -> None:
    """Check the code, the data and the task that the project file names. No code is imported.

    Raises:
        ConfigError: the project file names code, and the user did not allow it; or a task with files outside of the
            current folder.
        UsageError: the project file names a dataset with a link to outside of the current folder.
    """
    from pathlib import Path

    from edgewright.tasks.spec.functions import make_code_rejection
    from edgewright.web.jobs.choices import check_links

    context = click.get_current_context()
    for name in (name for name, kind in MAY_SET.items() if kind == "data"):
        if given.get(name) and is_from_project(context, name) and Path(given[name]).is_dir():
            check_links(Path(given[name]), [Path.cwd()])
    for name in _list_code_options(given):
        if is_from_project(context, name) and not given["allow_code"]:
            raise make_code_rejection(given[name], f"{FILE_NAME}: [{context.command.name}] {name}")
    check_task_folder(given)


def check_task_folder(given: dict[str, Any]) -> None:
    """Raise ConfigError if the project file names a task whose files are outside of the current folder."""
    from pathlib import Path

    from edgewright.tasks.spec.file import read_task

    if is_from_project(click.get_current_context(), "task_file"):
        read_task(Path(given["task_file"]), within=Path.cwd())


def _list_code_options(given: dict[str, Any]) -> list[str]:
    """Return the options whose value is code."""
    kinds = {name: kind for name, kind in MAY_SET.items() if kind in ("data", "model")}
    return [name for name, kind in kinds.items() if given.get(name) and is_code(kind, given[name])]
