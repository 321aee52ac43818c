"""Stage 3: fusion of activations that exporters decompose: GELU, HardSwish."""

from collections.abc import Iterator

import numpy as np

from edgewright.runtimes.litert.writer.graph import Graph, Node

Product = tuple[list[str], float, list[Node]]
DEEPEST = 4
CLOSE = 1e-4


def fuse_patterns(graph: Graph) -> None:
    """Replace each matching product by one node at the position of its last multiplication."""
    producers, readers = graph.producers(), graph.consumers()
    for node in graph.nodes:
        if node.op not in {"Mul", "Div"} or node.domain:
            continue
        names, factor, pieces = _unfold(graph, node, producers, readers)
        for match in (_match_gelu, _match_tanh_gelu, _match_hard_swish):
            if len(names) == 2 and (found := match(graph, names, factor, producers)):
                op, source, others = found
                if graph.shapes[source] != graph.shapes[node.outputs[0]]:
                    continue  # one of its constants adds axes
                parts = [*pieces[1:], *others]
                node.sources = (*node.sources, *(s for part in parts for s in part.sources))
                node.op, node.inputs = op, [source]
                node.attributes = {"approximate": "tanh"} if match is _match_tanh_gelu else {}
                break


def _unfold(graph: Graph, node: Node, producers: dict[str, Node], readers: dict[str, list[Node]]) -> Product:
    """Return a tree of products with constants as computed factors, one constant factor, and its nodes, the root
    first.
    """
    names: list[str] = []
    factor, pieces = 1.0, [node]
    for piece in pieces:
        for at, name in enumerate(piece.inputs):
            number = graph.number(name)
            producer = producers.get(name)
            if number is not None:
                factor = factor * number if piece.op == "Mul" else (factor / number if at and number else np.nan)
            elif piece.op == "Div" and at:
                return [], 0.0, []
            elif producer and producer.op in {"Mul", "Div"} and len(readers[name]) == 1 and len(pieces) < DEEPEST:
                if name not in graph.outputs and not producer.domain and len(producer.inputs) == 2:
                    pieces.append(producer)
                else:
                    names.append(name)
            else:
                names.append(name)
    return names, factor, pieces


def _orders(names: list[str]) -> Iterator[tuple[str, str]]:
    yield names[0], names[1]
    yield names[1], names[0]


def _match_gelu(
    graph: Graph, names: list[str], factor: float, producers: dict[str, Node]
) -> tuple[str, str, list[Node]] | None:
    """Match 0.5 x (1 + erf(x / √2))."""
    for source, other in _orders(names):
        add = producers.get(other)
        inner = _other_input(graph, add, "Add", 1.0)
        erf = producers.get(inner) if inner else None
        if add is None or erf is None or erf.op != "Erf" or abs(factor - 0.5) > CLOSE:
            continue
        scale = producers.get(erf.inputs[0])
        if scale is not None and _is_scaled(graph, scale, source, 1 / np.sqrt(2)):
            return "Gelu", source, [add, erf, scale]
    return None


def _match_tanh_gelu(
    graph: Graph, names: list[str], factor: float, producers: dict[str, Node]
) -> tuple[str, str, list[Node]] | None:
    """Match 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))), with the cube as a power or as products."""
    for source, other in _orders(names):
        add = producers.get(other)
        inner = _other_input(graph, add, "Add", 1.0)
        tanh = producers.get(inner) if inner else None
        if add is None or tanh is None or tanh.op != "Tanh" or abs(factor - 0.5) > CLOSE:
            continue
        scale = producers.get(tanh.inputs[0])
        total = _other_input(graph, scale, "Mul", float(np.sqrt(2 / np.pi)))
        bracket = producers.get(total) if total else None
        if scale is None or bracket is None or bracket.op != "Add" or source not in bracket.inputs:
            continue
        cubic = bracket.inputs[1 - bracket.inputs.index(source)]
        power, weight, parts = _read_power(graph, cubic, source, producers)
        if power == 3 and abs(weight - 0.044715) < CLOSE:
            return "Gelu", source, [add, tanh, scale, bracket, *parts]
    return None


def _read_power(
    graph: Graph, name: str, source: str, producers: dict[str, Node], depth: int = 0
) -> tuple[float, float, list[Node]]:
    """Return the value as weight × source^power with its nodes; power NaN if it has no such form."""
    if name == source:
        return 1.0, 1.0, []
    number, producer = graph.number(name), producers.get(name)
    if number is not None:
        return 0.0, number, []
    if producer is None or producer.domain or depth > DEEPEST:
        return np.nan, 1.0, []
    if (
        producer.op == "Pow"
        and producer.inputs[0] == source
        and (exponent := graph.number(producer.inputs[1])) is not None
    ):
        return exponent, 1.0, [producer]
    if producer.op != "Mul":
        return np.nan, 1.0, []
    (a, v, one), (c, w, two) = (_read_power(graph, part, source, producers, depth + 1) for part in producer.inputs)
    return a + c, v * w, [producer, *one, *two]


def _match_hard_swish(
    graph: Graph, names: list[str], factor: float, producers: dict[str, Node]
) -> tuple[str, str, list[Node]] | None:
    """Match x relu6(x + 3) / 6, or x times an equal HardSigmoid."""
    for source, other in _orders(names):
        producer = producers.get(other)
        if producer is None or producer.domain:
            continue
        if producer.op == "HardSigmoid" and producer.inputs[0] == source and abs(factor - 1) < CLOSE:
            alpha, beta = producer.attributes.get("alpha", 0.2), producer.attributes.get("beta", 0.5)
            if abs(alpha - 1 / 6) < CLOSE and beta == 0.5:
                return "HardSwish", source, [producer]
        if producer.op == "Clip" and abs(factor - 1 / 6) < CLOSE and _read_bounds(graph, producer) == (0.0, 6.0):
            add = producers.get(producer.inputs[0])
            if add is not None and _other_input(graph, add, "Add", 3.0) == source:
                return "HardSwish", source, [producer, add]
    return None


def _read_bounds(graph: Graph, clip: Node) -> tuple[float | None, float | None]:
    low, high = (graph.number(clip.inputs[at]) if clip.has(at) else None for at in (1, 2))
    return low, high


def _other_input(graph: Graph, node: Node | None, op: str, number: float) -> str | None:
    """Return the computed input of an operator whose other input is this number."""
    if node is None or node.op != op or node.domain or len(node.inputs) != 2:
        return None
    for at in (0, 1):
        value = graph.number(node.inputs[1 - at])
        if value is not None and abs(value - number) < CLOSE and node.inputs[at] not in graph.constants:
            return node.inputs[at]
    return None


def _is_scaled(graph: Graph, node: Node, source: str, factor: float) -> bool:
    """Return whether a Mul or Div computes source × factor."""
    if node.op == "Div" and node.inputs[0] == source:
        number = graph.number(node.inputs[1])
        return number is not None and number != 0 and abs(1 / number - factor) < CLOSE
    return node.op == "Mul" and _other_input(graph, node, "Mul", factor) == source
