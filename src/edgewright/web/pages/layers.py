"""Layers as people look at them: filtered, sorted, grouped; and those of several runs side by side."""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite

from msgspec import Struct
from msgspec.structs import replace

from edgewright.bench.verdict import SESSION_DRIFT
from edgewright.schema.run import Layer, Run

SORTS: dict[str, Callable[[Layer], float | str]] = {
    "position": lambda layer: layer.position,
    "time": lambda layer: -layer.median_us if isfinite(layer.median_us) else 0.0,
    "name": lambda layer: layer.name.lower(),
    "op": lambda layer: layer.op.lower(),
    "unit": lambda layer: layer.unit,
}
NO_SOURCE = "(no source node)"
GROUPS: dict[str, Callable[[Layer], str]] = {
    "op": lambda layer: layer.op,
    "unit": lambda layer: layer.unit,
    "backend": lambda layer: layer.backend,
    "module": lambda layer: get_module(layer),
}


class LayerView(Struct, frozen=True, kw_only=True):
    """What of the layers is wanted; each word is a key of the tables above, or empty."""

    sort: str = "position"
    group: str = ""
    text: str = ""


class LayerGroup(Struct, frozen=True, kw_only=True):
    """Layers that share a word: their number, their time, and their share of the time of all layers."""

    name: str
    count: int
    median_us: float
    share: float
    units: tuple[str, ...]


def parse_layer_view(query: Mapping[str, str]) -> LayerView:
    """The view that an address asks for; unknown words ask for nothing."""
    sort, group = query.get("sort", ""), query.get("group", "")
    return LayerView(
        sort=sort if sort in SORTS else "position",
        group=group if group in GROUPS else "",
        text=query.get("layer", "").strip()[:200],
    )


def sum_median_us(layers: Sequence[Layer]) -> float:
    return sum(layer.median_us for layer in layers if isfinite(layer.median_us))


def filter_layers(layers: Sequence[Layer], view: LayerView) -> list[Layer]:
    """Those with the text in a name, an operator, a backend or a source node; sorted."""
    text = view.text.lower()
    found = [layer for layer in layers if not text or text in _join_searchable_text(layer)]
    return sorted(found, key=SORTS[view.sort])


def _join_searchable_text(layer: Layer) -> str:
    return " ".join((layer.name, layer.op, layer.unit, layer.backend, *layer.source_nodes)).lower()


def get_module(layer: Layer) -> str:
    """Where the layer comes from in the source: its first node's path without the node's own name."""
    if not layer.source_nodes:
        return NO_SOURCE
    parts = layer.source_nodes[0].strip("/").replace("::", "/").split("/")
    if len(parts) == 1:
        parts = parts[0].split(".")
    return "/".join(parts[:-1][:2]) or parts[0]


def group_layers(layers: Sequence[Layer], key: str) -> list[LayerGroup]:
    """The slowest group first."""
    total = sum_median_us(layers)
    found: dict[str, list[Layer]] = {}
    for layer in layers:
        found.setdefault(GROUPS[key](layer), []).append(layer)
    groups = [
        LayerGroup(
            name=name,
            count=len(members),
            median_us=sum_median_us(members),
            share=sum_median_us(members) / total if total else 0.0,
            units=tuple(dict.fromkeys(layer.unit for layer in members)),
        )
        for name, members in found.items()
    ]
    return sorted(groups, key=lambda one: -one.median_us)


class LayerCell(Struct, frozen=True, kw_only=True):
    """What one run spends in a row: the sums of its layers there. `mark` is `slower` or `faster` than the first run
    where the two intervals are apart by more than 5 %, else empty. `low_us` and `high_us` are None where a layer has no
    interval on record."""

    median_us: float
    low_us: float | None
    high_us: float | None
    count: int
    ops: tuple[str, ...]
    mark: str = ""


class AlignedRow(Struct, frozen=True, kw_only=True):
    """The same piece of the source in every run; None for a run that has no layer there."""

    name: str
    nodes: tuple[str, ...]
    cells: tuple[LayerCell | None, ...]


def align_layers(runs: Sequence[Run]) -> list[AlignedRow]:
    """Rows of layers that stand for the same source nodes, in the order of the first run that has them.

    A runtime fuses what another keeps apart: layers belong into one row when a chain of shared nodes joins them.
    Layers without a source node (reorders, casts that a runtime put in) are joined by their operator.
    """
    roots: dict[str, str] = {}

    def find(node: str) -> str:
        while (parent := roots.setdefault(node, node)) != node:
            roots[node] = node = roots[parent]
        return node

    for run in runs:
        for layer in run.layers:
            first, *rest = _list_source_keys(layer)
            for node in rest:
                roots[find(node)] = find(first)
    rows: dict[str, list[list[Layer]]] = {}
    for index, run in enumerate(runs):
        for layer in run.layers:
            rows.setdefault(find(_list_source_keys(layer)[0]), [[] for _ in runs])[index].append(layer)
    return [_make_row(found) for found in rows.values()]


def _list_source_keys(layer: Layer) -> tuple[str, ...]:
    return layer.source_nodes or (f"\0{layer.op}",)


def _make_row(found: Sequence[Sequence[Layer]]) -> AlignedRow:
    nodes = tuple(dict.fromkeys(node for layers in found for layer in layers for node in layer.source_nodes))
    cells = [_make_cell(layers) for layers in found]
    name = nodes[0] if nodes else f"{next(layer.op for layers in found for layer in layers)} {NO_SOURCE}"
    return AlignedRow(name=name, nodes=nodes, cells=tuple(_mark_cell(cell, cells[0]) for cell in cells))


def _make_cell(layers: Sequence[Layer]) -> LayerCell | None:
    if not layers:
        return None
    return LayerCell(
        median_us=sum_median_us(layers),
        low_us=_sum_known([layer.low_us for layer in layers]),
        high_us=_sum_known([layer.high_us for layer in layers]),
        count=len(layers),
        ops=tuple(dict.fromkeys(layer.op for layer in layers)),
    )


def _mark_cell(cell: LayerCell | None, first: LayerCell | None) -> LayerCell | None:
    if cell is None or first is None or cell is first:
        return cell
    return replace(cell, mark="slower" if _is_below(first, cell) else "faster" if _is_below(cell, first) else "")


def _is_below(one: LayerCell, other: LayerCell) -> bool:
    """Whether both have an interval, and the second begins beyond the end of the first and `SESSION_DRIFT`: an interval
    from one process knows nothing of what differs between two."""
    return None not in (one.high_us, other.low_us) and (one.high_us or 0) * (1 + SESSION_DRIFT) < (other.low_us or 0)


def _sum_known(values: Sequence[float | None]) -> float | None:
    """None where one of them is not known."""
    known = [value for value in values if value is not None and isfinite(value)]
    return sum(known) if len(known) == len(values) else None
