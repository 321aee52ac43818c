"""Quantization of a transformer's matrix products: weight-only, or with dynamic activations.

Weight nodes are processed in execution order. Each node's weights are fitted to the float network's output, given its
inputs in the quantized network, so that they compensate errors of earlier nodes. Then they are rounded under the second
moments of these inputs (`blocks`), and the bias compensates the shift of the mean.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypedDict, Unpack

import numpy as np

from edgewright.errors import InputError, ModelNotConvertible, UsageError
from edgewright.formats.onnx.attributes import read_attribute, read_opset
from edgewright.formats.onnx.editable import EditableGraph
from edgewright.formats.onnx.fold import SMALL
from edgewright.formats.onnx.normalize.weights import WeightNode
from edgewright.quantization.matmul.blocks import compute_block_params, round_nearest
from edgewright.quantization.matmul.executor import PairedExecutor, find_high_precision_inputs
from edgewright.quantization.matmul.graphs import (
    VENDOR,
    EmbeddingTable,
    QuantizedMatmul,
    count_bytes,
    list_initializer_names,
    make_dynamic_writer,
    make_nbits_writer,
    prevent_skip_norm_fusion,
    set_opset,
    write_dequantize,
    write_graph,
)
from edgewright.quantization.network import FloatNetwork
from edgewright.schema.arrays import Array

Samples = Sequence[Mapping[str, Array]]
Precision = Literal["w8a8-dynamic", "w8", "w4", "w4a8"]
Rounding = Literal["adaptive", "nearest"]

BITS: dict[str, int] = {"w8a8-dynamic": 8, "w8": 8, "w4": 4, "w4a8": 4}
BLOCKS = (16, 32, 64, 128, 256)  # block sizes of MatMulNBits
OPSETS = {8: 13, 4: 21}  # per-channel scales; int4 and blocks
MIN_TABLE_SIZE = 4096  # minimum size of an embedding table to quantize, since it adds two operators
PROBES = 4  # samples to measure the noise of single activations
QUANTIZED_OPS = {"QuantizeLinear", "DequantizeLinear", "MatMulInteger", "MatMulNBits", "DynamicQuantizeMatMul"}


class ArrayStore(Protocol):
    """Results of an interrupted attempt; see `checkpoint.py`."""

    def get_arrays(self, name: str) -> dict[str, Array] | None: ...

    def put_arrays(self, name: str, arrays: Mapping[str, Array]) -> None: ...


class MatmulReport(NamedTuple):
    """The result of one weight node.

    Attributes:
        block: number of columns that share a scale; 0 for a scale per output channel.
        sqnr_db: of the node's output on calibration samples, with all earlier errors; None without samples.
        bytes: of the stored weights and their scales.
    """

    node: str
    bits: int
    block: int
    sqnr_db: float | None
    bytes: int


class QuantizedTransformer(NamedTuple):
    """A quantized transformer.

    Attributes:
        graphs: by form. `qdq` uses standard ONNX operators; `onnxruntime` has the same weights in the operators
            that are fastest in ONNX Runtime.
        high_precision: activations that the graph for ONNX Runtime rounds to 16 bits, as two terms of 8.
        weight_nodes: in execution order.
        tables: Gather nodes with int8 tables.
        float_bytes, bytes: size of the replaced constants, before and after.
    """

    graphs: dict[str, Any]
    high_precision: list[str]
    weight_nodes: list[MatmulReport]
    tables: list[str]
    float_bytes: int
    bytes: int


class MatmulSettings(TypedDict, total=False):
    """Settings of a quantization of matrix products.

    Attributes:
        block: number of entries along the contracted axis that share a scale, for int4; by default 32.
        rounding: adaptive by default.
        keep: nodes that stay in float.
        tables: whether embedding tables become int8 too, which they do by default.
    """

    block: int
    rounding: Rounding
    keep: Collection[str]
    tables: bool


def quantize_matmuls(
    model: Any,
    samples: Samples,
    *,
    precision: Precision,
    store: ArrayStore | None = None,
    progress: Callable[[str], None] = lambda text: None,
    **settings: Unpack[MatmulSettings],
) -> QuantizedTransformer:
    """Quantize every MatMul and Gemm with constant weights, and embedding tables.

    Args:
        model: an EditableGraph, or an onnx.ModelProto, with fixed shapes and a unique name on every node; it is not
            changed.
        samples: the feeds of single inferences, by input name; not required for nearest rounding.
        precision: `w8a8-dynamic` and `w8` store int8 per output channel, `w4` and `w4a8` int4 in blocks. With a8, ONNX
            Runtime computes with integers, otherwise with float32.
        store: stores each weight node as soon as it is rounded, and has the results of an interrupted attempt.

    Raises:
        UsageError: an unknown setting, or a name in `keep` that no node has.
        InputError: adaptive rounding without samples, or an input of a product that is not finite.
        ModelNotConvertible: the model is already quantized, or has nothing to quantize.
    """
    block, rounding = settings.get("block", 32), settings.get("rounding", "adaptive")
    keep, tables = settings.get("keep", ()), settings.get("tables", True)
    _check_settings(precision, block, rounding)
    bits = BITS[precision]
    network = FloatNetwork(_prepare(EditableGraph.of(model), OPSETS[bits]))
    weight_nodes = _find_matmuls(network, keep)
    if rounding == "adaptive" and not samples:
        raise InputError("there are no samples", "adaptive rounding is fitted to the inputs of the matrix products",
                         "give samples, or set rounding=nearest")  # fmt: skip
    picked = {table.node: table for table in _find_embedding_tables(network, keep)} if tables else {}
    high_precision, rounded = list[str](), set[str]()
    if precision == "w8a8-dynamic":
        progress("searching for activations that need more than 8 bits")
        high_precision = find_high_precision_inputs(network, weight_nodes, samples[:PROBES]) if samples else []
        rounded = {weight_node.input for weight_node in weight_nodes} - set(high_precision)
    executor = PairedExecutor(network, weight_nodes, picked.values(), samples, rounded=rounded)
    stored: dict[str, QuantizedMatmul] = {}
    noise: dict[str, float | None] = {}
    for number, weight_node in enumerate(weight_nodes, 1):
        progress(f"rounding {weight_node.node} ({number} of {len(weight_nodes)})")
        known = store.get_arrays(f"product-{number}") if store else None
        if known is not None:
            stored[weight_node.node] = executor.restore_node(weight_node, bits, block, known)
        else:
            stored[weight_node.node] = executor.round_node(weight_node, bits, block, adaptive=rounding == "adaptive")
        if store and known is None:
            store.put_arrays(f"product-{number}", _to_arrays(stored[weight_node.node]))
        noise[weight_node.node] = executor.update_weights(stored[weight_node.node])
    graphs = _write_graphs(network.graph, stored, picked, precision, high_precision)
    replaced = {weight_node.weight for weight_node in weight_nodes} | {
        node.input[0] for node in network.nodes if node.name in picked
    }
    return QuantizedTransformer(
        graphs,
        high_precision,
        [_describe_matmul(one, noise[name], graphs["qdq"]) for name, one in stored.items()],
        list(picked),
        sum(network.constants[name].nbytes for name in replaced),
        count_bytes(graphs["qdq"], list_initializer_names([*stored, *picked])),
    )


def _check_settings(precision: str, block: int, rounding: str) -> None:
    if precision not in BITS:
        raise UsageError(
            f"precision {precision} is not supported for matrix products",
            "matrix products have precisions of their own",
            f"choose one of {', '.join(BITS)}",
        )
    if block not in BLOCKS:
        known = ", ".join(str(size) for size in BLOCKS)
        raise UsageError(
            f"block size {block} is not supported", "no runtime reads blocks of this size", f"choose one of {known}"
        )
    if rounding not in ("adaptive", "nearest"):
        raise UsageError(f"rounding '{rounding}' is not known", "not known", "choose adaptive or nearest")


def _prepare(graph: EditableGraph, opset: int) -> EditableGraph:
    """Return a copy of the graph at this opset or a newer one."""
    from onnx import version_converter

    ops = {node.op_type for node in graph.nodes}
    taken = sorted(ops & QUANTIZED_OPS)
    if taken:
        raise ModelNotConvertible("the model is already quantized", f"it has {', '.join(taken)}",
                                  "start from the float model")  # fmt: skip
    copy = graph.to_message(SMALL)
    version = read_opset(copy)
    if version >= opset:
        return graph.replace_model(copy)
    changed = {"GridSample", "GroupNormalization"} & ops
    if version >= 18 and not changed:  # all other operators are the same in opsets 18 to 21
        set_opset(copy, "", opset)
        copy.ir_version = max(copy.ir_version, 10)
        return graph.replace_model(copy)
    try:
        return graph.replace_model(version_converter.convert_version(copy, opset))
    except Exception as error:
        raise ModelNotConvertible(f"the model has opset {version}", f"opset {opset} is required: {error}",
                                  f"export the model with opset {opset}") from None  # fmt: skip


def _find_matmuls(network: FloatNetwork, keep: Collection[str]) -> list[WeightNode]:
    """Return the products to quantize, in execution order."""
    unknown = sorted(set(keep) - {node.name for node in network.nodes})
    if unknown:
        raise UsageError(
            f"unknown nodes to keep: {', '.join(unknown)}",
            "the model has no node with this name",
            "edgewright analyze lists the nodes",
        )
    weight_nodes = [
        weight_node
        for weight_node in network.weight_nodes.values()
        if weight_node.op in ("MatMul", "Gemm") and weight_node.node not in keep
    ]
    if not weight_nodes:
        raise ModelNotConvertible("there is nothing to quantize", "no MatMul or Gemm to quantize has constant weights",
                                  "use static quantization for a convolutional network: w8a8")  # fmt: skip
    for weight_node in weight_nodes:
        if not np.isfinite(network.constants[weight_node.weight]).all():
            raise ModelNotConvertible(f"{weight_node.node}: weights {weight_node.weight} are not finite",
                                      "they have NaN or infinite values",
                                      "retrain the model, or keep this node in float")  # fmt: skip
    return weight_nodes


def _find_embedding_tables(network: FloatNetwork, keep: Collection[str]) -> list[EmbeddingTable]:
    """Return the embedding tables with computed indices as int8 with a scale per row."""
    found = []
    for node in network.nodes:
        table = network.constants.get(node.input[0]) if node.op_type == "Gather" and not node.domain else None
        if table is None or node.name in keep or node.input[1] in network.constants or read_attribute(node, "axis"):
            continue
        if table.dtype == np.float32 and table.ndim == 2 and table.size >= MIN_TABLE_SIZE and np.isfinite(table).all():
            rows = compute_block_params(table.astype(np.float64), 8, table.shape[1])
            numbers = round_nearest(table.astype(np.float64), rows)
            found.append(EmbeddingTable(node.name, numbers.astype(np.int8), rows.scale.astype(np.float32)))
    return found


def _write_graphs(
    graph: EditableGraph,
    stored: Mapping[str, QuantizedMatmul],
    tables: Mapping[str, EmbeddingTable],
    precision: Precision,
    high_precision: Collection[str],
) -> dict[str, Any]:
    writer = (
        make_dynamic_writer(high_precision)
        if precision == "w8a8-dynamic"
        else make_nbits_writer(4 if precision == "w4a8" else 1)
    )
    own = write_graph(graph, stored, tables, writer)
    set_opset(own, VENDOR, 1)
    prevent_skip_norm_fusion(own)
    return {"qdq": write_graph(graph, stored, tables, write_dequantize), "onnxruntime": own}


def _to_arrays(stored: QuantizedMatmul) -> dict[str, Array]:
    """Return the computed arrays of a weight node; an empty bias stands for none."""
    bias = np.zeros(0, np.float32) if stored.bias is None else stored.bias
    return {"numbers": stored.numbers, "scale": stored.scale, "bias": bias}


def _describe_matmul(stored: QuantizedMatmul, sqnr: float | None, graph: Any) -> MatmulReport:
    block = stored.size if stored.scale.shape[1] > 1 else 0
    used = count_bytes(graph, list_initializer_names([stored.weight_node.node]))
    return MatmulReport(stored.weight_node.node, stored.bits, block, sqnr, used)
