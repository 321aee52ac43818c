"""What `edgewright compile` does with a model before the vendor's converter, asked of its own functions."""

from collections.abc import Mapping, Sequence

from edgewright.errors import EdgewrightError, ModelNotConvertible
from edgewright.flows.analyze.partitions import LinkedOperators, make_item
from edgewright.flows.analyze.report import SupportFinding, classify_reason
from edgewright.flows.analyze.source import ModelForm
from edgewright.flows.compile.cells import FLOAT_PRECISIONS, check_cell
from edgewright.limits import ResourceBudget
from edgewright.runtimes.dry_run import REWRITING, RejectedLine, RewriteRequest, RewrittenModel, rewrite_file
from edgewright.runtimes.support import SupportTable, UnsupportedReason, check_compile
from edgewright.runtimes.table import find_runtime
from edgewright.schema.plan import CompileCell
from edgewright.schema.vocabulary import Precision

SOURCE = "a dry run of compile"
TIME_SHARE = 0.4  # of the remaining time


def rewrite_form(
    form: ModelForm, runtimes: Sequence[str], precision: Precision, left: ResourceBudget
) -> Mapping[str, RewrittenModel]:
    """Return the graphs for the converters of those runtimes that rewrite graphs; empty if the limits are reached or
    sizes are missing."""
    names = tuple(name for name in runtimes if name in REWRITING and precision in find_runtime(name).precisions)
    if not names or form.graph is None or form.graph.format != "onnx":
        return {}
    shapes = form.graph.shapes
    if any(isinstance(size, str) for sizes in shapes.values() for size in sizes):
        return {}
    fixed = {name: tuple(int(size) for size in sizes) for name, sizes in shapes.items()}
    request = RewriteRequest(runtimes=names, precision=_get_compiled(precision), shapes=fixed)
    try:
        return rewrite_file(form.path, request, left.after(left.left_seconds * (1 - TIME_SHARE)))
    except EdgewrightError:  # the support tables decide alone
        return {}


def check_precision(table: SupportTable, given: ModelForm) -> tuple[SupportFinding, ...]:
    """Return a finding if `compile` has no compiler for the model's precision."""
    if given.graph is None:
        return ()
    cell = CompileCell(runtime=table.runtime, precision=_get_compiled(given.graph.precision))
    try:
        check_cell(cell, find_runtime(table.runtime))
    except ModelNotConvertible as error:
        finding = SupportFinding(
            node="", op="", kind="dtype", reason=str(error), remedy=error.try_this, source="docs/compile.md"
        )
        return (finding,)
    return ()


def _get_compiled(precision: Precision) -> Precision:
    return "fp32" if precision in FLOAT_PRECISIONS else precision


def check_operators(
    table: SupportTable, source: LinkedOperators, rewritten: RewrittenModel | None
) -> tuple[dict[str, UnsupportedReason], list[SupportFinding]]:
    """Return why nodes of the source are not supported, by name, and the findings about the model as a whole."""
    by_table = {item.subject.name: verdict for item in source.items if (verdict := check_compile(table, item.subject))}
    if rewritten is None or rewritten.failure:
        return by_table, []
    known = {item.subject.name for item in source.items}
    if rewritten.graph is None:
        named = {line.node: _explain(line, rewritten) for line in reversed(rewritten.rejected) if line.node in known}
        unknown = {name: why for name, why in by_table.items() if why.kind == "operator"}
        besides = [line for line in rewritten.rejected if line.node not in known]
        return unknown | named, [_make_finding(_explain(line, rewritten)) for line in besides]
    found: dict[str, UnsupportedReason] = {}
    model = []
    outputs = set(rewritten.graph.outputs)
    for node in rewritten.graph.nodes:
        if node.folded and outputs.isdisjoint(node.outputs):
            continue
        verdict = check_compile(table, make_item(rewritten.graph, node).subject)
        origin = rewritten.origins.get(node.name, "")
        if verdict and origin in known:
            found.setdefault(origin, verdict)
        elif verdict:
            model.append(_make_finding(verdict))
    return found, model


def _explain(line: RejectedLine, rewritten: RewrittenModel) -> UnsupportedReason:
    return UnsupportedReason(
        kind=classify_reason(line.reason), reason=line.reason, remedy=rewritten.remedy, source=SOURCE
    )


def _make_finding(why: UnsupportedReason) -> SupportFinding:
    return SupportFinding(node="", op="", kind=why.kind, reason=why.reason, remedy=why.remedy, source=why.source)
