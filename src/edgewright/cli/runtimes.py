"""`edgewright runtimes`: isolated environments for runtimes and converters that cannot live beside each other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.output import print_json, print_table, progress, say

if TYPE_CHECKING:
    from edgewright.runtimes.environments import Standing

HEADERS = ("name", "for", "state", "size", "brings", "path")


@click.group()
def runtimes() -> None:
    """Isolated environments of runtimes and converters: list, setup, remove."""


@runtimes.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.environments/1).")
def list_command(as_json: bool) -> None:
    """List the environments that can be set up, and how each stands here."""
    from edgewright.runtimes.environments import examine_environments

    standings = examine_environments(environments_folder())
    if as_json:
        print_json({"schema": "edgewright.environments/1", "environments": [describe(one) for one in standings]})
        return
    print_table(HEADERS, [list_row(one) for one in standings], droppable=("path", "brings"))
    say("What is not set up here runs in the Python that Edgewright is installed in, where that has its packages.")


@runtimes.command()
@click.argument("name", metavar="NAME")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print the environment's record (edgewright.environment/1).")
def setup(name: str, yes: bool, as_json: bool) -> None:
    """Install the environment NAME from its lock, in the folder of your data. Downloads what pip has not kept.

    The workers of that runtime use it from then on. Nothing of it is left when it fails or is stopped.
    """
    import sys

    from edgewright.facts.units import show_bytes
    from edgewright.flows.environments import plan_setup, set_up
    from edgewright.runtimes.environments import examine_environment

    folder = environments_folder()
    plan = plan_setup(folder, name)
    if examine_environment(folder, plan.environment.name).state != "ready":
        say(
            f"{plan.environment.name} ({plan.environment.purpose}): {plan.packages} packages, "
            f"about {show_bytes(plan.bytes)}, into {plan.path}"
        )
        asks = sys.stdin.isatty() and sys.stderr.isatty()
        if asks and not yes and not click.confirm("Install it?", default=True, err=True):
            return
    with progress() as tell:
        standing = set_up(folder, plan.environment.name, tell)
    if standing.record is not None:
        for conflict in standing.record.conflicts:
            say(f"Warning: pip check: {conflict}")
        say(f"Ready: {plan.environment.name}, {show_bytes(standing.record.bytes)}.")
    if as_json:
        print_json(standing.record)
    else:
        click.echo(standing.path)


@runtimes.command()
@click.argument("name", metavar="NAME")
def remove(name: str) -> None:
    """Remove the environment NAME; it can be set up again from its lock."""
    from edgewright.flows.environments import remove as discard

    gone = discard(environments_folder(), name)
    for path in gone:
        click.echo(path)
    if not gone:
        say(f"{name} is not set up.")


def environments_folder() -> Path:
    """Under EDGEWRIGHT_HOME, or the platform's folder for a user's data."""
    from edgewright.runtimes.environments import FOLDER
    from edgewright.store.place import home

    return home(os.environ) / FOLDER


def list_row(standing: Standing) -> tuple[str, ...]:
    from edgewright.facts.units import show_bytes

    info, record = standing.environment, standing.record
    size = show_bytes(record.bytes) if record else f"about {show_bytes(info.megabytes * 1_000_000)}"
    path = str(standing.path) if record else ""
    return (info.name, info.runtime, standing.state, size, info.purpose, path)


def describe(standing: Standing) -> dict[str, Any]:
    """One environment as JSON has it; `bytes` is None where it is not ready, `expected_bytes` a rough guess."""
    info, record = standing.environment, standing.record
    return {
        "name": info.name,
        "runtime": info.runtime,
        "brings": info.purpose,
        "state": standing.state,
        "lock": standing.lock,
        "path": str(standing.path),
        "bytes": record.bytes if record else None,
        "expected_bytes": info.megabytes * 1_000_000,
        "python": record.python if record else None,
        "made_at": record.made_at if record else None,
        "conflicts": list(record.conflicts) if record else [],
    }
