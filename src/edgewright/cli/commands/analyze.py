"""`edgewright analyze`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgewright.cli.calls import call_api
from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import FIXED, PATH, SHAPE, WORDS
from edgewright.cli.rendering.output import print_json, print_line, print_message, print_table, show_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgewright.api.results.analysis import AnalyzeResult
    from edgewright.flows.analyze.report import Analysis, RuntimeReport, SupportFinding
    from edgewright.formats.costs import LayerCost
    from edgewright.schema.model import TensorSpec

FINDING_HEADERS = ("runtime", "unit", "operator", "nodes", "kind", "reason", "fix")
LAYER_HEADERS = ("#", "name", "operator", "output", "MACs", "parameters", "weights", "read", "written", "intensity")
MAX_NAMES = 3
MAX_FINDINGS = 30
EVERYWHERE = "all"


@click.command(cls=HelpedCommand)
@click.argument("model", type=PATH, metavar="MODEL")
@click.option("--runtime", type=WORDS, multiple=True, help="Runtimes, comma-separated, or all; default: all.")
@click.option(
    "--shape",
    "shapes",
    type=SHAPE,
    multiple=True,
    metavar="NAME=SIZES",
    help="Shape of an input, such as x=1,3,224,224.",
)
@FIXED
@click.option("--layers", is_flag=True, help="Also list the costs of every operator.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.analysis/1).")
def analyze(
    model: str,
    runtime: tuple[list[str], ...],
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    fixed: tuple[tuple[str, tuple[int | float, ...]], ...],
    layers: bool,
    as_json: bool,
) -> None:
    """Estimate a model's costs and its support by each runtime and unit, without running it.

    MODEL is an ONNX or TFLite file. Nothing is compiled, and no runtime needs to be installed. The exit code is 0
    even if operators are not supported.
    """
    from edgewright.api.convert import analyze as examine

    result, _ = call_api(examine, model, shape=shapes, fix=fixed, runtime=runtime)
    if as_json:
        print_json(result.report)
        return
    _show(result, layers=layers)


def _show(result: AnalyzeResult, *, layers: bool) -> None:
    analysis = result.report
    for note in analysis.notes:
        print_message(f"Note: {note}.")
    print_table(("fact", "value"), _describe_model(analysis))
    print_line("")
    show_table(result.table())
    findings = _group_findings(analysis.runtimes)
    if findings:
        print_line("")
        print_table(FINDING_HEADERS, findings[:MAX_FINDINGS], "Not supported")
        if len(findings) > MAX_FINDINGS:
            print_message(f"--json shows {len(findings) - MAX_FINDINGS} more reasons.")
    _show_rewrites(analysis.runtimes)
    if layers:
        print_line("")
        print_table(LAYER_HEADERS, [_make_layer_row(i, one) for i, one in enumerate(analysis.costs.layers)])


def _describe_model(analysis: Analysis) -> list[tuple[str, str]]:
    from edgewright.schema.units import UNKNOWN, format_digits, show_bytes, show_count

    model, costs = analysis.model, analysis.costs
    opset = f"opset {model.opset}" if model.opset is not None else ""
    others = ", ".join(f"{name} {number}" for name, number in model.domains.items() if name != "ai.onnx")
    unknown = {name: f"{UNKNOWN} ({reason})" for name, reason in costs.unknown.items()}
    arena = show_bytes(costs.arena_bytes) + (f" at '{costs.arena_at}'" if costs.arena_at else "")
    intensity = UNKNOWN if costs.intensity is None else f"{format_digits(costs.intensity)} operations per byte"
    folded = f", {model.folded} of them constant" if model.folded else ""
    facts = [
        ("model", f"{model.name} {model.sha256[:12]}"),
        ("format", " ".join(word for word in (model.format, model.precision, opset, others) if word)),
        ("size", show_bytes(model.bytes)),
        *(("input", _format_spec(spec, model.shapes.get(spec.name))) for spec in model.signature.inputs),
        *(("output", _format_spec(spec, None)) for spec in model.signature.outputs),
        ("operators", f"{model.operators}{folded}"),
        ("parameters", show_count(costs.parameters)),
        ("MACs", unknown.get("macs") or show_count(costs.macs)),
        ("weights", show_bytes(costs.weight_bytes)),
        ("arena", unknown.get("arena_bytes") or arena),
        ("intensity", intensity),
    ]
    return [(name, text) for name, text in facts if text]


def _format_spec(spec: TensorSpec, taken: Sequence[int | str] | None) -> str:
    sizes = spec.shape if taken is None else taken
    return f"{spec.name} {spec.dtype}[{', '.join(str(size) if size != '' else '?' for size in sizes)}]"


def _group_findings(reports: Sequence[RuntimeReport]) -> list[tuple[str, ...]]:
    """Return one row per backend, reason and remedy, with the operators and the first nodes."""
    locations = [(report.runtime, EVERYWHERE, report.findings) for report in reports]
    locations += [(report.runtime, unit.backend, unit.findings) for report in reports for unit in report.units]
    rows: list[tuple[str, ...]] = []
    for runtime, backend, findings in locations:
        grouped: dict[tuple[str, str, str], list[SupportFinding]] = {}
        for one in findings:
            grouped.setdefault((one.kind, one.reason, one.remedy), []).append(one)
        for (kind, reason, remedy), alike in grouped.items():
            ops = _shorten_names(list(dict.fromkeys(one.op for one in alike if one.op))) or "the model"
            nodes = _shorten_names([one.node for one in alike if one.node])
            rows.append((runtime, backend, ops, nodes, kind, reason, remedy))
    return rows


def _shorten_names(names: Sequence[str]) -> str:
    """Return the first names and the number of the others as text."""
    shown = ", ".join(names[:MAX_NAMES])
    return f"{shown} and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else shown


def _show_rewrites(reports: Sequence[RuntimeReport]) -> None:
    """Print to stderr which operators Edgewright rewrites."""
    for report in reports:
        if ops := sorted({rewrite.op for rewrite in report.rewrites}):
            print_message(
                f"{report.runtime}: Edgewright rewrites {', '.join(ops)} if necessary; --json shows the rewrites."
            )


def _make_layer_row(position: int, layer: LayerCost) -> tuple[str, ...]:
    from edgewright.schema.units import UNKNOWN, format_digits, show_bytes

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
        UNKNOWN if layer.intensity is None else format_digits(layer.intensity),
    )
