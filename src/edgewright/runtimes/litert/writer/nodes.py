"""Writing of a graph's nodes, and the error that names the unsupported ones."""

from collections.abc import Mapping

from edgewright.errors import ModelNotConvertible
from edgewright.runtimes.litert.writer.build import Builder
from edgewright.runtimes.litert.writer.graph import DAMAGE, Graph, Node, OperatorRejected, make_rejection
from edgewright.runtimes.litert.writer.operators import TABLE
from edgewright.runtimes.litert.writer.passes.rewrite import REWRITTEN
from edgewright.runtimes.litert.writer.reading.shapes import FOLDED
from edgewright.runtimes.litert.writer.reading.unroll import CONTROL

# Operators that skip inputs without elements.
_EMPTY_TAKEN = {"Concat", "Split"}
# Operators whose output shape depends on the data, while a file's shapes are fixed.
_UNSIZED = {"NonMaxSuppression", "NonZero", "Unique"}
_CUT_HINT = "cut the model before it and compute the rest in the application: its output's size depends on values"


def find_unknown(graph: Graph) -> dict[str, OperatorRejected]:
    """Return the rejections of operators that are neither in the table nor replaced by an earlier stage."""
    known = {*TABLE, *FOLDED, *REWRITTEN, *CONTROL}
    return {node.name: _reject_operator(node) for node in graph.nodes if node.domain or node.op not in known}


def write_nodes(b: Builder) -> dict[str, OperatorRejected]:
    """Write all nodes; return the rejections by node name."""
    rejections: dict[str, OperatorRejected] = {}
    for node in b.graph.nodes:
        b.node = node
        missing = [name for name in node.inputs if name and name not in b.placed and name not in b.graph.constants]
        if missing and not (node.op in _EMPTY_TAKEN and all(0 in b.shape(name) for name in missing)):
            if TABLE.get(node.op) is None or node.domain:
                rejections[node.name] = _reject_operator(node)
            continue
        try:
            _write_node(b, node)
        except OperatorRejected as rejection:
            rejections[node.name] = rejection
        except DAMAGE as error:
            rejections[node.name] = make_rejection(error)
    return rejections


def _write_node(b: Builder, node: Node) -> None:
    write = TABLE.get(node.op) if not node.domain else None
    if write is None:
        raise _reject_operator(node)
    if all(0 in b.shape(name) for name in node.outputs if name):
        return  # a node that reads it is rejected or does not need it
    for name in (*node.inputs, *node.outputs) if node.op not in _EMPTY_TAKEN else ():
        if name and 0 in b.shape(name) and b.constant(name) is None:
            raise OperatorRejected(f"'{name}' has no elements", "LiteRT does not support empty tensors")
    write(b, node)


def _reject_operator(node: Node) -> OperatorRejected:
    where = f" of domain '{node.domain}'" if node.domain else ""
    reason = f"operator {node.op}{where} is not in the writer's table"
    return OperatorRejected(
        reason,
        _CUT_HINT
        if node.op in _UNSIZED and not node.domain
        else ("docs/litert-coverage.md lists the supported operators"),
    )


def raise_rejections(graph: Graph, rejections: Mapping[str, OperatorRejected]) -> None:
    """Raise one error that names every unsupported node."""
    if not rejections:
        return
    by_name = {node.name: node for node in graph.nodes}
    cause = next((rejection.__cause__ for rejection in rejections.values() if rejection.__cause__), None)
    lines = []
    for name, rejection in rejections.items():
        node = by_name.get(name)
        place = f" ({node.location})" if node and node.location else ""
        lines.append(f"{node.op if node else 'node'} '{name}'{place}: {rejection}")
    helps = dict.fromkeys(rejection.help for rejection in rejections.values() if rejection.help)
    count = len(rejections)
    raise ModelNotConvertible(
        f"{count} operator{'s' if count > 1 else ''} cannot be written for LiteRT", "\n".join(lines), "; ".join(helps)
    ) from cause
