"""`edgewright bundle`."""

from __future__ import annotations

import click

from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import PATH
from edgewright.cli.rendering.output import localize, print_json, print_line, print_message, print_table, show_progress
from edgewright.schema.units import UNKNOWN, show_bytes


@click.command(cls=HelpedCommand)
@click.argument("artifacts", type=PATH, nargs=-1, required=True, metavar="ARTIFACT...")
@click.option("-o", "--output", type=PATH, metavar="FOLDER", required=True, help="Folder of the bundle.")
@click.option("--task", type=PATH, metavar="FILE.toml", help="Task of the variants; it is copied into the bundle.")
@click.option("--data", metavar="DATA", help="Labeled samples for the metric; default: no metric.")
@click.option("--tiers", metavar="TIER,…", help="Tier of each variant: high, mid, low; default: in this order.")
@click.option("--processes", type=int, default=3, help="Fresh processes per variant; default: 3.")
@click.option("--seconds", type=float, default=0.2, help="Steady-state time per process; default: 0.2.")
@click.option("--allow-code", is_flag=True, help="Allow code that is named by the task (metric).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.bundle/1).")
def bundle(
    artifacts: tuple[str, ...],
    output: str,
    task: str | None,
    data: str | None,
    tiers: str | None,
    processes: int,
    seconds: float,
    allow_code: bool,
    as_json: bool,
) -> None:
    """Pack variants of a model, the full one first, with their measured latency, memory and metric.

    An app chooses the variant that fits its device, and a lighter one when the device is hot or busy.
    """
    from edgewright.api.field.bundle import BundleRequest, make_bundle
    from edgewright.cli.code import check_code

    check_code({"data": data} if data else {})
    request = BundleRequest(
        artifacts=artifacts,
        output=output,
        task=task or "",
        data=data or "",
        tiers=tuple(one.strip() for one in (tiers or "").split(",") if one.strip()),
        processes=processes,
        seconds=seconds,
        allow_code=allow_code,
    )
    with show_progress() as progress:
        report = make_bundle(request, progress=progress)
    if as_json:
        print_json(report)
        return
    print_line(localize(report.answer))
    rows = [
        (
            one.name,
            one.tier,
            one.runtime,
            show_bytes(one.bytes),
            UNKNOWN if one.p50_us is None else f"{one.p50_us:.0f}",
            UNKNOWN if one.peak_bytes is None else show_bytes(one.peak_bytes),
            UNKNOWN if one.metric is None else f"{one.metric:.4g}",
        )
        for one in report.variants
    ]
    print_table(("variant", "tier", "runtime", "size", "p50 µs", "peak memory", "metric"), rows)
    print_message(f"Wrote {report.output}.")
