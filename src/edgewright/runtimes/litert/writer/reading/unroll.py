"""Stage 2, control flow: branches with constant conditions and loops with constant counts are expanded."""

from typing import Any

import numpy as np

from edgewright.runtimes.litert.writer.graph import Graph, Node, OperatorRejected
from edgewright.runtimes.litert.writer.reading.read import read_node, read_tensor

CONTROL = {"If", "Loop", "Scan", "Compress"}
MAX_ITERATIONS = 512
OUTER = "names of the body around it"


def unroll_node(graph: Graph, node: Node) -> list[Node]:
    """Return the nodes that replace an If, Loop or Scan with a constant condition or count. Raises OperatorRejected for
    others."""
    if node.op == "If":
        return _choose(graph, node)
    if node.op == "Compress":
        return _pick(graph, node)
    return _scan(graph, node) if node.op == "Scan" else _loop(graph, node)


def _choose(graph: Graph, node: Node) -> list[Node]:
    chosen = graph.number(node.inputs[0])
    if chosen is None:
        raise OperatorRejected("its condition is computed at run time", "export the model with one of its branches")
    body = node.attributes["then_branch" if chosen else "else_branch"]
    nodes, names = _copy(graph, node, body, {})
    ends = zip(body.output, node.outputs, strict=True)
    return [*nodes, *(_rename(node, names.get(end.name, end.name), output) for end, output in ends if output)]


def _pick(graph: Graph, node: Node) -> list[Node]:
    """Return a Gather for a Compress with a constant condition."""
    chosen = graph.constants.get(node.inputs[1])
    if chosen is None:
        raise OperatorRejected("its selection is computed at run time", "make its condition constant")
    places = graph.add_constant(f"{node.name}/places", np.flatnonzero(chosen).astype(np.int64))
    if "axis" in node.attributes:
        axis = {"axis": node.attributes["axis"]}
        return [Node("Gather", [node.inputs[0], places], node.outputs, axis, node.sources)]
    flat, shape = graph.name_new(node.inputs[0]), graph.add_constant(f"{node.name}/flat", np.asarray([-1], np.int64))
    reshaped = Node("Reshape", [node.inputs[0], shape], [flat], {}, node.sources)
    return [reshaped, Node("Gather", [flat, places], node.outputs, {"axis": 0}, node.sources)]


def _loop(graph: Graph, node: Node) -> list[Node]:
    """Return the nodes of a Loop with a constant count whose condition stays true."""
    count, body = graph.number(node.inputs[0]) if node.has(0) else None, node.attributes["body"]
    first = graph.number(node.inputs[1]) if node.has(1) else 1.0
    if count is None or not 0 < count <= MAX_ITERATIONS or not first or not _goes_on(body):
        raise OperatorRejected(
            "its number of iterations depends on computed values", "export the model with a constant count"
        )
    states, nodes = list(node.inputs[2:]), []
    rows: list[list[str]] = [[] for _ in body.output[1 + len(states) :]]
    for iteration in range(int(count)):
        given = [graph.add_constant(f"{node.name}/turn", np.asarray(iteration, np.int64))]
        given += [graph.add_constant(f"{node.name}/on", np.asarray(True)), *states]
        made: list[str] = []
        nodes += _copy_iteration(graph, node, body, given, made)
        states = made[1 : 1 + len(states)]
        for row, name in zip(rows, made[1 + len(states) :], strict=True):
            row.append(name)
    nodes += [_rename(node, name, output) for name, output in zip(states, node.outputs, strict=False) if output]
    return nodes + _stack(graph, node, rows, node.outputs[len(states) :], [0] * len(rows), [0] * len(rows))


def _goes_on(body: Any) -> bool:
    """Return whether the output condition of an iteration is its input condition, or true."""
    end, given = body.output[0].name, body.input[1].name
    producer = next((node for node in body.node if end in node.output), None)
    while producer is not None and producer.op_type == "Identity":
        end = producer.input[0]
        producer = next((node for node in body.node if end in node.output), None)
    if producer is not None and producer.op_type == "Constant":
        return bool(np.all(read_tensor(producer.attribute[0].t, None)))
    return end == given or any(t.name == end and bool(np.all(read_tensor(t, None))) for t in body.initializer)


def _scan(graph: Graph, node: Node) -> list[Node]:
    """Return the nodes of a Scan over a static length (opset 9 and newer)."""
    body, count = node.attributes["body"], int(node.attributes["num_scan_inputs"])
    states, sequences = list(node.inputs[:-count]), node.inputs[-count:]
    ends = len(body.output) - len(states)
    axes, backwards = (node.attributes.get(f"scan_input_{what}") or [0] * count for what in ("axes", "directions"))
    places = [axis % len(graph.shapes[name]) for axis, name in zip(axes, sequences, strict=True)]
    length = graph.shapes[sequences[0]][places[0]]
    if length > MAX_ITERATIONS:
        raise OperatorRejected(f"more than {MAX_ITERATIONS} iterations", "shorten the sequences")
    nodes: list[Node] = []
    rows: list[list[str]] = [[] for _ in range(ends)]
    for iteration in range(length):
        given = list(states)
        for name, axis, way in zip(sequences, places, backwards, strict=True):
            nodes.append(_row(graph, node, name, axis, length - 1 - iteration if way else iteration))
            given.append(nodes[-1].outputs[0])
        made: list[str] = []
        nodes += _copy_iteration(graph, node, body, given, made)
        states = made[: len(states)]
        for row, name in zip(rows, made[len(states) :], strict=True):
            row.append(name)
    nodes += [_rename(node, name, output) for name, output in zip(states, node.outputs, strict=False) if output]
    axes, ways = (node.attributes.get(f"scan_output_{what}") or [0] * ends for what in ("axes", "directions"))
    return nodes + _stack(graph, node, rows, node.outputs[len(states) :], axes, ways)


def _row(graph: Graph, node: Node, name: str, axis: int, iteration: int) -> Node:
    index = graph.add_constant(f"{node.name}/row", np.asarray(iteration, np.int64))
    return Node("Gather", [name, index], [graph.name_new(f"{name}/row")], {"axis": axis}, node.sources)


def _copy_iteration(graph: Graph, node: Node, body: Any, given: list[str], made: list[str]) -> list[Node]:
    """Return the nodes of one run of the body on the given values; `made` receives the names of its outputs."""
    known = {value.name: name for value, name in zip(body.input, given, strict=True)}
    nodes, names = _copy(graph, node, body, known)
    made.extend(names.get(end.name, end.name) for end in body.output)
    return nodes


def _copy(graph: Graph, node: Node, body: Any, names: dict[str, str]) -> tuple[list[Node], dict[str, str]]:
    """Return the body's nodes with new names; names of the outer graph stay."""
    names = {**node.attributes.get(OUTER, {}), **names}
    for tensor in body.initializer:
        names[tensor.name] = graph.add_constant(tensor.name, read_tensor(tensor, None))
    copied = []
    for position, inner in enumerate(body.node):
        made = read_node(inner, position, None)
        made.inputs = [names.get(name, name) for name in made.inputs]
        for name in made.outputs:
            if name:
                names[name] = graph.name_new(name)
        made.outputs = [names[name] if name else "" for name in made.outputs]
        made.sources = node.sources
        if made.op in CONTROL:
            made.attributes[OUTER] = dict(names)
        copied.append(made)
    return copied, names


def _rename(node: Node, name: str, output: str) -> Node:
    return Node("Identity", [name], [output], {}, node.sources)


def _stack(
    graph: Graph, node: Node, rows: list[list[str]], outputs: list[str], axes: list[int], ways: list[int]
) -> list[Node]:
    """Return the outputs of all iterations, stacked along a new axis."""
    nodes = []
    for row, output, axis, way in zip(rows, outputs, axes, ways, strict=False):
        if not output:
            continue
        place = graph.add_constant(f"{output}/axis", np.asarray([axis], np.int64))
        single = [graph.name_new(f"{output}/turn") for _ in row]
        attributes = {} if graph.opset >= 13 else {"axes": [axis]}
        for name, wide in zip(row, single, strict=True):
            inputs = [name, place] if graph.opset >= 13 else [name]
            nodes.append(Node("Unsqueeze", inputs, [wide], dict(attributes), node.sources))
        nodes.append(Node("Concat", single[:: -1 if way else 1], [output], {"axis": axis}, node.sources))
    return nodes
