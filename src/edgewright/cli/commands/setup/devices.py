"""`edgewright devices`: boards, phones and browsers that models can be measured on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgewright.cli.commands.setup.browsers import WAIT_S, add_browser_device, serve
from edgewright.cli.help.pages import HelpedGroup
from edgewright.cli.parse import WORDS
from edgewright.cli.rendering.output import print_json, print_message, print_table, show_progress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from edgewright.flows.devices.flow import DeviceStatus

HEADERS = ("name", "kind", "state", "soc", "cores", "memory", "address")


@click.group(cls=HelpedGroup)
def devices() -> None:
    """Manage devices for --on: add, list, show, check, setup, remove, serve."""


devices.add_command(serve)


@devices.command()
@click.argument("name", metavar="NAME")
@click.argument("address", metavar="[ADDRESS]", required=False, default="")
@click.option(
    "--key", metavar="FILE", default="", help="Private key file; default: the agent and configuration of ssh."
)
@click.option("--code", metavar="CODE", default="", help="Pairing code that an agent shows; default: none.")
@click.option("--browser", is_flag=True, help="The device is a browser, which opens the printed address.")
@click.option(
    "--wait", "wait_s", type=click.FloatRange(0.1, 86_400), default=WAIT_S, help="Seconds in which a browser opens it."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.device/1).")
def add(name: str, address: str, key: str, code: str, browser: bool, wait_s: float, as_json: bool) -> None:
    """Add the device at ADDRESS, such as ssh://USER@HOST:PORT, after connecting to it once.

    Nothing is installed on it. Its host key is remembered: a later connection to another key fails.

    An agent is an app on the device, at agent://HOST:PORT, and shows its address and a code for --code.

    A browser has no address: with --browser the command prints one with a one-time code, as text and as a QR code, and
    ends when a browser has opened it. `edgewright devices serve` or `edgewright ui` must be running. With --json the
    first line is `{"url": …, "code": …}`, the second the device.
    """
    from edgewright.api.user_store import open_user_store
    from edgewright.errors import UsageError
    from edgewright.flows.devices.flow import DeviceAccess, add_device

    if browser == bool(address):
        why = "a browser has no address" if browser else "only a browser has none"
        raise UsageError(f"the device '{name}' cannot be added", why, "give either ADDRESS or --browser")
    if browser:
        add_browser_device(name, wait_s, as_json=as_json)
        return
    with open_user_store() as store, show_progress() as progress:
        status = add_device(name, address, DeviceAccess(key=key, code=code), store, progress)
    _show_device(status, as_json=as_json)


@devices.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.devices/1).")
def list_command(as_json: bool) -> None:
    """List this machine and the added devices, with their states now."""
    from edgewright.api.user_store import open_user_store
    from edgewright.flows.devices.flow import list_all_devices

    with open_user_store() as store:
        found = list_all_devices(store)
    if as_json:
        print_json(found)
        return
    print_table(HEADERS, [_make_row(one) for one in found.devices], droppable=("address", "memory", "cores"))


@devices.command()
@click.argument("name", metavar="NAME")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.device/1).")
def show(name: str, as_json: bool) -> None:
    """Show the facts of the device NAME, which conditions of --on can name."""
    from edgewright.api.user_store import open_user_store
    from edgewright.flows.devices.flow import show_device

    with open_user_store() as store:
        status = show_device(name, store)
    _show_device(status, as_json=as_json)


@devices.command()
@click.argument("name", metavar="NAME")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.device-check/1).")
def check(name: str, as_json: bool) -> None:
    """Check what distorts measurements on the device NAME; exit code 4 if it cannot be reached."""
    from edgewright.api.user_store import open_user_store
    from edgewright.flows.devices.flow import check_device

    with open_user_store() as store:
        report, error = check_device(name, store)
    if as_json:
        print_json(report)
    else:
        rows = [(one.code, one.state, one.text, one.try_this) for one in report.checks]
        print_table(("check", "state", "result", "try"), rows, droppable=("try",))
    if error is not None:
        raise error


@devices.command()
@click.argument("name", metavar="NAME")
@click.option("--runtime", type=WORDS, multiple=True, help="Runtimes, comma-separated; default: onnxruntime.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.device-setup/1).")
def setup(name: str, runtime: tuple[list[str], ...], as_json: bool) -> None:
    """Install the workers of runtimes on the device NAME; `--on NAME` does it for what is missing.

    The packages are resolved for the device and downloaded on this machine. The device needs no network, no pip and no
    root.
    """
    from edgewright.api.user_store import open_user_store
    from edgewright.flows.devices.flow import set_up_device

    words = [word for given in runtime for word in given] or ["onnxruntime"]
    with open_user_store() as store, show_progress() as progress:
        report = set_up_device(name, words, store, progress)
    if as_json:
        print_json(report)
        return
    rows = [
        (one, ", ".join(f"{key} {value}" for key, value in found.items())) for one, found in report.runtimes.items()
    ]
    print_table(("runtime", "packages"), rows)


@devices.command()
@click.argument("name", metavar="NAME")
@click.option("--forget", is_flag=True, help="Forget a device that cannot be reached; its files stay on it.")
def remove(name: str, forget: bool) -> None:
    """Remove everything of Edgewright from the device NAME, and forget it. Its runs stay."""
    from edgewright.api.user_store import open_user_store
    from edgewright.flows.devices.flow import remove_device

    with open_user_store() as store:
        is_clean = remove_device(name, store, forget=forget)
    print_message(f"Removed: {name}." if is_clean else f"Forgotten: {name}. Its files are still on the device.")


def _show_device(status: DeviceStatus, *, as_json: bool) -> None:
    if as_json:
        from msgspec import to_builtins

        print_json({"schema": "edgewright.device/1", **to_builtins(status)})
        return
    print_table(("fact", "value"), [("name", status.name), ("state", status.state), *_list_facts(status.facts)])
    if status.why:
        print_message(status.why)


def _list_facts(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _make_row(status: DeviceStatus) -> tuple[str, ...]:
    from edgewright.schema.units import show_bytes

    facts = status.facts
    memory = facts.get("memory") or facts.get("memory_bytes")
    size = show_bytes(memory) if isinstance(memory, int) else ""
    words = (str(facts.get("soc") or facts.get("model") or ""), str(facts.get("logical_cores") or ""))
    return (status.name, status.kind, status.state, *words, size, status.address)
