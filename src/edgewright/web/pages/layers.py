"""Layer tables: filtered, sorted and grouped layers of one run, and aligned layers of several runs."""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite

from msgspec import Struct
from msgspec.structs import replace

from edgewright.bench.statistics import Interval
from edgewright.bench.verdict import MIN_CONFIDENCE, SESSION_DRIFT, find_difference
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
    """Sort order, grouping and search text of a layer table; sort and group are keys of the tables above."""

    sort: str = "position"
    group: str = ""
    text: str = ""


class LayerGroup(Struct, frozen=True, kw_only=True):
    """Group of layers: number, time, and share of the time of all layers."""

    name: str
    count: int
    median_us: float
    share: float
    units: tuple[str, ...]


def parse_layer_view(query: Mapping[str, str]) -> LayerView:
    """Return the view in an address; unknown values are ignored."""
    sort, group = query.get("sort", ""), query.get("group", "")
    return LayerView(
        sort=sort if sort in SORTS else "position",
        group=group if group in GROUPS else "",
        text=query.get("layer", "").strip()[:200],
    )


def sum_median_us(layers: Sequence[Layer]) -> float:
    return sum(layer.median_us for layer in layers if isfinite(layer.median_us))


CONVERSIONS = "quantize and dequantize"


def filter_layers(layers: Sequence[Layer], view: LayerView) -> list[Layer]:
    """Return the layers with the text in a name, operator, backend or source node, sorted."""
    text = view.text.lower()
    found = [layer for layer in layers if not text or text in _join_searchable_text(layer)]
    return sorted(found, key=SORTS[view.sort])


def _join_searchable_text(layer: Layer) -> str:
    return " ".join((layer.name, layer.op, layer.unit, layer.backend, *layer.source_nodes)).lower()


def get_module(layer: Layer) -> str:
    """Return the source module of a layer: the path of its first source node without the node's name."""
    if not layer.source_nodes:
        return NO_SOURCE
    parts = layer.source_nodes[0].strip("/").replace("::", "/").split("/")
    if len(parts) == 1:
        parts = parts[0].split(".")
    return "/".join(parts[:-1][:2]) or parts[0]


def group_layers(layers: Sequence[Layer], key: str) -> list[LayerGroup]:
    """Return the groups of layers, the slowest first."""
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
    """Sum of one run's layers in a row. `mark` is `slower` or `faster` than the first run if a difference of
    more than 5 % is shown, else empty. `low_us` and `high_us` are None if a layer has no interval."""

    median_us: float
    low_us: float | None
    high_us: float | None
    count: int
    ops: tuple[str, ...]
    mark: str = ""


class AlignedRow(Struct, frozen=True, kw_only=True):
    """The same source nodes in every run; the cell of a run without such a layer is None."""

    name: str
    nodes: tuple[str, ...]
    cells: tuple[LayerCell | None, ...]


def align_layers(runs: Sequence[Run]) -> list[AlignedRow]:
    """Return rows of layers with the same source nodes, in the order of the first run that has them.

    A runtime may fuse nodes that another runs separately: layers are in one row if a chain of shared nodes connects
    them. QuantizeLinear and DequantizeLinear connect nothing, because each runtime fuses them with other neighbors;
    layers of these alone are one row. Layers without a source node (reorders and casts added by a runtime) are grouped
    by operator.
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
    computing = tuple(node for node in layer.source_nodes if not _is_conversion(node))
    if computing or layer.source_nodes:
        return computing or (CONVERSIONS,)
    return (f"\0{layer.op}",)


def _is_conversion(node: str) -> bool:
    """Return whether a source node is a QuantizeLinear or DequantizeLinear, by its name: a record has no operators."""
    return "quantize" in node.rpartition("/")[2].lower()


def _make_row(found: Sequence[Sequence[Layer]]) -> AlignedRow:
    nodes = tuple(dict.fromkeys(node for layers in found for layer in layers for node in layer.source_nodes))
    cells = [_make_cell(layers) for layers in found]
    computing = [node for node in nodes if not _is_conversion(node)]
    name = (
        (computing or [CONVERSIONS])[0]
        if nodes
        else f"{next(layer.op for layers in found for layer in layers)} {NO_SOURCE}"
    )
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
    """Mark a difference. An interval of one process has no differences between processes: the drift stands for them."""
    if cell is None or first is None or cell is first:
        return cell
    found = find_difference(_read_interval(first), _read_interval(cell), SESSION_DRIFT)
    return replace(cell, mark={"higher": "slower", "lower": "faster"}.get(found, ""))


def _read_interval(cell: LayerCell) -> Interval:
    return Interval(value=cell.median_us, low=cell.low_us, high=cell.high_us, confidence=MIN_CONFIDENCE)


def _sum_known(values: Sequence[float | None]) -> float | None:
    """Return the sum, or None if one value is not known."""
    known = [value for value in values if value is not None and isfinite(value)]
    return sum(known) if len(known) == len(values) else None
