"""Integer I/O of a QDQ graph: its outermost QuantizeLinear and DequantizeLinear are removed.

Callers then convert with the scales that are reported here. If that would change the graph's
results, an input or output is unchanged, and the reason is reported.
"""

from typing import Any, NamedTuple

import numpy as np

from edgewright.formats.neighbors import find_producers, find_read_names
from edgewright.formats.onnx.attributes import find_outer_names, keep_only
from edgewright.formats.onnx.constants import find_constants, read_array
from edgewright.formats.onnx.qdq import DEQUANTIZE, OWN_DOMAINS, QUANTIZE
from edgewright.formats.onnx.reader import describe_value
from edgewright.schema.model import Quantization

STORED = ("int8", "uint8", "int16", "uint16")


class IntegerPort(NamedTuple):
    """Type and scale of an input or output whose integers represent float32."""

    dtype: str
    quantization: Quantization


def make_io_integer(model: Any) -> tuple[dict[str, IntegerPort], tuple[str, ...]]:
    """Change a model in place; return its integer inputs and outputs by name, and why others are not integers."""
    rewriter = IntegerIoRewriter(model)
    notes = [
        *map(rewriter.make_input_integer, rewriter.inputs()),
        *map(rewriter.make_output_integer, model.graph.output),
    ]
    rewriter.drop_unread()
    return rewriter.integer_ports, tuple(note for note in notes if note)


class IntegerIoRewriter:
    """The graph's first and last nodes."""

    def __init__(self, model: Any) -> None:
        self.graph = model.graph
        self.constants = {name: read_array(tensor) for name, tensor in find_constants(self.graph).items()}
        self.inner = set[str]().union(*map(find_outer_names, self.graph.node))
        self.given = {value.name for value in self.graph.output}
        self.integer_ports: dict[str, IntegerPort] = {}

    def inputs(self) -> list[Any]:
        """Return the inputs without an initializer."""
        return [value for value in self.graph.input if value.name not in self.constants]

    def make_input_integer(self, value: Any) -> str:
        """Let an input hold the output of its QuantizeLinear; else return the reason why it stays."""
        name = value.name
        readers = [node for node in self.graph.node if name in node.input]
        prefix = f"input '{name}' stays {_type_of(value)}: "
        if _type_of(value) != "float32":
            return prefix + "it is not a float32 tensor that could be quantized"
        if name in self.inner or name in self.given:
            return prefix + "it is also an output, or a subgraph of an operator reads it"
        if not readers:
            return prefix + "no operator reads it"
        if (raw := next((node for node in readers if not _is_standard_op(node, QUANTIZE)), None)) is not None:
            return prefix + f"{raw.op_type} '{raw.name}' reads its floats"
        integer_ports = {self.read_port(node) for node in readers}
        integer_port = integer_ports.pop()
        if integer_ports or integer_port is None:
            return prefix + "it is not quantized per-tensor with one scale"
        made = {node.output[0] for node in readers}
        if made & (self.given | self.inner):
            return prefix + "its integers are already an output"
        for node in readers:
            self.graph.node.remove(node)
        self.rename(made, name)
        self.retype(value, integer_port)
        return ""

    def make_output_integer(self, value: Any) -> str:
        """Let an output hold the input of its DequantizeLinear; else return the reason why it stays."""
        name = value.name
        prefix = f"output '{name}' stays {_type_of(value)}: "
        if _type_of(value) != "float32":
            return prefix + "it is not a quantized float32 tensor"
        makers = find_producers(self.graph.node)
        maker = makers.get(name)
        if maker is None or not _is_standard_op(maker, DEQUANTIZE):
            return prefix + (
                f"it is the output of {maker.op_type} '{maker.name}'" if maker else ("no operator produces it")
            )
        integer_port, stored = self.read_port(maker), maker.input[0]
        if integer_port is None:
            return prefix + "it is not quantized per-tensor with one scale"
        if stored not in makers or stored in self.given | self.inner:
            return prefix + f"its integers are '{stored}', which is an input, a constant or another output"
        if name in self.inner or any(name in node.input for node in self.graph.node):
            return prefix + "operators of the graph read its floats too"
        self.graph.node.remove(maker)
        producer = makers[stored]
        producer.output[list(producer.output).index(stored)] = name
        self.rename({stored}, name)
        self.retype(value, integer_port)
        return ""

    def read_port(self, node: Any) -> IntegerPort | None:
        """Return the scale of one node of a Q/DQ pair; None if it is not one constant scale and zero point."""
        scale = self.constants.get(node.input[1])
        has_zero = len(node.input) > 2 and bool(node.input[2])
        zero = self.constants.get(node.input[2]) if has_zero else np.zeros((), np.uint8)
        if scale is None or zero is None or scale.size != 1 or zero.size != 1 or scale.dtype != np.float32:
            return None
        if any(one.name in ("output_dtype", "block_size") and one.i for one in node.attribute):
            return None
        found = Quantization(scale=float(scale.reshape(-1)[0]), zero_point=int(zero.reshape(-1)[0]))
        return IntegerPort(zero.dtype.name, found) if zero.dtype.name in STORED and found.scale > 0 else None

    def rename(self, old: set[str], new: str) -> None:
        for node in self.graph.node:
            for at, name in enumerate(node.input):
                if name in old:
                    node.input[at] = new
        for value in [value for value in self.graph.value_info if value.name in old]:
            self.graph.value_info.remove(value)

    def retype(self, value: Any, integer_port: IntegerPort) -> None:
        from onnx import helper

        value.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(integer_port.dtype))
        self.integer_ports[value.name] = integer_port

    def drop_unread(self) -> None:
        """Remove unused scales and zero points."""
        read = find_read_names(self.graph.node) | self.inner | self.given
        inputs = {value.name for value in self.graph.input}
        keep_only(self.graph.initializer, [one for one in self.graph.initializer if one.name in read | inputs])


def _is_standard_op(node: Any, op: str) -> bool:
    return bool(node.op_type == op and node.domain in OWN_DOMAINS)


def _type_of(value: Any) -> str:
    return describe_value(value).dtype
