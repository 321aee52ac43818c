"""Dry run of the rewrites and rejections of runtimes: `python -m edgewright.runtimes.dry_run MODEL`.

`edgewright analyze` then checks the graph that the vendor's converter would get. It is made by the functions
that `edgewright compile` calls. This is a separate process, since shapes are inferred by onnx's C++ and constants are
computed.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from edgewright.errors import EdgewrightError, LimitReached
from edgewright.formats.isolated import answer_isolated, ask_isolated
from edgewright.formats.neighbors import find_producers, find_readers
from edgewright.formats.onnx.external import load_external
from edgewright.formats.onnx.normalize.inputs import fix_sizes
from edgewright.formats.onnx.prepare import name_nodes
from edgewright.formats.onnx.reader import parse_model
from edgewright.formats.onnx.typing_process import read_typed
from edgewright.formats.onnx.weightless import LARGE
from edgewright.formats.typed_graph import TypedGraph
from edgewright.limits import ResourceBudget
from edgewright.runtimes.contract import NotConvertible
from edgewright.schema.vocabulary import Precision
from edgewright.system.memory_limit import CONVERTER_COPIES
from edgewright.system.temporary import TemporaryFolder

REWRITING = ("ncnn", "mnn")
QUOTED = re.compile(r"'([^']+)'|\(node ([^)]+)\)")


class RewriteRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The runtimes, the precision that is compiled, and the sizes of all inputs."""

    runtimes: tuple[str, ...]
    precision: Precision
    shapes: dict[str, tuple[int, ...]]


class RejectedLine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of a rejection; `node` is empty if it names none."""

    node: str
    op: str
    reason: str


class RewrittenModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The graph for the vendor's converter, or the rejection.

    Attributes:
        graph: None if the model is rejected, or if `failure` prevented the dry run.
        origins: name of the source's node by that of each node of `graph`.
        failure: why there is neither a graph nor a rejection.
    """

    graph: TypedGraph | None = None
    origins: dict[str, str] = {}
    rejected: tuple[RejectedLine, ...] = ()
    remedy: str = ""
    failure: str = ""


def rewrite_file(path: Path, request: RewriteRequest, budget: ResourceBudget) -> dict[str, RewrittenModel]:
    """Return the result of each runtime, from a process of its own.

    Raises LimitReached if it exceeds the budget, and ModelUnreadable if the process crashes.
    """
    return ask_isolated("edgewright.runtimes.dry_run", path, request, dict[str, RewrittenModel], budget)


# In the child process


def rewrite_here(path: Path, request: RewriteRequest, budget: ResourceBudget) -> dict[str, RewrittenModel]:
    """See `rewrite_file`; in this process."""
    return {name: _rewrite_for(name, path, request, budget) for name in request.runtimes}


def _rewrite_for(runtime: str, path: Path, request: RewriteRequest, budget: ResourceBudget) -> RewrittenModel:
    model = parse_model(path)
    load_external(path, model)
    name_nodes(model.graph)
    fix_sizes(model.graph, request.shapes)
    source = list(model.graph.node)
    try:
        made = _get_rewrite(runtime)(model, request.precision)
    except NotConvertible as error:
        return RewrittenModel(rejected=_find_nodes(str(error), source), remedy=error.hint)
    except (LimitReached, MemoryError):
        raise
    except Exception as error:  # a fault of a rewrite on shapes that inference does not know
        return RewrittenModel(failure=f"the dry run fails: {type(error).__name__}: {str(error)[:200]}")
    try:
        graph = _read_graph(made, budget)
    except LimitReached:
        raise
    except EdgewrightError as error:
        return RewrittenModel(failure=f"the dry run fails: {error}")
    return RewrittenModel(graph=graph, origins=_find_origins(graph, source))


def _get_rewrite(runtime: str) -> Callable[[Any, Precision], Any]:
    """Return the runtime's function, which raises NotConvertible as its compiler does."""
    if runtime == "ncnn":
        from edgewright.runtimes.ncnn import dry_run as ncnn

        return ncnn.rewrite_model
    from edgewright.runtimes.mnn import dry_run as mnn

    return mnn.rewrite_model


def _find_nodes(why: str, source: Sequence[Any]) -> tuple[RejectedLine, ...]:
    """Return the lines of a rejection with the nodes that they name."""
    ops = {node.name: node.op_type for node in source}
    found = []
    for line in why.splitlines():
        names = [first or second for first, second in QUOTED.findall(line)]
        node = next((name for name in names if name in ops), "")
        found.append(RejectedLine(node=node, op=ops.get(node, ""), reason=line))
    return tuple(found)


def _read_graph(model: Any, budget: ResourceBudget) -> TypedGraph:
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) > LARGE:
            tensor.raw_data = b""
    with TemporaryFolder() as folder:
        path = folder / "rewritten.onnx"
        path.write_bytes(model.SerializeToString())
        return read_typed(path, {}, budget)


def _find_origins(graph: TypedGraph, source: Sequence[Any]) -> dict[str, str]:
    """Return the node of the source that makes the same value, or that of the first reader."""
    makers, readers = find_producers(source), find_readers(graph.nodes)
    origins: dict[str, str] = {}
    for node in reversed(graph.nodes):
        same = [makers[name].name for name in node.outputs if name in makers]
        behind = [origins[one.name] for name in node.outputs for one in readers.get(name, ())]
        origins[node.name] = next(iter([*same, *behind]), "")
    return origins


if __name__ == "__main__":
    answer_isolated(RewriteRequest, rewrite_here, copies=CONVERTER_COPIES)
