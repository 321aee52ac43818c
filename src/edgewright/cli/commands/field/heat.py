"""`edgewright heat`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.rendering.output import localize, print_json, print_line, print_message, print_table

if TYPE_CHECKING:
    from edgewright.flows.heat import HeatReport


@click.command(cls=HelpedCommand)
@click.option(
    "--model",
    type=click.Choice(["two-node", "linear"]),
    default="two-node",
    help="Heat model: board and body with a governor, or 2 °C a minute without end; default: two-node.",
)
@click.option("--device-class", default="flagship", help="Class: flagship, upper-mid, mid; default: flagship.")
@click.option("--minutes", type=int, default=30, help="Length of the scenario; default: 30.")
@click.option("--load", type=float, default=1.0, help="Share of the time under load, 0 to 1; default: 1.")
@click.option("--power-w", type=float, help="Power under load at full speed, in watts; default: that of the class.")
@click.option("--ambient-c", type=float, help="Temperature of the air in °C; default: 25.")
@click.option("--limit-c", type=float, default=43.0, help="Body temperature for the duty cycle, in °C; default: 43.")
@click.option("--battery-wh", type=float, default=17.0, help="Energy of the full battery, in Wh; default: 17.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.heat/1).")
def heat(as_json: bool, **given: Any) -> None:
    """Predict how a device slows down under load: speed and temperature by minute.

    A scenario, not a measurement: benchmark --sustain measures a device.
    """
    from edgewright.flows.heat import HeatRequest, predict_heat

    report = predict_heat(HeatRequest(**given))
    if as_json:
        print_json(report)
    else:
        _show(report)


def _show(report: HeatReport) -> None:
    print_line(localize(report.answer))
    step = max(1, report.minutes // 10)
    chosen = [*range(0, report.minutes, step)]
    chosen += [report.minutes - 1] if chosen[-1] != report.minutes - 1 else []
    low, high = report.low or report.speed, report.high or report.speed
    rows = [
        (str(one), f"{report.speed[one]:.2f}", f"{low[one]:.2f}–{high[one]:.2f}", f"{report.temperature_c[one]:.1f}")
        for one in chosen
    ]
    print_table(("minute", "speed", "range", "body °C"), rows)
    for note in report.notes:
        print_message(f"Note: {note}.")
