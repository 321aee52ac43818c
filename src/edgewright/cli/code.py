"""Permission to run code: code named on the command line runs; code named by a file needs `--allow-code`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.project_file import FILE_NAME, MAY_SET, is_code, is_from_project

if TYPE_CHECKING:
    from pathlib import Path

    from edgewright.tasks.spec.task import Task

allow_code = click.option(
    "--allow-code",
    is_flag=True,
    help="Allow code that is named by the task file (metric) or by ./edgewright.toml (data, torch sources).",
)


def check_code(given: dict[str, Any]) -> None:
    """Check the code and the data that the project file names. No code is imported.

    Raises:
        ConfigError: the project file names code, and the user did not allow it.
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


def read_task(given: dict[str, Any]) -> tuple[Task, tuple[str, ...]]:
    """Return the task, and the functions that may run: those named as data, and the task's metric.

    Raises:
        ConfigError: the task is not valid, or its metric is code that the user did not allow. A task file counts as
            data, even if the user named it.
    """
    from pathlib import Path

    from edgewright.tasks.spec.file import read_task as read_file
    from edgewright.tasks.spec.functions import make_code_rejection

    task = read_file(Path(given["task_file"]), within=find_task_folder())
    code = [given[name] for name in _list_code_options(given) if MAY_SET[name] == "data"]
    if ":" in task.metric:
        if not given["allow_code"]:
            raise make_code_rejection(task.metric, f"{given['task_file']}: metric")
        code.append(task.metric)
    return task, tuple(dict.fromkeys(code))


def find_task_folder() -> Path | None:
    """Return the folder that must contain the task's files; None if the user named the task."""
    from pathlib import Path

    return Path.cwd() if is_from_project(click.get_current_context(), "task_file") else None


def _list_code_options(given: dict[str, Any]) -> list[str]:
    """Return the options whose value is code."""
    kinds = {name: kind for name, kind in MAY_SET.items() if kind in ("data", "model")}
    return [name for name, kind in kinds.items() if given.get(name) and is_code(kind, given[name])]
