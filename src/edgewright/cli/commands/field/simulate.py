"""`edgewright simulate`."""

from __future__ import annotations

import click

from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import PATH
from edgewright.cli.rendering.output import localize, print_json, print_line, print_table
from edgewright.schema.units import UNKNOWN


@click.command(cls=HelpedCommand)
@click.argument("fleet", type=PATH, metavar="TIERS.toml")
@click.option("--goal", default="", metavar="GOALS", help='Goals, such as "p99<=200ms"; metrics: latency p90 p95 p99.')
@click.option("--find", default="", metavar="TIER", help="Tier whose smallest number of servers meets --goal.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.simulation/1).")
def simulate(fleet: str, goal: str, find: str, as_json: bool) -> None:
    """Simulate devices, edge boxes and a cloud: latencies, busy shares, dropped requests.

    TIERS.toml has the arrivals, and each tier's servers, measured times and link. With --goal, the exit code is 3 if
    a goal is missed.
    """
    from pathlib import Path

    from edgewright.errors import GateFailed
    from edgewright.flows.simulate.flow import simulate_fleet

    report = simulate_fleet(Path(fleet), goals=goal, find=find)
    if as_json:
        print_json(report)
    else:
        print_line(localize(report.answer))
        rows = [
            (
                one.name,
                UNKNOWN if one.servers is None else str(one.servers),
                f"{one.utilization:.1%}",
                f"{one.wait_ms:.2f}",
                str(one.answered),
                str(one.dropped),
            )
            for one in report.tiers
        ]
        print_table(("tier", "servers", "busy", "wait ms", "answered", "dropped"), rows)
    if report.missed:
        raise GateFailed("a goal is missed", "; ".join(report.missed), "find the number of servers: --find TIER")
