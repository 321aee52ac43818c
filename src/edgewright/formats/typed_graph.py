"""A model's operators with the shape and type of everything between them, whatever its format."""

from math import prod
from typing import Any

from msgspec import Struct

from edgewright.schema.model import Signature
from edgewright.schema.vocabulary import Precision

Size = int | str
# Bits of one element by numpy's names, and those that numpy has no name for.
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
    """Return a count that 64 bits hold; None for one that is negative or larger, which no real model has."""
    return count if 0 <= count < 2**63 else None


class TensorType(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of one value.

    Attributes:
        dtype: numpy's name; empty where it is not known.
        shape: an int is a fixed size, a str names a free one (`""` without a name); None where the rank is not known.
        constant: it depends on no input: a weight, or computed from weights and shapes alone.
        stored: it is in the file.
    """

    dtype: str
    shape: tuple[Size, ...] | None
    constant: bool = False
    stored: bool = False

    def elements(self) -> int | None:
        """Return number of elements; None where a size is free or negative."""
        if self.shape is None or any(isinstance(size, str) or size < 0 for size in self.shape):
            return None
        return prod(size for size in self.shape if isinstance(size, int))

    def bytes(self) -> int | None:
        """Return bytes, packed; None as for `elements`, where the type has no fixed width or 64 bits do not hold it."""
        count, bits = self.elements(), BITS.get(self.dtype)
        return None if count is None or bits is None else limit_count(-(-count * bits // 8))


class TypedNode(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One operator.

    Attributes:
        name: unique in the graph.
        inputs: value names, constants too; empty for one that is left out.
        attributes: numbers, texts and lists of them; tensors and graphs are left out.
        folded: what it makes depends on no input, so that it is computed once and not in an inference.
        bodies: number of graphs that it holds (If, Loop, Scan).
        problem: why the shape of what it makes is not known; empty where it is, or where an earlier node is to blame.
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
    """A model as `edgewright analyze` looks at it.

    Attributes:
        opset: version of ONNX's own operators; None for other formats.
        domains: version by domain, of all operator sets that the model names.
        nodes: in an order in which they can run.
        tensors: every value by name.
        shapes: sizes of every input as they were taken.
        assumed: inputs whose leading free size was taken as 1.
        data_files: files beside the model that hold its weights.
        notes: what was done to the file to read it.
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

    def producers(self) -> dict[str, TypedNode]:
        return {output: node for node in self.nodes for output in node.outputs if output}

    def consumers(self) -> dict[str, list[TypedNode]]:
        readers: dict[str, list[TypedNode]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers.setdefault(name, []).append(node)
        return readers

    def computing(self) -> tuple[TypedNode, ...]:
        """Return the nodes that run in an inference."""
        return tuple(node for node in self.nodes if not node.folded)
