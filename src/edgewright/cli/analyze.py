"""`edgewright analyze`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgewright.cli.output import print_json, print_table, progress, put, say
from edgewright.cli.parse import PATH, SHAPE, WORDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgewright.facts.model import TensorSpec
    from edgewright.flows.analysis import Analysis, Finding, RuntimeReport, UnitReport
    from edgewright.formats.costs import LayerCost

UNIT_HEADERS = ("runtime", "unit", "backend", "operators", "partitions", "first reason", "do this")
FINDING_HEADERS = ("runtime", "unit", "operator", "nodes", "kind", "reason", "do this")
LAYER_HEADERS = ("#", "name", "operator", "output", "MACs", "parameters", "weights", "read", "written", "intensity")
MOST_NAMES = 3
MOST_FINDINGS = 30
EVERYWHERE = "all"


@click.command()
@click.argument("model", type=PATH, metavar="MODEL")
@click.option("--runtime", type=WORDS, multiple=True, help="Runtimes, comma-separated, or all; default: all.")
@click.option(
    "--shape",
    "shapes",
    type=SHAPE,
    multiple=True,
    metavar="NAME=SIZES",
    help="Sizes of a free input, as x=1,3,224,224.",
)
@click.option("--layers", is_flag=True, help="Also list every operator with its costs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.analysis/1).")
def analyze(
    model: str,
    runtime: tuple[list[str], ...],
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    layers: bool,
    as_json: bool,
) -> None:
    """Say what a model costs and which runtimes and units take it, without running it.

    MODEL is an ONNX or a TFLite file. Nothing is compiled, and no runtime needs to be installed. An operator that is
    not supported is an answer, not a failure: the exit code is 0.
    """
    from pathlib import Path

    from edgewright.flows.analyze import analyze as examine

    with progress() as tell:
        analysis = examine(Path(model), dict(shapes), [word for words in runtime for word in words], tell)
    if as_json:
        print_json(analysis)
        return
    show(analysis, layers=layers)


def show(analysis: Analysis, *, layers: bool) -> None:
    for note in analysis.notes:
        say(f"Note: {note}.")
    print_table(("fact", "value"), describe_model(analysis))
    put("")
    rows = [row for report in analysis.runtimes for row in runtime_rows(report)]
    print_table(UNIT_HEADERS, rows, droppable=("do this", "first reason"))
    findings = group_findings(analysis.runtimes)
    if findings:
        put("")
        print_table(FINDING_HEADERS, findings[:MOST_FINDINGS], "Not supported")
        if len(findings) > MOST_FINDINGS:
            say(f"{len(findings) - MOST_FINDINGS} more reasons are in --json.")
    show_rewrites(analysis.runtimes)
    if layers:
        put("")
        print_table(LAYER_HEADERS, [layer_row(i, one) for i, one in enumerate(analysis.costs.layers)])


def describe_model(analysis: Analysis) -> list[tuple[str, str]]:
    from edgewright.facts.units import UNKNOWN, digits, show_bytes, show_count

    model, costs = analysis.model, analysis.costs
    opset = f"opset {model.opset}" if model.opset is not None else ""
    others = ", ".join(f"{name} {number}" for name, number in model.domains.items() if name != "ai.onnx")
    unknown = {name: f"{UNKNOWN} ({reason})" for name, reason in costs.unknown.items()}
    arena = show_bytes(costs.arena_bytes) + (f" at '{costs.arena_at}'" if costs.arena_at else "")
    intensity = UNKNOWN if costs.intensity is None else f"{digits(costs.intensity)} operations a byte"
    folded = f", {model.folded} of them constant" if model.folded else ""
    facts = [
        ("model", f"{model.name} {model.sha256[:12]}"),
        ("format", " ".join(word for word in (model.format, model.precision, opset, others) if word)),
        ("size", show_bytes(model.bytes)),
        *(("input", show_spec(spec, model.shapes.get(spec.name))) for spec in model.signature.inputs),
        *(("output", show_spec(spec, None)) for spec in model.signature.outputs),
        ("operators", f"{model.operators}{folded}"),
        ("parameters", show_count(costs.parameters)),
        ("MACs", unknown.get("macs") or show_count(costs.macs)),
        ("weights", show_bytes(costs.weight_bytes)),
        ("arena", unknown.get("arena_bytes") or arena),
        ("intensity", intensity),
    ]
    return [(name, text) for name, text in facts if text]


def show_spec(spec: TensorSpec, taken: Sequence[int | str] | None) -> str:
    sizes = spec.shape if taken is None else taken
    return f"{spec.name} {spec.dtype}[{', '.join(str(size) if size != '' else '?' for size in sizes)}]"


def runtime_rows(report: RuntimeReport) -> list[tuple[str, ...]]:
    """A row for each unit; one for the runtime where nothing is known."""
    from edgewright.facts.units import UNKNOWN

    if report.state == "unknown":
        return [(report.runtime, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, report.reason, "")]
    return [unit_row(report, unit) for unit in report.units]


def unit_row(report: RuntimeReport, unit: UnitReport) -> tuple[str, ...]:
    from edgewright.facts.units import UNKNOWN

    first = next(iter((*report.findings, *unit.findings)), None)
    count = UNKNOWN if unit.supported is None else f"{unit.supported} of {unit.operators}"
    reason = "" if first is None else f"{first.op}: {first.reason}" if first.op else first.reason
    partitions = UNKNOWN if unit.partitions is None or report.state == "refused" else str(unit.partitions)
    remedy = "" if first is None else first.remedy
    return (report.runtime, unit.unit, unit.backend, count, partitions, reason, remedy)


def group_findings(reports: Sequence[RuntimeReport]) -> list[tuple[str, ...]]:
    """A row for each reason and remedy of a place, with its operators and the first of its nodes."""
    places = [(report.runtime, EVERYWHERE, report.findings) for report in reports]
    places += [(report.runtime, unit.backend, unit.findings) for report in reports for unit in report.units]
    rows: list[tuple[str, ...]] = []
    for runtime, backend, findings in places:
        grouped: dict[tuple[str, str, str], list[Finding]] = {}
        for one in findings:
            grouped.setdefault((one.kind, one.reason, one.remedy), []).append(one)
        for (kind, reason, remedy), alike in grouped.items():
            ops = shorten(list(dict.fromkeys(one.op for one in alike if one.op))) or "the model"
            nodes = shorten([one.node for one in alike if one.node])
            rows.append((runtime, backend, ops, nodes, kind, reason, remedy))
    return rows


def shorten(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:MOST_NAMES])
    return f"{shown} and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else shown


def show_rewrites(reports: Sequence[RuntimeReport]) -> None:
    """What Edgewright will write in another way, on stderr."""
    for report in reports:
        if ops := sorted({rewrite.op for rewrite in report.rewrites}):
            say(f"{report.runtime}: Edgewright rewrites {', '.join(ops)} where it has to; --json says how.")


def layer_row(position: int, layer: LayerCost) -> tuple[str, ...]:
    from edgewright.facts.units import UNKNOWN, digits, show_bytes

    sizes = "" if layer.output_shape is None else "×".join("?" if n < 0 else str(n) for n in layer.output_shape)
    return (
        str(position),
        layer.name,
        layer.op,
        f"{sizes} {layer.output_dtype}".strip(),
        UNKNOWN if layer.macs is None else str(layer.macs),
        str(layer.parameters),
        show_bytes(layer.weight_bytes),
        show_bytes(layer.read_bytes),
        show_bytes(layer.written_bytes),
        UNKNOWN if layer.intensity is None else digits(layer.intensity),
    )
