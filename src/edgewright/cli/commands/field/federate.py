"""`edgewright federate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import click

from edgewright.cli.code import allow_code
from edgewright.cli.help.pages import HelpedGroup
from edgewright.cli.parse import PATH
from edgewright.cli.rendering.output import localize, print_json, print_line, print_message, print_table, show_progress
from edgewright.schema.vocabulary import AdapterMethod

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgewright.flows.federate.report import FederateReport

    Command = Callable[..., None]


@click.group(cls=HelpedGroup)
def federate() -> None:
    """Train one model on the data of many clients, which stays with them: simulate, init, server, client."""


def _add_settings(command: Command) -> Command:
    """Add the options of a round."""
    options = (
        click.option(
            "--strategy", type=click.Choice(("fedavg", "fedprox", "fedadam")), default="fedavg",
            help="How updates are combined.",
        ),
        click.option("--method", type=click.Choice(get_args(AdapterMethod)), default="full", help="What is trained."),
        click.option("--rank", default=4, help="Rank of the updates of --method lora."),
        click.option("--epochs", default=1.0, help="Passes of a client over its samples in a round."),
        click.option("--batch", default=32, help="Samples for each step."),
        click.option("--lr", default=0.02, help="Learning rate of the clients."),
        click.option("--prox", default=0.01, help="Weight of the distance to the global model, of fedprox."),
        click.option("--server-lr", default=0.003, help="Step of fedadam."),
        click.option(
            "--compress", "compression", type=click.Choice(("none", "int8", "topk")), default="none",
            help="Compression of updates.",
        ),
        click.option("--top", default=0.1, help="Share of the values that topk keeps."),
        click.option("--clip", default=0.0, help="Largest norm of an update; 0: no limit."),
        click.option("--noise", default=0.0, help="Noise of the differential privacy, in multiples of --clip."),
        click.option("--delta", default=1e-5, help="Delta of the differential privacy."),
        click.option("--secure", is_flag=True, help="Hide each update from the server (secure aggregation)."),
        click.option(
            "--robust", type=click.Choice(("none", "median", "trimmed")), default="none",
            help="Combination that a few false updates do not control.",
        ),
        click.option("--seed", default=0, help="Random seed."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def _add_model(command: Command) -> Command:
    """Add the options that name the model."""
    for option in reversed(
        (
            click.option("--model", metavar="FILE.py:FACTORY", required=True, help="Model of all clients."),
            click.option("--weights", type=PATH, help="Its initial weights."),
            click.option("--task", "task_file", type=PATH, metavar="FILE.toml", required=True, help="Its task."),
        )
    ):
        command = option(command)
    return command


@federate.command("simulate")
@_add_model
@click.option("--data", metavar="DATA", required=True, help="Labeled samples, divided among the clients.")
@click.option("--val", metavar="DATA", required=True, help="Labeled samples, evaluated after each round.")
@click.option("--clients", default=100, help="Number of clients.")
@click.option(
    "--sample", "sampled", type=click.IntRange(0), default=0, help="Clients in a round; 0: a tenth, at least 5."
)
@click.option("--rounds", type=click.IntRange(1), default=20, help="Number of rounds.")
@click.option("--alpha", default=0.3, help="Evenness of the classes over the clients; small is uneven.")
@click.option("--dropout", default=0.0, help="Share of the sampled clients whose answer is lost.")
@click.option("--central/--no-central", default=True, help="Also train on all data at once, to compare.")
@_add_settings
@click.option("-o", "--output", type=PATH, help="Folder for the weights of the global model.")
@allow_code
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.federate/1).")
def simulate(output: str | None, as_json: bool, **given: Any) -> None:
    """Simulate the rounds with all clients on this machine.

    The clients run the same code as `federate client`. Data is divided among them by a Dirichlet distribution over the
    classes. Requires `edgewright runtimes setup flower`.
    """
    from pathlib import Path

    from edgewright.api.field.federate import simulate_rounds
    from edgewright.api.plans import plan_federation
    from edgewright.cli.code import check_code

    check_code(given)
    plan = plan_federation(given)
    with show_progress() as progress:
        report = simulate_rounds(plan, Path(output) if output else None, progress=progress)
    _show(report, as_json)


@federate.command("init")
@_add_model
@click.option("--clients", default=3, help="Number of clients.")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    default=("127.0.0.1", "localhost"),
    help="Name or address of the server; repeatable.",
)
@_add_settings
@click.option("-o", "--output", type=PATH, required=True, help="New folder with a folder for each member.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.federation-folders/1).")
def init(output: str, hosts: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Make the folders of a server and its clients: model, task, settings, and keys of an authority of their own."""
    from pathlib import Path

    from edgewright.api.field.federate import init_members
    from edgewright.api.plans import plan_federation

    report = init_members(plan_federation({**given, "data": "", "val": ""}), list(hosts), Path(output))
    if as_json:
        print_json(report)
    else:
        print_line(f"Server: {report.server}; copy one of the {len(report.clients)} other folders to each client.")


@federate.command("server")
@click.argument("folder", type=PATH)
@click.option("--val", metavar="DATA", required=True, help="Labeled samples, evaluated after each round.")
@click.option("--listen", default="127.0.0.1:9443", metavar="HOST:PORT", help="Address to listen on.")
@click.option("--rounds", type=click.IntRange(1), default=20, help="Number of rounds.")
@click.option(
    "--sample", "sampled", type=click.IntRange(0), default=0, help="Clients in a round; 0: a tenth, at least 5."
)
@click.option("--timeout", "timeout_s", default=600.0, help="Longest wait for the clients, and for an answer; seconds.")
@click.option("-o", "--output", type=PATH, required=True, help="Folder for the global model.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.federate/1).")
def server(folder: str, val: str, listen: str, output: str, as_json: bool, **given: Any) -> None:
    """Serve the rounds to the clients of a federation, over TLS with certificates on both sides."""
    from pathlib import Path

    from edgewright.api.field.federate import serve_rounds
    from edgewright.errors import UsageError
    from edgewright.flows.federate.network import Meeting

    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"--listen {listen} is not an address", "it is HOST:PORT", "--listen 0.0.0.0:9443")
    with show_progress() as progress:
        meeting = Meeting(host.strip("[]"), int(port), **given)
        report = serve_rounds(Path(folder), val, meeting, Path(output), progress=progress)
    _show(report, as_json)


@federate.command("client")
@click.argument("folder", type=PATH)
@click.option("--server", "address", metavar="HOST:PORT", required=True, help="Address of the server.")
@click.option("--data", metavar="DATA", required=True, help="Labeled samples, which stay here.")
@click.option("-o", "--output", type=PATH, required=True, help="Folder for the global model.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.federate-client/1).")
def client(folder: str, address: str, data: str, output: str, as_json: bool) -> None:
    """Take part in the rounds of a server until it ends. Only changes of the model leave this machine."""
    from pathlib import Path

    from edgewright.api.field.federate import join_rounds

    with show_progress() as progress:
        report = join_rounds(Path(folder), address, data, Path(output), progress=progress)
    if as_json:
        print_json(report)
    else:
        print_line(f"Global model, signed by the server: {report.weights}")


def _show(report: FederateReport, as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    print_line(localize(report.answer))
    rows = [
        (
            str(one.round), f"{one.metric:.4f}", f"{one.answered}/{one.sampled}", f"{one.bytes_up:,}",
            f"{one.bytes_down:,}", "" if one.epsilon is None else f"{one.epsilon:.2f}",
        )
        for one in report.rounds
    ]  # fmt: skip
    print_table(("round", report.metric, "clients", "bytes up", "bytes down", "epsilon"), rows)
    for one in report.rounds:
        for update in one.rejected:
            print_message(f"Round {one.round}: an update was not used: {update.reason}")
    if report.weights:
        print_message(f"Global model: {report.weights}")
