"""Stored run of a quantization: report, graphs and recipe with lineage, metrics, curves."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgewright.flows.experiment.report import make_curve_pair
from edgewright.flows.quantize.attempts import Attempt
from edgewright.flows.quantize.report import QuantizeReport
from edgewright.flows.workspace import Workspace
from edgewright.formats.files import read_model
from edgewright.schema.run import Metric


def record_quantization(
    report: QuantizeReport,
    chosen: Attempt,
    attempts: Sequence[Attempt],
    started: str,
    workspace: Workspace,
) -> QuantizeReport:
    """Record the run: the source as its model; graph, recipe and report as its outputs, and the graphs of others."""
    setup, quantized = attempts[0].setup, chosen.quantized
    metrics, series = [Metric(name="quantize.seconds", unit="s", value=report.seconds)], []
    with workspace.recording(
        "quantize", setup.plan, id=workspace.part_of, started_at=started,
        model=setup.prepared.as_given(setup.plan.source),
    ) as run:  # fmt: skip
        if quantized is not None and report.graph is not None:
            path = Path(report.graph)
            graph = run.put_file(path, role="model", model_id=read_model(path).sha256)
            if (plain := read_model(quantized.model).sha256) != graph.model_id:
                run.put_file(quantized.model, role="model:plain", model_id=plain)
            run.put_bytes(quantized.recipe.encode(), role="recipe")
        for other in attempts:
            if other is not chosen and other.report.graph is not None:
                path = Path(other.report.graph)
                run.put_file(path, role=f"model:{path.stem}", model_id=read_model(path).sha256)
        run.put_bytes(msgspec.json.encode(msgspec.structs.replace(report, quantization=None)), role="quantize")
        if report.quantization is not None:
            run.put_bytes(msgspec.json.encode(report.quantization), role="quantization")
            final, n = report.quantization.final, report.quantization.checked_on
            metrics.append(Metric(name="quantize.sqnr", unit="dB", value=final.sqnr_db, n=n))
        if (tuned := report.tuning) is not None:
            for name, one in (("before", tuned.before), ("after", tuned.after)):
                title = f"tuning.{name}.{one.name}"
                metrics.append(Metric(name=title, unit="1", value=one.value, low=one.low, high=one.high, n=one.n))
            series = [one for curve in tuned.curves for one in make_curve_pair(f"tuning.{curve.name}", curve)]
        run.add(metrics=tuple(metrics), series=tuple(series))
        if not any(row.path for row in report.artifacts):
            run.fail(next((row.reason for row in report.artifacts if row.reason), "no artifact was created"))
    return msgspec.structs.replace(report, run_id=run.id)
