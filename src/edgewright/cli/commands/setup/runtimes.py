"""`edgewright runtimes`: isolated environments for runtimes and converters with conflicting packages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.help.pages import HelpedGroup
from edgewright.cli.parse import FilePath
from edgewright.cli.rendering.output import print_json, print_message, print_table, show_progress

if TYPE_CHECKING:
    from edgewright.runtimes.environments import EnvironmentStatus

WEB = "web"
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
        rows = [*(_describe_environment(one) for one in statuses), _describe_web_runtimes()]
        print_json({"schema": "edgewright.environments/1", "environments": rows})
        return
    table = [*(_make_environment_row(one) for one in statuses), _make_web_row()]
    print_table(HEADERS, table, droppable=("path", "purpose"))
    print_message(
        "Without an environment, a runtime uses the Python that Edgewright is installed in, if its packages are there."
    )


@runtimes.command()
@click.argument("name", metavar="NAME")
@click.option("--yes", is_flag=True, help="Skip the confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print the environment's record (edgewright.environment/1).")
@click.option(
    "--from",
    "source",
    type=FilePath(exists=True, file_okay=False),
    metavar="FOLDER",
    help="Folder with the archives of `npm pack`, for NAME web; nothing is downloaded then.",
)
def setup(name: str, yes: bool, as_json: bool, source: str | None) -> None:
    """Install the environment NAME from its lock file. Packages that pip has not cached are downloaded.

    Workers of the runtime then use the environment. A failed or interrupted setup leaves nothing behind.

    NAME web brings the runtimes of browsers (onnxruntime-web, LiteRT.js) with npm, in pinned versions.
    """
    import sys

    from edgewright.errors import UsageError

    if name.lower() == WEB:
        _set_up_web(source, as_json=as_json)
        return
    if source is not None:
        raise UsageError("--from is only for the runtimes of browsers", f"{name} is installed by pip", "omit --from")
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
    from edgewright.flows.environments.web import remove_web_runtimes
    from edgewright.store.location import find_home

    web = name.lower() == WEB
    removed = remove_web_runtimes(find_home()) if web else discard(_find_environments_folder(), name)
    for path in removed:
        click.echo(path)
    if not removed:
        print_message(f"{name} is not set up.")


def _set_up_web(source: str | None, *, as_json: bool) -> None:
    from edgewright.flows.environments.web import set_up_web_runtimes
    from edgewright.store.location import find_home

    with show_progress() as progress:
        path = set_up_web_runtimes(find_home(), Path(source) if source else None, progress)
    if as_json:
        print_json(_describe_web_runtimes())
    else:
        click.echo(path)


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


def _describe_web_runtimes() -> dict[str, Any]:
    """Return the runtimes of browsers as an environment for --json."""
    from edgewright.runtimes.web import MEGABYTES, PURPOSE, WEB_PACKAGES, find_folder, list_web_runtimes, read_lock
    from edgewright.store.location import find_home

    folder = find_folder(find_home())
    ready = bool(list_web_runtimes(find_home()))
    return {
        "name": WEB,
        "runtime": "onnxruntime, litert",
        "brings": PURPOSE,
        "state": "ready" if ready else "absent",
        "lock": read_lock(),
        "path": str(folder),
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if ready else None,
        "expected_bytes": MEGABYTES * 1_000_000,
        "python": None,
        "made_at": None,
        "conflicts": [],
        "packages": {package.name: package.version for package in WEB_PACKAGES},
    }


def _make_web_row() -> tuple[str, ...]:
    from edgewright.schema.units import show_bytes

    row = _describe_web_runtimes()
    size = show_bytes(row["bytes"]) if row["bytes"] else f"about {show_bytes(row['expected_bytes'])}"
    return (WEB, row["runtime"], row["state"], size, row["brings"], row["path"] if row["bytes"] else "")
