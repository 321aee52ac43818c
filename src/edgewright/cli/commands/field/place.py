"""`edgewright place`."""

from __future__ import annotations

import click

from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import PATH
from edgewright.cli.rendering.output import localize, print_json, print_line, print_table
from edgewright.schema.units import UNKNOWN


@click.command(cls=HelpedCommand)
@click.option("--profile", type=PATH, metavar="COSTS.json", required=True, help="Cost profile (edgewright.costs/1).")
@click.option("--units", default="", metavar="NAME,…", help="Units to use, separated by commas; default: all.")
@click.option("--prove", is_flag=True, help="With memory limits: search until the optimum is proven.")
@click.option("--seconds", type=float, default=60.0, help="Time limit of each search step; default: 60.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.place/1).")
def place(profile: str, units: str, prove: bool, seconds: float, as_json: bool) -> None:
    """Find the unit for each operator of a model: the smallest sum of operators and transfers, with proof.

    The profile has each operator's time on each unit, and the cost of moving tensors between units.
    """
    from pathlib import Path

    from edgewright.errors import UsageError
    from edgewright.flows.placements import place_operators

    if not 0 < seconds <= 86_400:
        raise UsageError(
            f"--seconds {seconds:g} is not possible", "it must be above 0 and at most 86400", "--seconds 60"
        )
    names = tuple(one.strip() for one in units.split(",") if one.strip())
    report = place_operators(Path(profile), names, prove=prove, seconds=seconds)
    if as_json:
        print_json(report)
        return
    print_line(localize(report.answer))
    rows = [("this assignment", f"{report.total_ms:g}"), ("lower bound", f"{report.bound_ms:g}")]
    rows.append(("greedy", UNKNOWN if report.greedy_ms is None else f"{report.greedy_ms:g}"))
    rows += [(f"all on {name}", UNKNOWN if one is None else f"{one:g}") for name, one in report.single.items()]
    print_table(("placement", "ms"), rows)
    print_line("")
    print_table(("operator", "unit"), list(report.assignment.items()))
