"""Code that a command may run: what the user typed runs, what a file names only with `--allow-code`."""

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
    help="Run the code that the task names (its metric), or ./edgewright.toml (data, torch sources).",
)


def check_code(given: dict[str, Any]) -> None:
    """Raise ConfigError for code that the project file names and the user did not allow; none of it is imported.

    UsageError for a data set that it names with a link in it that leads out of the current folder.
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

    ConfigError for a task that cannot be used, or whose metric is code that the user did not allow: a task file is
    data, whoever named it.
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
    """Return the folder that the files of the task must stay in; None for a task that the user named."""
    from pathlib import Path

    return Path.cwd() if is_from_project(click.get_current_context(), "task_file") else None


def _list_code_options(given: dict[str, Any]) -> list[str]:
    """Return the options whose value is code."""
    kinds = {name: kind for name, kind in MAY_SET.items() if kind in ("data", "model")}
    return [name for name, kind in kinds.items() if given.get(name) and is_code(kind, given[name])]
