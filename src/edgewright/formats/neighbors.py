"""Producers and readers of values, and the order of nodes, in any form of a graph.

A node is a record with `inputs` and `outputs`, or a message of onnx with `input` and `output`. An absent input or
output is `""`.
"""

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from edgewright.errors import ModelUnreadable

N = TypeVar("N")
Reads = Callable[[N], Iterable[str]]


def get_op(node: Any) -> str:
    return node.op_type if hasattr(node, "op_type") else node.op  # type: ignore[no-any-return] # any form of a node


def list_inputs(node: Any) -> Sequence[str]:
    return node.input if hasattr(node, "input") else node.inputs  # type: ignore[no-any-return] # any form of a node


def list_outputs(node: Any) -> Sequence[str]:
    return node.output if hasattr(node, "output") else node.outputs  # type: ignore[no-any-return] # any form of a node


def find_producers(nodes: Iterable[N]) -> dict[str, N]:
    return {name: node for node in nodes for name in list_outputs(node) if name}


def find_readers(nodes: Iterable[N], reads: Reads[N] = list_inputs) -> dict[str, list[N]]:
    """Return the readers of each value; a node is listed once for each of its inputs."""
    readers: dict[str, list[N]] = {}
    for node in nodes:
        for name in filter(None, reads(node)):
            readers.setdefault(name, []).append(node)
    return readers


def list_distinct_inputs(node: Any) -> Iterable[str]:
    """Return each value that a node reads once, for `find_readers`."""
    return dict.fromkeys(list_inputs(node))


def find_read_names(nodes: Iterable[Any]) -> set[str]:
    return {name for node in nodes for name in list_inputs(node)}


def select_needed(nodes: Sequence[N], outputs: Iterable[str], reads: Reads[N] = list_inputs) -> list[N]:
    """Return those of the nodes, which are in execution order, on which the outputs depend."""
    needed = set(outputs)
    kept = []
    for node in reversed(nodes):
        if not needed.isdisjoint(filter(None, list_outputs(node))):
            kept.append(node)
            needed.update(reads(node))
    return kept[::-1]


def find_upstream(
    ends: Iterable[str], producers: Mapping[str, N], stops: Collection[str] = (), reads: Reads[N] = list_inputs
) -> list[N]:
    """Return the nodes from `ends` upstream to the next stops, the most upstream first."""
    found: dict[int, N] = {}
    left = list(ends)
    while left:
        node = producers.get(left.pop())
        if node is not None and id(node) not in found:
            found[id(node)] = node
            left.extend(name for name in reads(node) if name not in stops)
    return list(reversed(found.values()))


def _sort_nodes(nodes: Sequence[N], given: Collection[str], reads: Reads[N] = list_inputs) -> tuple[list[N], list[N]]:
    """Return the nodes in an execution order close to their own, and those that can never run: they are on a cycle, or
    read a value that no node produces."""
    waiting: dict[str, list[int]] = {}
    missing = []
    for position, node in enumerate(nodes):
        names = {name for name in reads(node) if name and name not in given}
        missing.append(len(names))
        for name in names:
            waiting.setdefault(name, []).append(position)
    ready = [position for position, count in enumerate(missing) if not count]
    order = []
    while ready:
        position = heapq.heappop(ready)
        order.append(position)
        for name in list_outputs(nodes[position]):
            for reader in waiting.pop(name, ()):
                missing[reader] -= 1
                if not missing[reader]:
                    heapq.heappush(ready, reader)
    done = set(order)
    return [nodes[i] for i in order], [node for i, node in enumerate(nodes) if i not in done]


def order_nodes(
    nodes: Sequence[N], given: Collection[str], outputs: Iterable[str], reads: Reads[N] = list_inputs, *, model: object
) -> list[N]:
    """Return the nodes in an execution order close to their own.

    Raises ModelUnreadable, with the name of the `model`, if a value has two producers or an output none, or if nodes
    can never run.
    """
    made = [name for node in nodes for name in list_outputs(node) if name]
    if len(set(made)) != len(made) or not set(made).isdisjoint(given):
        raise ModelUnreadable(f"{model} has a value with two producers", "each value of an ONNX graph has one producer")
    order, left = _sort_nodes(nodes, given, reads)
    if left:
        name = str(getattr(left[0], "name", ""))
        why = "they are on a cycle, or read a value that no operator produces"
        raise ModelUnreadable(f"{len(left)} operators can never run, first '{name[:200]}'", why)
    if lost := set(outputs).difference(given, made):
        raise ModelUnreadable(f"no operator produces the output '{min(lost)[:200]}'")
    return order
