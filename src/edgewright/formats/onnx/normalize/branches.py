"""If whose condition is known before the model runs: its branch takes its place."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from edgewright.formats.neighbors import select_needed
from edgewright.formats.onnx.attributes import (
    OWN_DOMAINS,
    iterate_subgraphs,
    keep_only,
    list_all_inputs,
    read_attribute,
)
from edgewright.formats.onnx.fold import ConstantFolder, copy_without_weights
from edgewright.limits import ResourceBudget
from edgewright.schema.names import find_free_name


def has_branches(graph: Any) -> bool:
    return any(_is_branch(node) for node in graph.node)


def _is_branch(node: Any) -> bool:
    return node.op_type == "If" and node.domain in OWN_DOMAINS


def inline_branches(model: Any, budget: ResourceBudget) -> bool:
    """Replace each If with a known condition by its branch, in place, and remove what nothing reads then; return
    whether there was one."""
    changed = False
    graph = model.graph
    while chosen := _decide(model, budget):
        changed = True
        names = _Names(graph)
        nodes = []
        for place, node in enumerate(graph.node):
            nodes += _inline(graph, node, names, chosen=chosen[place]) if place in chosen else [node]
        keep_only(graph.node, nodes)
    if changed:
        _remove_unread(graph)
    return changed


def _decide(model: Any, budget: ResourceBudget) -> dict[int, bool]:
    """Return the known conditions by the positions of their nodes."""
    places = [(place, node) for place, node in enumerate(model.graph.node) if _is_branch(node)]
    if not places:
        return {}
    folder = ConstantFolder(copy_without_weights(model), budget)
    folder.resolve()
    found = {place: folder.values.get(node.input[0]) for place, node in places}
    return {place: bool(value.any()) for place, value in found.items() if value is not None and value.size == 1}


class _Names:
    """The values that a model defines, and new names for them."""

    def __init__(self, graph: Any) -> None:
        self._defined = Counter(_list_defined(graph))

    def rename_common(self, node: Any, own: Iterable[str]) -> dict[str, str]:
        """Return a new name for each of a node's inner values whose name is also used outside of the node."""
        inner = Counter(name for graph in iterate_subgraphs(node) for name in _list_defined(graph))
        return {name: self._pick(name) for name in own if self._defined[name] > inner[name]}

    def _pick(self, name: str) -> str:
        new = find_free_name(name, self._defined)
        self._defined[new] += 1
        return new


def _list_defined(graph: Any) -> Iterator[str]:
    """List the values that a graph and those within it define."""
    yield from _list_own(graph)
    for node in graph.node:
        for inner in iterate_subgraphs(node):
            yield from _list_defined(inner)


def _list_own(graph: Any) -> Iterator[str]:
    yield from (value.name for value in graph.input)
    yield from (tensor.name for tensor in graph.initializer)
    yield from (name for node in graph.node for name in node.output if name)


def _inline(graph: Any, node: Any, names: _Names, *, chosen: bool) -> list[Any]:
    """Return the nodes of a branch, which give the outputs of the node; its constants go to the graph."""
    from onnx import helper

    body = read_attribute(node, "then_branch" if chosen else "else_branch")
    made = {name for inner in body.node for name in inner.output}
    ends = [value.name for value in body.output]
    pairs = [(end, output) for end, output in zip(ends, node.output, strict=True) if output]
    direct = {end: output for end, output in pairs if end in made and ends.count(end) == 1}
    renamed = names.rename_common(node, [name for name in _list_own(body) if name not in direct]) | direct
    _rename_values(body, renamed)
    graph.initializer.extend(body.initializer)
    graph.sparse_initializer.extend(body.sparse_initializer)
    copies = [
        helper.make_node("Identity", [renamed.get(end, end)], [output], f"{node.name}/{output}")
        for end, output in pairs
        if end not in direct
    ]
    return [*body.node, *copies]


def _rename_values(graph: Any, renamed: dict[str, str]) -> None:
    """Rename values of a graph, also where graphs within it read them."""
    for tensor in graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    for value in (*graph.value_info, *graph.output):
        value.name = renamed.get(value.name, value.name)
    for node in graph.node:
        _rename_ends(node.input, renamed)
        _rename_ends(node.output, renamed)
        for inner in iterate_subgraphs(node):
            defined = set(_list_own(inner))
            _rename_values(inner, {old: new for old, new in renamed.items() if old not in defined})


def _rename_ends(field: Any, renamed: dict[str, str]) -> None:
    field[:] = [renamed.get(name, name) for name in field]


def _remove_unread(graph: Any) -> None:
    """Remove the nodes and constants on which no output depends."""
    outputs = [value.name for value in graph.output]
    keep_only(graph.node, select_needed(list(graph.node), outputs, list_all_inputs))
    read = {*outputs, *_list_read(graph.node)}
    keep_only(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in read])
    keep_only(graph.value_info, [value for value in graph.value_info if value.name in read])


def _list_read(nodes: Iterable[Any]) -> Iterator[str]:
    for node in nodes:
        yield from list_all_inputs(node)
