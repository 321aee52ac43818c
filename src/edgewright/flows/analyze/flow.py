"""Analysis of a model without running it: its operators, its costs, and the runtimes and units that support it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import Literal

import msgspec

from edgewright.errors import LimitReached, UsageError
from edgewright.flows.analyze.partitions import (
    LinkedOperators,
    count_partitions,
    link_operators,
    make_item,
    make_planned_item,
)
from edgewright.flows.analyze.report import (
    Analysis,
    Rewrite,
    RuntimeReport,
    SupportFinding,
    SupportState,
    UnitReport,
    classify_reason,
)
from edgewright.flows.analyze.rewritten import check_operators, check_precision, rewrite_form
from edgewright.flows.analyze.source import FixedValues, ModelForm, describe_model, prepare_analysis, read_graph
from edgewright.flows.analyze.tflite import find_custom_operators, make_onnx_form
from edgewright.formats.costs import measure_costs
from edgewright.formats.memory_estimate import check_memory
from edgewright.formats.onnx.typed import measure_file
from edgewright.formats.typed_graph import TypedGraph
from edgewright.limits import ResourceBudget, read_budget
from edgewright.runtimes.dry_run import RewrittenModel
from edgewright.runtimes.litert.dry_run import DryRun, plan_file
from edgewright.runtimes.support import (
    CheckedOperator,
    SupportTable,
    UnitTable,
    UnsupportedReason,
    adapt_to_quantized,
    check_unit,
    read_table,
)
from edgewright.runtimes.table import TABLE, find_runtime
from edgewright.system.temporary import TemporaryFolder

Progress = Callable[[str], None]
DRY_RUN_SHARE = 0.4  # share of the remaining time that is reserved for the runtimes that follow


def analyze(
    path: Path,
    shapes: Mapping[str, Sequence[int]],
    runtimes: Sequence[str],
    progress: Progress,
    budget: ResourceBudget | None = None,
    *,
    fixed: FixedValues = MappingProxyType({}),
) -> Analysis:
    """Analyze an ONNX or a TFLite file for the named runtimes, or for all of them.

    Runtimes that the time budget does not reach are reported as unknown. The default budget is read from the
    environment and grows with the file's size. The figures are those of the graph that `compile` converts.

    Args:
        shapes: of inputs.
        fixed: values of inputs that become constants: one for all elements, or one for each.

    Raises:
        ModelNotFound, ModelUnreadable, ExternalDataMissing: the file cannot be read.
        InputError: `shapes` or `fixed` do not fit.
        LimitReached: reading takes more than the budget allows.
        UsageError: a runtime is unknown.
    """
    chosen, began = _choose_runtimes(runtimes), monotonic()
    budget = budget or read_budget().for_files(measure_file(path))
    progress(f"{path.name}: reading")
    with TemporaryFolder() as folder:
        ready = prepare_analysis(path, shapes, fixed, folder)
        own = {name: sizes for name, sizes in shapes.items() if name not in fixed}
        graph = read_graph(ready, own, budget)
        progress(f"{path.name}: counting")
        costs = measure_costs(graph)
        source = link_operators([make_item(graph, node) for node in graph.computing()])
        given = ModelForm(ready, graph, source)
        form = given
        if graph.format == "tflite" and any(table and "tflite" not in table.reads for table in map(read_table, chosen)):
            form = make_onnx_form(path, graph.shapes, folder, budget.after(monotonic() - began))
        rewritten = rewrite_form(form, chosen, graph.precision, budget.after(monotonic() - began))
        reports = []
        for name in chosen:
            progress(f"{path.name}: {name}")
            left = budget.after(monotonic() - began)
            try:
                reports.append(_report_runtime(name, given, form, rewritten.get(name), left))
            except LimitReached as error:
                reports.append(_make_unknown_report(name, f"{error}; {error.try_this}", read_table(name)))
    notes = (*_list_reading_notes(graph), *_list_memory_notes(graph, budget))
    return Analysis(model=describe_model(path, graph), notes=notes, costs=costs, runtimes=tuple(reports))


def _choose_runtimes(words: Sequence[str]) -> list[str]:
    if not words or list(words) == ["all"]:
        return [name for name in TABLE if read_table(name) is not None]
    names = list(dict.fromkeys(find_runtime(word).name for word in words))
    for name in names:
        if read_table(name) is None:
            raise UsageError(
                f"{name} has no support table",
                "it is a runtime for tests, or another package provides it",
                "remove it",
            )
    return names


def _list_reading_notes(graph: TypedGraph) -> tuple[str, ...]:
    """Return the assumptions behind the figures."""
    notes = list(graph.notes)
    if graph.assumed:
        names = ", ".join(f"'{name}'" for name in graph.assumed)
        notes.append(f"the first dimension of {names} is dynamic and assumed to be 1; set another with --shape")
    for name in _list_free_inputs(graph):
        shown = ",".join(str(size) if isinstance(size, int) else size or "?" for size in graph.shapes[name])
        notes.append(f"input '{name}' has dynamic dimensions ({shown}): set them with --shape to get all figures")
    doubles = [name for name, kind in graph.tensors.items() if kind.stored and kind.dtype == "float64"]
    if doubles:
        notes.append(f"{len(doubles)} constants are float64, first '{doubles[0][:80]}': few compute units support it")
    return tuple(notes)


def _list_memory_notes(graph: TypedGraph, budget: ResourceBudget) -> list[str]:
    """Return a note if the model does not run within the memory limit."""
    try:
        check_memory(graph, budget, "the model")
    except LimitReached as error:
        return [f"to run the model, {error}; {error.try_this}"]
    return []


def _list_free_inputs(graph: TypedGraph) -> list[str]:
    return [name for name, sizes in graph.shapes.items() if any(isinstance(size, str) for size in sizes)]


# Runtimes


def _report_runtime(
    name: str, given: ModelForm, form: ModelForm, rewritten: RewrittenModel | None, left: ResourceBudget
) -> RuntimeReport:
    """Return the report on the file as given, or on its ONNX form if the runtime is compiled from that."""
    table = read_table(name)
    if not left.left_seconds:
        raise left.time_error("the analysis")
    if table is None:
        return _make_unknown_report(name, "it has no support table")
    own = given if given.graph is not None and given.graph.format in table.reads else form
    blocking = own.rejected or check_precision(table, given)
    if own.graph is None or blocking:
        return _make_own_report(table, "refused", tuple(blocking), tuple(map(_make_unknown_unit, table.units)))
    if own.graph.format not in table.reads:
        return _make_unknown_report(name, f"it is compiled from {' or '.join(table.reads)}", table)
    if own.graph.format == "tflite":
        return _report_own_operators(table, own.source, find_custom_operators(own.source))
    if table.units_in == "own":
        return _report_dry_run(table, own.path, own.graph, left)
    return _report_by_table(table, own.graph, own.source, rewritten)


def _make_unknown_report(name: str, reason: str, table: SupportTable | None = None) -> RuntimeReport:
    return RuntimeReport(
        runtime=name,
        state="unknown",
        reason=reason,
        versions=table.versions if table else {},
        source=table.source if table else "",
        note=table.note if table else "",
    )


def _report_by_table(
    table: SupportTable, graph: TypedGraph, source: LinkedOperators, rewritten: RewrittenModel | None
) -> RuntimeReport:
    """Return the report from the support table, applied to the graph that the vendor's converter gets."""
    table = adapt_to_quantized(table) if graph.precision == "w8a8" else table
    items = source.items
    refused, besides = check_operators(table, source, rewritten)
    findings = [
        *_check_model(table, graph),
        *besides,
        *(_make_finding(item.subject, refused.get(item.subject.name)) for item in items),
    ]
    found = tuple(one for one in findings if one is not None)
    return RuntimeReport(
        runtime=table.runtime,
        state=_decide_state(found),
        reason="",
        versions=table.versions,
        source=table.source,
        note=table.note,
        findings=found,
        rewrites=tuple(
            Rewrite(node=item.subject.name, op=item.subject.op, text=rule.rewrite)
            for item in items
            if item.subject.name not in refused
            and (rule := table.operators.get(item.subject.op)) is not None
            and rule.rewrite
        ),
        units=tuple(_report_unit(unit, source, refused, "source") for unit in table.units),
    )


def _decide_state(findings: Sequence[SupportFinding]) -> SupportState:
    if not findings:
        return "compiles"
    return "needs shapes" if all(one.kind == "dynamic shape" for one in findings) else "refused"


def _check_model(table: SupportTable, graph: TypedGraph) -> list[SupportFinding]:
    """Return findings about the model as a whole: its opset and its dynamic dimensions."""
    found = []
    if table.opsets and graph.opset is not None and not table.opsets[0] <= graph.opset <= table.opsets[1]:
        low, high = table.opsets
        found.append(
            SupportFinding(
                node="",
                op="",
                kind="opset",
                reason=f"opset {graph.opset} is outside the supported range {low} to {high}",
                remedy=f"export the model with opset {min(max(graph.opset, low), high)}",
                source=table.source,
            )
        )
    for name in _list_free_inputs(graph):
        sizes = ",".join(str(size) if isinstance(size, int) else "…" for size in graph.shapes[name])
        reason = f"input '{name}' has dynamic dimensions, but artifacts have fixed ones"
        found.append(
            SupportFinding(
                node="",
                op="",
                kind="dynamic shape",
                reason=reason,
                remedy=f"--shape {name}={sizes}",
                source="docs/compile.md",
            )
        )
    return found


def _report_dry_run(table: SupportTable, path: Path, graph: TypedGraph, left: ResourceBudget) -> RuntimeReport:
    """Return LiteRT's report from a dry run of its writer; units are checked against the operators it would write."""
    if blocking := _check_model(table, graph):
        units = tuple(_make_unknown_unit(unit) for unit in table.units)
        return _make_own_report(table, _decide_state(blocking), tuple(blocking), units)
    sizes = {name: tuple(int(size) for size in shape) for name, shape in graph.shapes.items()}
    run = plan_file(path, sizes, left.after(DRY_RUN_SHARE * left.left_seconds))
    if run.failure or run.refused:
        units = tuple(_make_unknown_unit(unit) for unit in table.units)
        return _make_own_report(table, "refused", tuple(_list_rejected(run, table)), units)
    return _report_own_operators(
        table, link_operators([make_planned_item(i, one) for i, one in enumerate(run.operators)])
    )


def _list_rejected(run: DryRun, table: SupportTable) -> list[SupportFinding]:
    source = "the writer's dry run"
    if run.failure:
        return [SupportFinding(node="", op="", kind="operator", reason=run.failure, remedy=run.remedy, source=source)]
    return [
        SupportFinding(
            node=one.node,
            op=one.op,
            kind=classify_reason(one.reason),
            reason=one.reason,
            remedy=one.remedy or _suggest(one.op, table.runtime),
            source=source,
        )
        for one in run.refused
    ]


def _report_own_operators(
    table: SupportTable, linked: LinkedOperators, refused: Mapping[str, UnsupportedReason] = MappingProxyType({})
) -> RuntimeReport:
    units = tuple(_report_unit(unit, linked, refused, "own") for unit in table.units)
    findings = [_make_finding(item.subject, refused.get(item.subject.name)) for item in linked.items]
    found = tuple(one for one in findings if one is not None)
    return _make_own_report(table, _decide_state(found), found, units)


def _make_own_report(
    table: SupportTable, state: SupportState, findings: tuple[SupportFinding, ...], units: tuple[UnitReport, ...]
) -> RuntimeReport:
    return RuntimeReport(
        runtime=table.runtime,
        state=state,
        reason="",
        versions=table.versions,
        source=table.source,
        note=table.note,
        findings=findings,
        units=units,
    )


def _make_finding(subject: CheckedOperator, verdict: UnsupportedReason | None) -> SupportFinding | None:
    if verdict is None:
        return None
    return SupportFinding(
        node=subject.name,
        op=subject.op,
        kind=verdict.kind,
        reason=verdict.reason,
        remedy=verdict.remedy or _suggest(subject.op),
        source=verdict.source,
    )


def _suggest(op: str, besides: str = "") -> str:
    """Return a remedy that lists other runtimes which support the operator."""
    tables = [table for name in TABLE if name != besides and (table := read_table(name)) is not None]
    others = [table.runtime for table in tables if op in table.operators]
    return f"replace it, or compile for {', '.join(others[:3])}" if others else "replace it with other operators"


# Units


def _report_unit(
    unit: UnitTable,
    linked: LinkedOperators,
    refused: Mapping[str, UnsupportedReason],
    counted: Literal["source", "own"],
) -> UnitReport:
    items = linked.items
    verdicts = [refused.get(item.subject.name) or check_unit(unit, item.subject) for item in items]
    own = [
        _make_finding(item.subject, verdict)
        for item, verdict in zip(items, verdicts, strict=True)
        if item.subject.name not in refused
    ]
    taken = [verdict is None for verdict in verdicts]
    return UnitReport(
        unit=unit.unit,
        backend=unit.backend,
        counted=counted,
        operators=len(items),
        supported=sum(taken),
        partitions=count_partitions(linked, taken),
        listed=unit.operators is not None,
        source=unit.source,
        note=unit.note,
        findings=tuple(one for one in own if one is not None),
    )


def _make_unknown_unit(unit: UnitTable) -> UnitReport:
    return UnitReport(
        unit=unit.unit,
        backend=unit.backend,
        counted="own",
        operators=None,
        supported=None,
        partitions=None,
        listed=unit.operators is not None,
        source=unit.source,
        note=unit.note,
    )


def encode_analysis(analysis: Analysis) -> bytes:
    """Return the JSON of `edgewright analyze --json`."""
    return msgspec.json.encode(analysis)
