"""`edgewright package`: a project for an app."""

from __future__ import annotations

from typing import Any

import click

from edgewright.cli.help.pages import HelpedCommand, HelpedGroup
from edgewright.cli.parse import PATH
from edgewright.cli.rendering.output import localize, print_json, print_line, print_message, print_table, show_progress
from edgewright.packaging.targets import TARGETS
from edgewright.schema.units import show_bytes


@click.group(cls=HelpedGroup)
def package() -> None:
    """Generate a project that runs an artifact in an app, and check it."""


_OPTIONS = (
    click.argument("artifacts", type=PATH, nargs=-1, required=True, metavar="ARTIFACT..."),
    click.option("--task", "task_file", type=PATH, metavar="FILE.toml", required=True, help="Task of the model."),
    click.option("-o", "--output", type=PATH, metavar="FOLDER", required=True, help="Folder of the project."),
    click.option("--data", metavar="DATA", help="Samples of the golden vectors; default: generated pictures."),
    click.option("--samples", type=int, default=8, help="Number of golden vectors; default: 8."),
    click.option("--threads", type=int, help="Threads per inference; default: of the newest measured run, else 1."),
    click.option(
        "-p", "--option", "option", multiple=True, metavar="KEY=VALUE", help="Runtime option; default: of that run."
    ),
    click.option("--name", help="Name to show; default: that of the task."),
    click.option("--app-id", metavar="ID", help="Id of the app; default: com.example.NAME."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.package/1)."),
)


def _add_target(target: str, title: str) -> None:
    """Add the command of a target."""

    def generate(**given: Any) -> None:
        _generate(target, given)

    generate.__doc__ = f"""Generate {title}, with golden vectors that prove it.

    Inputs are prepared and outputs read as the task says. Files of the folder that you changed stay as they are.
    """
    for option in reversed(_OPTIONS):
        generate = option(generate)
    package.command(target, cls=HelpedCommand)(generate)


def _generate(target: str, given: dict[str, Any]) -> None:
    from edgewright.api.field.package import PackageRequest, make_package

    request = PackageRequest(
        target=target,
        artifacts=given["artifacts"],
        task=given["task_file"],
        output=given["output"],
        data=given["data"] or "",
        samples=given["samples"],
        threads=given["threads"],
        options=given["option"],
        name=given["name"] or "",
        app_id=given["app_id"] or "",
    )
    with show_progress() as progress:
        report = make_package(request, progress)
    if given["as_json"]:
        print_json(report)
    else:
        print_line(localize(report.answer))
    for note in report.notes:
        print_message(f"Note: {note}.")


@package.command("check", cls=HelpedCommand)
@click.argument("path", type=PATH, metavar="FOLDER|APK|AAB")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.package-check/1).")
def check(path: str, as_json: bool) -> None:
    """Check a project, an APK or an AAB for what breaks in an app.

    The exit code is 3 if a check failed: alignment to 16 KB pages, compression of the model, API level, missing ABIs,
    duplicate runtimes, licenses, permissions, golden vectors, and the model's hash.
    """
    from edgewright.api.field.package import check_project

    report, error = check_project(path)
    if as_json:
        print_json(report)
    else:
        print_table(("check", "state", "text"), [(one.code, one.state, one.text) for one in report.checks])
        print_line("")
        sizes = [(one.part, one.abi, show_bytes(one.bytes), show_bytes(one.stored)) for one in report.sizes]
        print_table(("part", "abi", "size", "in the archive"), sizes)
        print_line(localize(report.answer))
    if error is not None:
        raise error


for _name, _info in TARGETS.items():
    _add_target(_name, _info.title)
