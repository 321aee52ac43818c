"""Source names in ncnn's files: a blob has the name of a source tensor, a layer that of a source node.

So the .param file alone identifies the nodes that a layer computes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from edgewright.formats.neighbors import find_producers, find_upstream
from edgewright.formats.onnx.reader import describe_nodes
from edgewright.runtimes.ncnn.param import COPIES, ParamRow
from edgewright.schema.model import GraphNode
from edgewright.schema.names import find_free_name

LONGEST = 200  # ncnn reads names of up to 255 characters
SHAPE_OPS = ("Shape", "Size")
HEAVY = (
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "LSTM",
    "GRU",
    "RNN",
    "Gather",
)  # operators after which a fused layer is named


def make_plain_name(name: str) -> str:
    """Return a name without spaces, which are separators in a .param file."""
    return ("_".join(name.split()) or "_")[-LONGEST:]


def name_blobs(rows: Sequence[ParamRow], tensors: Mapping[str, str]) -> dict[str, str]:
    """Return a new name for each blob: that of its tensor, else one that no tensor has."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for blob, tensor in tensors.items():
        names[blob] = _take_name(make_plain_name(tensor), taken)
    for row in rows:
        for place, top in enumerate(row.tops):
            if top not in names:
                stem = f"{names[row.bottoms[0]]}_split{place}" if row.op == "Split" else f"ncnn_{top}"
                names[top] = _take_name(stem, taken)
    return names


def name_layers(rows: Sequence[ParamRow], graph: Sequence[GraphNode]) -> list[ParamRow]:
    """Return the rows, named after the nodes that they compute; without such nodes pnnx's name stays."""
    ops = {node.name: node.op for node in graph}
    taken: set[str] = set()
    named = []
    for row, nodes in zip(rows, join_rows(rows, graph), strict=True):
        heavy = [name for name in nodes if ops[name] in HEAVY]
        same = [name for name in nodes if ops[name] == row.op]
        stem = row.tops[0] if row.op == "Input" else [*same, *heavy, *reversed(nodes), row.name][0]
        named.append(row._replace(name=_take_name(make_plain_name(stem), taken)))
    return named


def _take_name(stem: str, taken: set[str]) -> str:
    name = find_free_name(stem, taken, "_")
    taken.add(name)
    return name


def read_nodes(model: Any) -> list[GraphNode]:
    """Return the nodes of an ONNX model in the form of `formats.onnx`."""
    return list(describe_nodes(model.graph, {tensor.name for tensor in model.graph.initializer}))


def join_rows(rows: Sequence[ParamRow], graph: Sequence[GraphNode]) -> list[tuple[str, ...]]:
    """Return for each layer the source nodes that it computes, the most upstream first, by the names of its blobs.

    A layer whose blobs have no tensor's name is a part of what a later one computes, and has none. Nor has a Split,
    which computes nothing.
    """
    tensors = {make_plain_name(tensor): tensor for node in graph for tensor in node.outputs if tensor}
    producer = find_producers(graph)
    copies = {row.bottoms[0]: row.tops for row in rows if row.op == "Split"}
    ends = [
        [tensors[name] for top in row.tops for name in (top, *copies.get(top, ())) if name in tensors]
        if row.op not in COPIES
        else []
        for row in rows
    ]
    stops = {tensor for one in ends for tensor in one}
    # A node that only reads a shape computes nothing from the tensor, so the search ends there.
    chains = [find_upstream(one, producer, stops, lambda n: () if n.op in SHAPE_OPS else n.inputs) for one in ends]
    return [tuple(node.name for node in chain) for chain in chains]
