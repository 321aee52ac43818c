"""Kind, shape and multiply-accumulates of a run's layers, from the stored model files that have their nodes."""

from collections.abc import Mapping, Sequence
from math import isfinite
from statistics import median

from msgspec import Struct

from edgewright.errors import EdgewrightError
from edgewright.flows.stored_model import fetch_model
from edgewright.formats.macs import count_macs
from edgewright.formats.onnx.typed import read_onnx_graph
from edgewright.formats.tflite.typed import read_tflite_graph
from edgewright.formats.typed_graph import TypedGraph, TypedNode
from edgewright.limits import ResourceBudget
from edgewright.schema.run import Layer, Run
from edgewright.store.store import Store
from edgewright.system.temporary import TemporaryFolder

READERS = ("onnx", "tflite")
MAX_FILES, MAX_BYTES, MAX_CACHED = 4, 500_000_000, 64
BUDGET = ResourceBudget(memory_bytes=1_000_000_000, seconds=20.0)
SLOW_RATE, SLOW_SHARE = 1 / 3, 0.02  # of the net's median rate; of the layers' time
WEIGHTS = {"Conv": 1, "ConvTranspose": 1, "QLinearConv": 3, "CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "TRANSPOSE_CONV": 1}
PRODUCTS = ("Gemm", "MatMul", "QLinearMatMul", "MatMulInteger", "MatMulNBits", "FULLY_CONNECTED", "BATCH_MATMUL")
CHANNELS_LAST = "tflite"
OTHER = "other"


class NodeCost(Struct, frozen=True, kw_only=True):
    """One node of a model: its kind (`1×1 conv`, `depthwise 3×3`, `matmul`, or its operator), shape and MACs.

    Attributes:
        shape: of its first output; empty if it is unknown.
        macs: multiply-accumulates; 0 for an operator without any; None if a size is unknown.
    """

    kind: str
    shape: tuple[int, ...]
    macs: int | None


class MeasuredLayer(Struct, frozen=True, kw_only=True):
    """One layer of a run with what it computes.

    Attributes:
        node: the source node with the most multiply-accumulates; empty if none is known.
        shape: of the output of that node; empty if it is unknown.
        macs: of its nodes; None if no stored file has them.
        gmacs_per_s: 10⁹ multiply-accumulates per second; None without MACs.
        is_slow: whether it has over 2 % of the time and under a third of the median rate of the net's layers.
    """

    position: int
    name: str
    op: str
    node: str
    kind: str
    shape: tuple[int, ...]
    median_us: float
    share: float
    macs: int | None
    gmacs_per_s: float | None
    is_slow: bool = False


class KindShare(Struct, frozen=True, kw_only=True):
    """Share of the layers' time in one kind, and the number of its layers."""

    kind: str
    share: float
    count: int


_CACHE: dict[str, Mapping[str, NodeCost]] = {}  # by model id: the content of a file never changes


def load_node_costs(run: Run, store: Store) -> dict[str, NodeCost]:
    """Return the nodes by name, of the run's model and of stored files that it was made from or that have its nodes."""
    wanted = {name for layer in run.layers for name in (layer.name, *layer.source_nodes)}
    found: dict[str, NodeCost] = {}
    for model_id in list_source_models(run, store)[:MAX_FILES] if run.layers else ():
        known = _read_stored(model_id, store)
        found |= {name: cost for name, cost in known.items() if name in wanted and name not in found}
        if all(any(name in found for name in (layer.name, *layer.source_nodes)) for layer in run.layers):
            break
    return found


def list_source_models(run: Run, store: Store) -> list[str]:
    """Return the run's model, those it was made from, and others that were made from these."""
    if run.model is None:
        return []
    links = store.list_links()
    above = [run.model.sha256]
    for model_id in above:  # grows
        above += [link.parent for link in links if link.child == model_id and link.parent not in above][:1]
    sisters = [link.child for link in links if link.parent in above and link.child not in above]
    return list(dict.fromkeys([*above, *sisters]))


def _read_stored(model_id: str, store: Store) -> Mapping[str, NodeCost]:
    """Return the nodes of a stored file; none if there is no such file, or if it cannot be read."""
    if model_id not in _CACHE:
        run_ids = store.list_runs_with_file(model_id, 1)
        run = store.load(run_ids[0]) if run_ids else None
        if run is None or run.model is None or run.model.format not in READERS or run.model.bytes > MAX_BYTES:
            return {}
        if len(_CACHE) >= MAX_CACHED:
            _CACHE.pop(next(iter(_CACHE)))
        _CACHE[model_id] = _read_file(run, store)
    return _CACHE[model_id]


def _read_file(run: Run, store: Store) -> Mapping[str, NodeCost]:
    try:
        with TemporaryFolder() as folder:
            path = fetch_model(run, store, folder)
            graph = read_onnx_graph(path, budget=BUDGET) if path.suffix == ".onnx" else read_tflite_graph(path)
            return {node.name: _describe_node(graph, node) for node in graph.computing()}
    except (EdgewrightError, OSError, ValueError):
        return {}


def _describe_node(graph: TypedGraph, node: TypedNode) -> NodeCost:
    shape = graph.tensors[node.outputs[0]].shape if node.outputs and node.outputs[0] in graph.tensors else None
    known = tuple(size for size in shape or () if isinstance(size, int))
    kind = _name_kind(graph, node)
    return NodeCost(kind=kind, shape=known if len(known) == len(shape or ()) else (), macs=count_macs(graph, node))


def _name_kind(graph: TypedGraph, node: TypedNode) -> str:
    """Return `3×3 conv`, `depthwise 3×3`, `matmul`, or the operator."""
    if node.op in PRODUCTS:
        return "matmul"
    position = WEIGHTS.get(node.op)
    kind = graph.tensors.get(node.inputs[position]) if position is not None and position < len(node.inputs) else None
    if kind is None or kind.shape is None or len(kind.shape) < 3:
        return node.op
    last = graph.format == CHANNELS_LAST
    kernel = "×".join(map(str, kind.shape[1:-1] if last else kind.shape[2:]))
    inner = kind.shape[-1] if last else kind.shape[1]  # input channels of a group
    grouped = node.op == "DEPTHWISE_CONV_2D" or (not last and node.attributes.get("group", 1) != 1 and inner == 1)
    word = "transposed conv" if "ranspose" in node.op or "TRANSPOSE" in node.op else "conv"
    return f"depthwise {kernel}" if grouped else f"{kernel} {word}"


def describe_layers(layers: Sequence[Layer], nodes: Mapping[str, NodeCost]) -> list[MeasuredLayer]:
    """Return the layers in order with their costs. A node that several layers share counts for the longest of them."""
    owners: dict[str, int] = {}
    for index, layer in enumerate(layers):
        for name in _find_names(layer, nodes):
            if name not in owners or layers[owners[name]].median_us < layer.median_us:
                owners[name] = index
    own: list[dict[str, NodeCost]] = [{} for _ in layers]
    for name, index in owners.items():
        own[index][name] = nodes[name]
    total = sum(layer.median_us for layer in layers if isfinite(layer.median_us))
    rows = [_describe_layer(layer, found, total) for layer, found in zip(layers, own, strict=True)]
    rates = [row.gmacs_per_s for row in rows if row.gmacs_per_s]
    limit = SLOW_RATE * median(rates) if rates else 0.0
    return [_mark_slow(row, limit) for row in rows]


def _find_names(layer: Layer, nodes: Mapping[str, NodeCost]) -> list[str]:
    """Return the known source nodes of a layer, else its own name if it is known."""
    known = [name for name in layer.source_nodes if name in nodes]
    return known or [name for name in (layer.name,) if name in nodes]


def _describe_layer(layer: Layer, found: Mapping[str, NodeCost], total: float) -> MeasuredLayer:
    name = max(found, key=lambda one: found[one].macs or 0, default="")
    main = found.get(name)
    macs = [node.macs for node in found.values() if node.macs is not None]
    rate = sum(macs) / layer.median_us / 1e3 if sum(macs) and layer.median_us > 0 else None
    return MeasuredLayer(
        position=layer.position,
        name=layer.name,
        op=layer.op,
        node=name,
        kind=main.kind if main and (main.macs or len(found) == 1) else layer.op.partition(" (")[0],
        shape=main.shape if main else (),
        median_us=layer.median_us,
        share=layer.median_us / total if total and isfinite(layer.median_us) else 0.0,
        macs=sum(macs) if macs else None,
        gmacs_per_s=rate,
    )


def _mark_slow(row: MeasuredLayer, limit: float) -> MeasuredLayer:
    fields = {name: getattr(row, name) for name in row.__struct_fields__}
    is_slow = row.gmacs_per_s is not None and row.gmacs_per_s < limit and row.share > SLOW_SHARE
    return MeasuredLayer(**{**fields, "is_slow": is_slow})


def group_kinds(rows: Sequence[MeasuredLayer], most: int = 5) -> list[KindShare]:
    """Return the share of each kind, the largest first; those beyond `most` are one entry `other`."""
    found: dict[str, list[MeasuredLayer]] = {}
    for row in rows:
        found.setdefault(row.kind, []).append(row)
    kinds = sorted(
        (KindShare(kind=kind, share=sum(row.share for row in own), count=len(own)) for kind, own in found.items()),
        key=lambda one: -one.share,
    )
    rest = kinds[most:]
    other = KindShare(kind=OTHER, share=sum(one.share for one in rest), count=sum(one.count for one in rest))
    return [*kinds[:most], *([other] if rest else [])]
