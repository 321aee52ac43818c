"""Layered drawing of a model's graph in columns, colored by a share of each node.

Nodes are placed by their longest path from an input, one below the other; the ranks fill columns from left to right, so
that hundreds of nodes fit a page. Quantization nodes are left out, and a node with a single input that belongs to the
same layer as its producer is drawn in the producer's box.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from markupsafe import Markup
from msgspec import Struct

from edgewright.report.charts.svg import Box, element, make_drawing, path, rect, text
from edgewright.report.numbers import shorten
from edgewright.schema.model import GraphNode
from edgewright.schema.units import show_share

BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y, MARGIN = 172.0, 22.0, 28.0, 16.0, 10.0
MIN_ROWS, MAX_COLUMNS = 20, 6
HEATS = 6
MAX_LETTERS = 24
HIDDEN = ("QuantizeLinear", "DequantizeLinear", "Constant", "Identity", "QUANTIZE", "DEQUANTIZE")
JOINED = ("Relu", "Clip", "BatchNormalization", "HardSwish", "Sigmoid", "LeakyRelu", "PRelu")


class NodeHeat(Struct, frozen=True, kw_only=True):
    """What is known of a node: its share, and the position of its layer; None if it is of no layer."""

    share: float
    layer: int | None = None


class _Box(Struct):
    """One box: its nodes, the boxes before it, and its place."""

    nodes: list[GraphNode]
    before: list["_Box"]
    rank: int = 0
    column: int = 0
    x: float = 0.0
    y: float = 0.0

    @property
    def order(self) -> float:
        """Mean of the positions before it; boxes of a rank are sorted by it."""
        return sum(one.x for one in self.before) / len(self.before) if self.before else 0.0


def draw_graph(nodes: Sequence[GraphNode], heats: Mapping[str, NodeHeat], title: str, address: str = "") -> Markup:
    """Draw the graph. Boxes of a layer link to `address#layer-POSITION`.

    Args:
        heats: by node name; the darkest box has the largest share.
        title: what the color means.
    """
    boxes = _make_boxes(nodes, heats)
    width, height = _place(boxes)
    most = max((heat.share for heat in heats.values()), default=0.0)
    edges = [_draw_edge(before, box) for box in boxes for before in box.before]
    drawn = [_draw_box(box, heats, most, address) for box in boxes]
    description = f"{len(boxes)} boxes of {len(nodes)} nodes"
    return make_drawing(width, height, title, description, *edges, *drawn, kind="graph")


def _make_boxes(nodes: Sequence[GraphNode], heats: Mapping[str, NodeHeat]) -> list[_Box]:
    """Return the boxes in the order of the file."""
    readers: dict[str, int] = {}
    for name in (name for node in nodes for name in node.inputs):
        readers[name] = readers.get(name, 0) + 1
    made_by: dict[str, _Box] = {}
    boxes: list[_Box] = []
    for node in nodes:
        before = list({id(made_by[name]): made_by[name] for name in node.inputs if name in made_by}.values())
        if node.op in HIDDEN:
            box = before[0] if before else None
        elif len(before) == 1 and _is_joined(node, before[0], heats, readers):
            box = before[0]
            box.nodes.append(node)
        else:
            box = _Box(nodes=[node], before=before)
            boxes.append(box)
        if box is not None:
            made_by |= dict.fromkeys(node.outputs, box)
    return boxes


def _is_joined(node: GraphNode, box: _Box, heats: Mapping[str, NodeHeat], readers: Mapping[str, int]) -> bool:
    """Return whether a node is drawn in the box of its only producer."""
    if any(readers.get(name, 0) > 1 for name in box.nodes[-1].outputs) or len(box.nodes) > 3:
        return False
    own, last = heats.get(node.name), heats.get(box.nodes[0].name)
    if own is not None and own.layer is not None:
        return last is not None and last.layer == own.layer
    return node.op in JOINED


def _place(boxes: Sequence[_Box]) -> tuple[float, float]:
    """Set the places of the boxes; return the size of the drawing."""
    for box in boxes:  # the file's order is topological
        box.rank = max((one.rank + 1 for one in box.before), default=0)
    ranks = [list(own) for _, own in groupby(sorted(boxes, key=lambda box: box.rank), key=lambda box: box.rank)]
    rows = max(MIN_ROWS, -(-len(ranks) // MAX_COLUMNS))
    left, tallest = MARGIN, 0.0
    for column, begin in enumerate(range(0, len(ranks), rows)):
        chunk = ranks[begin : begin + rows]
        widest = max(map(len, chunk))
        inner = widest * (BOX_WIDTH + GAP_X)
        for row, rank in enumerate(chunk):
            step = inner / len(rank)
            for place, box in enumerate(sorted(rank, key=lambda box: box.order)):
                box.column = column
                box.x = left + step * (place + 0.5)
                box.y = MARGIN + row * (BOX_HEIGHT + GAP_Y)
                tallest = max(tallest, box.y + BOX_HEIGHT)
        left += inner
    return left + MARGIN, tallest + MARGIN


def _draw_edge(before: _Box, box: _Box) -> Markup:
    x, y, to_x, to_y = before.x, before.y + BOX_HEIGHT, box.x, box.y
    if before.column != box.column:  # down, along the gap beside the column, and into the next one from above
        gap = box.x - BOX_WIDTH / 2 - GAP_X / 2
        return path([(x, y), (x, y + 5), (gap, y + 5), (gap, to_y - 5), (to_x, to_y - 5), (to_x, to_y)], "edge far")
    if box.rank - before.rank > 1 and abs(x - to_x) < BOX_WIDTH / 2:  # around the boxes in between
        side = x + BOX_WIDTH / 2 + GAP_X / 3
        return path([(x, y), (x, y + 4), (side, y + 8), (side, to_y - 8), (to_x, to_y - 4), (to_x, to_y)], "edge")
    return path([(x, y), (x, y + 4), (to_x, to_y - 4), (to_x, to_y)], "edge")


def _draw_box(box: _Box, heats: Mapping[str, NodeHeat], most: float, address: str) -> Markup:
    known = [heats[node.name] for node in box.nodes if node.name in heats]
    share = max((one.share for one in known), default=None)
    heat = 0 if not share or not most else min(HEATS, max(1, round(share / most * HEATS)))
    layers = list(dict.fromkeys(one.layer for one in known if one.layer is not None))
    words = shorten(" + ".join(node.op for node in box.nodes), MAX_LETTERS)
    name = " + ".join(shorten(node.name, 60) for node in box.nodes)
    tooltip = f"{name}: {show_share(share)}" if share is not None else name
    x, css = box.x - BOX_WIDTH / 2, f"node heat{heat}"
    parts = [
        rect(Box(x, box.y, BOX_WIDTH, BOX_HEIGHT), css, tooltip, 4),
        text(x + 8, box.y + 15, words, f"label heat{heat}"),
    ]
    if share is not None:
        parts.append(text(x + BOX_WIDTH - 8, box.y + 15, show_share(share), f"label heat{heat}", "end"))
    if not layers:
        return element("g", {}, *parts)
    link = {"href": f"{address}#layer-{layers[0]}", "data-layer": " ".join(map(str, layers)), "aria-label": tooltip}
    return element("a", dict(link), *parts)


def list_heaviest(heats: Iterable[tuple[str, NodeHeat]], most: int = 3) -> list[tuple[str, float]]:
    """Return the names and shares of the heaviest nodes, one for each layer."""
    found: dict[object, tuple[str, float]] = {}
    for name, heat in heats:
        found.setdefault(name if heat.layer is None else heat.layer, (name, heat.share))
    return sorted(found.values(), key=lambda one: -one[1])[:most]
