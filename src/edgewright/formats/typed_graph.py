"""A model's operators with the shapes and types of all values, for all formats."""

from math import prod
from typing import Any

from msgspec import Struct

from edgewright.schema.model import Signature
from edgewright.schema.vocabulary import Precision

Size = int | str
# Bits of one element by type, with NumPy's names and those of other types.
BITS = {
    **dict.fromkeys(("int2", "uint2"), 2),
    **dict.fromkeys(("int4", "uint4", "float4e2m1"), 4),
    **dict.fromkeys(("int8", "uint8", "bool"), 8),
    **dict.fromkeys(("float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "float8e8m0"), 8),
    **dict.fromkeys(("int16", "uint16", "float16", "bfloat16"), 16),
    **dict.fromkeys(("int32", "uint32", "float32"), 32),
    **dict.fromkeys(("int64", "uint64", "float64", "complex64"), 64),
    "complex128": 128,
}


def limit_count(count: int) -> int | None:
    """Return a count of up to 64 bits; None for a negative or larger one, which no real model has."""
    return count if 0 <= count < 2**63 else None


class TensorType(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Type and shape of one value.

    Attributes:
        dtype: NumPy's name; empty if unknown.
        shape: an int is a static size, a str the name of a dynamic one (`""` without a name); None for an unknown rank.
        constant: it does not depend on inputs: a weight, or computed only from weights and shapes.
        stored: it is in the file.
    """

    dtype: str
    shape: tuple[Size, ...] | None
    constant: bool = False
    stored: bool = False

    def elements(self) -> int | None:
        """Return the number of elements; None if a size is dynamic or negative."""
        if self.shape is None or any(isinstance(size, str) or size < 0 for size in self.shape):
            return None
        return prod(size for size in self.shape if isinstance(size, int))

    def bytes(self) -> int | None:
        """Return the packed bytes; None like `elements`, and if the type has no fixed width or the number exceeds 64
        bits."""
        count, bits = self.elements(), BITS.get(self.dtype)
        return None if count is None or bits is None else limit_count(-(-count * bits // 8))


class TypedNode(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One operator.

    Attributes:
        name: unique in the graph.
        inputs: value names, including constants; empty for an absent one.
        attributes: numbers, texts and lists of them, without tensors and graphs.
        folded: its output does not depend on inputs, so it is computed once, not in each inference.
        bodies: number of its subgraphs (If, Loop, Scan).
        problem: why the shape of its output is unknown; empty if it is known, or if an earlier node is the cause.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    domain: str = ""
    attributes: dict[str, Any] = {}
    folded: bool = False
    bodies: int = 0
    problem: str = ""


class TypedGraph(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model as read by `edgewright analyze`.

    Attributes:
        opset: version of ONNX's own operators; None for other formats.
        domains: versions of all operator sets of the model, by domain.
        nodes: in execution order.
        tensors: every value by name.
        shapes: the used sizes of every input.
        assumed: inputs whose leading dynamic size was taken as 1.
        data_files: files beside the model with its weights.
        notes: changes that were made to read it.
    """

    format: str
    opset: int | None
    domains: dict[str, int]
    signature: Signature
    precision: Precision
    nodes: tuple[TypedNode, ...]
    tensors: dict[str, TensorType]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: dict[str, tuple[Size, ...]]
    assumed: tuple[str, ...] = ()
    data_files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def computing(self) -> tuple[TypedNode, ...]:
        """Return the nodes that run in an inference."""
        return tuple(node for node in self.nodes if not node.folded)
