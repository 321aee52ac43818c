"""`edgewright runtimes`: isolated environments for runtimes and converters with conflicting packages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.help.pages import HelpedGroup
from edgewright.cli.rendering.output import print_json, print_message, print_table, show_progress

if TYPE_CHECKING:
    from edgewright.runtimes.environments import EnvironmentStatus

HEADERS = ("name", "runtime", "state", "size", "purpose", "path")


@click.group(cls=HelpedGroup)
def runtimes() -> None:
    """Manage isolated environments of runtimes and converters: list, setup, remove."""


@runtimes.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.environments/1).")
def list_command(as_json: bool) -> None:
    """List the available environments and their state on this machine."""
    from edgewright.runtimes.environments import examine_environments

    statuses = examine_environments(_find_environments_folder())
    if as_json:
        print_json(
            {"schema": "edgewright.environments/1", "environments": [_describe_environment(one) for one in statuses]}
        )
        return
    print_table(HEADERS, [_make_environment_row(one) for one in statuses], droppable=("path", "purpose"))
    print_message(
        "Without an environment, a runtime uses the Python that Edgewright is installed in, if its packages are there."
    )


@runtimes.command()
@click.argument("name", metavar="NAME")
@click.option("--yes", is_flag=True, help="Skip the confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print the environment's record (edgewright.environment/1).")
def setup(name: str, yes: bool, as_json: bool) -> None:
    """Install the environment NAME from its lock file. Packages that pip has not cached are downloaded.

    Workers of the runtime then use the environment. A failed or interrupted setup leaves nothing behind.
    """
    import sys

    from edgewright.flows.environments.flow import plan_setup, set_up_environment
    from edgewright.runtimes.environments import examine_environment
    from edgewright.schema.units import show_bytes

    folder = _find_environments_folder()
    plan = plan_setup(folder, name)
    if examine_environment(folder, plan.environment.name).state != "ready":
        print_message(
            f"{plan.environment.name} ({plan.environment.purpose}): {plan.packages} packages, "
            f"about {show_bytes(plan.bytes)}, in {plan.path}"
        )
        asks = sys.stdin.isatty() and sys.stderr.isatty()
        if asks and not yes and not click.confirm("Install it?", default=True, err=True):
            return
    with show_progress() as progress:
        status = set_up_environment(folder, plan.environment.name, progress)
    if status.record is not None:
        for conflict in status.record.conflicts:
            print_message(f"Warning: pip check: {conflict}")
        print_message(f"Ready: {plan.environment.name}, {show_bytes(status.record.bytes)}.")
    if as_json:
        print_json(status.record)
    else:
        click.echo(status.path)


@runtimes.command()
@click.argument("name", metavar="NAME")
def remove(name: str) -> None:
    """Remove the environment NAME; it can be set up again from its lock file."""
    from edgewright.flows.environments.flow import remove_environment as discard

    removed = discard(_find_environments_folder(), name)
    for path in removed:
        click.echo(path)
    if not removed:
        print_message(f"{name} is not set up.")


def _find_environments_folder() -> Path:
    """Return the folder of all environments, in EDGEWRIGHT_HOME or the platform's folder for user data."""
    from edgewright.runtimes.environments import FOLDER
    from edgewright.store.location import find_home

    return find_home() / FOLDER


def _make_environment_row(status: EnvironmentStatus) -> tuple[str, ...]:
    from edgewright.schema.units import show_bytes

    info, record = status.environment, status.record
    size = show_bytes(record.bytes) if record else f"about {show_bytes(info.megabytes * 1_000_000)}"
    path = str(status.path) if record else ""
    return (info.name, info.runtime, status.state, size, info.purpose, path)


def _describe_environment(status: EnvironmentStatus) -> dict[str, Any]:
    """Return an environment for --json; `bytes` is None if it is not ready, `expected_bytes` is an estimate."""
    info, record = status.environment, status.record
    return {
        "name": info.name,
        "runtime": info.runtime,
        "brings": info.purpose,
        "state": status.state,
        "lock": status.lock,
        "path": str(status.path),
        "bytes": record.bytes if record else None,
        "expected_bytes": info.megabytes * 1_000_000,
        "python": record.python if record else None,
        "made_at": record.made_at if record else None,
        "conflicts": list(record.conflicts) if record else [],
    }
