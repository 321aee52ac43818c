"""Tables for terminals, made from the same reports that --json prints."""

from collections.abc import Sequence

from edgewright.api.results.measurement import BenchmarkResult
from edgewright.api.results.records import format_tags, make_metric_row
from edgewright.cli.rendering.output import print_line, print_message, print_table, show_table
from edgewright.flows.benchmark.report import BenchmarkRow, LayerRow, make_row
from edgewright.flows.lineage import Lineage
from edgewright.runtimes.table import TABLE
from edgewright.schema.run import Run, RunOutput, RunWarning
from edgewright.schema.units import UNKNOWN, show_bytes, show_share, show_us

LAYER_HEADERS = ("#", "name", "operator", "unit", "backend", "evidence", "time", "share", "source")
TOP_LAYERS = 10


def show_benchmark(result: BenchmarkResult) -> None:
    """Print one row per run; for a single run also its slowest layers."""
    show_table(result.table())
    print_line("")
    for row in result.rows:
        print_line(f"{row.run_id} {_describe_layers(row)}")
        _show_findings(row)
        if row.phases:
            times = ", ".join(f"{name} {show_us(one.p50)}" for name, one in row.phases.items())
            print_line(f"    phases: {times}")
    if len(result.rows) == 1 and result.rows[0].layers:
        _show_layers(result.rows[0].layers, most=TOP_LAYERS)


def _describe_layers(row: BenchmarkRow) -> str:
    """Return one line with the sum of layer times, the whole inference, units, partitions and fallbacks."""
    totals = row.layer_totals
    if totals is None:
        return f"{row.model} in {row.runtime}: no layer times"
    total = f" of {show_us(totals.whole_us)} ({totals.sum_us / totals.whole_us:.0%})" if totals.whole_us else ""
    shares = ", ".join(f"{unit} {show_share(share)}" for unit, share in row.path.items())
    return (
        f"{row.model} in {row.runtime}: the sum of {len(row.layers)} operators is {show_us(totals.sum_us)}{total}, "
        f"measured by {totals.via}; {shares}; partitions: {totals.partitions}, fallbacks: {totals.fallbacks}"
    )


def _show_findings(row: BenchmarkRow) -> None:
    """Print the slowdown causes, one per line, the largest share first."""
    for finding in row.findings:
        share = "" if finding.share is None else f"{show_share(finding.share)} of the time: "
        print_line(f"    slowdown ({finding.code}): {share}{finding.text}.")


def _show_layers(layers: Sequence[LayerRow], most: int | None = None) -> None:
    """Print the layers in execution order, or only the slowest ones."""
    chosen = sorted(layers, key=lambda layer: -layer.median_us)[:most] if most else layers
    title = f"The {len(chosen)} slowest of {len(layers)} layers" if most and len(chosen) < len(layers) else "Layers"
    print_table(
        LAYER_HEADERS, [_make_layer_row(layer) for layer in chosen], title, droppable=("source", "evidence", "unit")
    )


def _make_layer_row(layer: LayerRow) -> tuple[str, ...]:
    return (
        str(layer.position),
        layer.name,
        layer.op,
        layer.unit,
        layer.backend,
        layer.evidence,
        show_us(layer.median_us),
        show_share(layer.share),
        " + ".join(layer.source_nodes),
    )


def show_run(run: Run, lineage: Lineage) -> None:
    """Print the details of one run."""
    row = make_row(run)
    facts = [
        ("run", run.id),
        ("state", f"{run.state}{f': {run.error}' if run.error else ''}"),
        ("started", run.started_at),
        ("finished", run.finished_at or UNKNOWN),
        ("imported", _format_origin(run.imported, run.imported_at)),
        ("model", f"{row.model} {row.precision} {row.model_sha256[:12]}"),
        ("runtime", f"{run.runtime} {_find_runtime_version(run)}".strip()),
        ("device", f"{row.device} {run.device.facts.get('model', '') if run.device else ''}".strip()),
        ("threads", str(row.threads)),
        (
            "energy",
            f"{row.energy.uj_per_inference:.3g} µJ ({row.energy.evidence}: {row.energy.source})"
            if row.energy
            else row.energy_source and f"unknown: {row.energy_source}",
        ),
        ("note", run.note),
        ("tags", format_tags(run.tags)),
    ]
    print_table(("fact", "value"), [fact for fact in facts if fact[1]])
    print_line("")
    print_table(("figure", "value", "low", "high", "n"), list(map(make_metric_row, run.metrics)))
    if run.outputs:
        print_line("")
        print_table(("output", "name", "size", "sha256"), [_make_output_row(one) for one in run.outputs])
    _show_lineage(lineage)
    if run.environment:
        print_line("")
        print_table(("environment", "value"), [(name, _format_fact(fact)) for name, fact in run.environment.items()])
    if row.layers:
        print_line("")
        print_line(_describe_layers(row))
        _show_findings(row)
        _show_layers(row.layers)
    for warning in run.warnings:
        print_line(f"Warning ({warning.code}): {warning.text}.")


def _format_origin(imported: bool | None, at: str | None) -> str:
    """Return when a run was imported; empty for a run that was recorded on this machine."""
    if imported is None:
        return "unknown (recorded by an older version)"
    return (at or "yes") if imported else ""


def _make_output_row(output: RunOutput) -> tuple[str, ...]:
    kind, _, name = output.role.partition(":")
    return (kind, name or UNKNOWN, show_bytes(output.bytes), output.sha256[:12])


def _show_lineage(lineage: Lineage) -> None:
    """Print the source models, one conversion step per line, and the models made from the outputs."""
    steps = [("made from", one) for one in lineage.made_from] + [("made into", one) for one in lineage.made_into]
    if not steps:
        return
    rows = [
        (word, one.name, one.model_id[:12], one.kind, one.runtime or UNKNOWN, one.output, one.run_id)
        for word, one in steps
    ]
    print_line("")
    print_table(("lineage", "model", "sha256", "by", "for", "as", "run"), rows, droppable=("for", "sha256"))


def _format_fact(fact: object) -> str:
    """Return a value of the environment as one line."""
    if isinstance(fact, dict):
        return ", ".join(f"{name} {value}" for name, value in fact.items())
    return ", ".join(map(str, fact)) if isinstance(fact, list | tuple) else str(fact)


def _find_runtime_version(run: Run) -> str:
    """Return the version of the runtime's package in the run's environment."""
    packages = run.environment.get("packages", {})
    return str(packages.get(TABLE[run.runtime].distribution, "")) if run.runtime in TABLE else ""


def print_warnings(rows: Sequence[BenchmarkRow], *, hidden: Sequence[str] = ()) -> None:
    """Print each warning once to stderr, with the runs that it concerns."""
    about: dict[RunWarning, list[str]] = {}
    for row in rows:
        for warning in row.warnings:
            if warning.code not in hidden:
                about.setdefault(warning, []).append(f"{row.model} in {row.runtime}")
    for warning, names in about.items():
        subject = "all runs" if len(names) == len(rows) > 1 else ", ".join(names)
        print_message(f"Warning ({subject}; {warning.code}): {warning.text}.")
