"""`edgewright policy`: show an execution policy, and replay recorded signals with it."""

import click

from edgewright.cli.help.pages import HelpedGroup
from edgewright.cli.parse import PATH
from edgewright.cli.rendering.output import localize, print_json, print_line, print_table


@click.group(cls=HelpedGroup)
def policy() -> None:
    """Show execution policies, and try them on recorded signals: show, replay."""


@policy.command("show")
@click.argument("name", metavar="POLICY")
@click.option("--json", "as_json", is_flag=True, help="Print the policy as one JSON object (edgewright.policy/1).")
def show(name: str, as_json: bool) -> None:
    """Show the states and rules of a policy: governor, none, or a file."""
    from edgewright.flows.policies import find_policy

    found = find_policy(name)
    if as_json:
        print_json(found)
        return
    actions = [(one, found.actions[one].variant or "none", f"{found.actions[one].duty:g}") for one in found.states]
    print_table(("state", "variant", "duty"), actions)
    rules = [(one.origin, one.target, " and ".join(map(str, one.when)), f"{one.for_s:g}") for one in found.rules]
    print_line("")
    print_table(("from", "to", "when", "for s"), rules)


@policy.command("replay")
@click.argument("name", metavar="POLICY")
@click.argument("trace", type=PATH, metavar="TRACE.csv")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.policy-replay/1).")
def replay(name: str, trace: str, as_json: bool) -> None:
    """Show what a policy does with recorded signals.

    TRACE.csv has the column t_s, and any of temperature_c (skin), headroom (1 is where throttling begins, larger is
    hotter), battery_pct, charging, saver, and pressure (PSI some avg10, percent). An empty cell is an unknown value.
    """
    from edgewright.flows.policies import replay as replay_policy

    found = replay_policy(name, trace)
    if as_json:
        print_json(found)
        return
    print_line(localize(found.answer))
    changes = [one for place, one in enumerate(found.states) if not place or one.state != found.states[place - 1].state]
    print_table(("t_s", "state", "why"), [(f"{one.t_s:g}", one.state, one.why) for one in changes])
