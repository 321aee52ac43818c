"""Integer I/O: the outermost QUANTIZE and DEQUANTIZE are removed if that changes no value inside.

Runs after `quantize`, when the readers of inputs and producers of outputs are int8 kernels already.
"""

from dataclasses import dataclass, field

import numpy as np

from edgewright.runtimes.litert.writer.graph import Graph, Node, Scales

STORED = ("int8", "uint8", "int16")


@dataclass
class IntegerIo:
    """The integer inputs and outputs with their scales, and why others are not integers."""

    scales: dict[str, Scales] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def make_io_integer(graph: Graph) -> IntegerIo:
    integer_io = IntegerIo()
    for names, take, verb in (
        (graph.inputs, _make_input_integer, "input"),
        (graph.outputs, _make_output_integer, "output"),
    ):
        for name in names:
            dtype = graph.dtypes[name].name
            why = (
                take(graph, name)
                if dtype == "float32"
                else (f"it is not a float32 tensor that {HAPPENS[verb]} quantized")
            )
            if why:
                integer_io.notes.append(f"{verb} '{name}' stays {dtype}: {why}")
            else:
                integer_io.scales[name] = graph.scales[name]
    return integer_io


HAPPENS = {"input": "could be", "output": "was"}


def _make_input_integer(graph: Graph, name: str) -> str:
    """Let an input hold the output of its QuantizeLinear; else return the reason why it stays."""
    readers = graph.consumers().get(name, [])
    if name in graph.outputs:
        return "it is also an output"
    if not readers:
        return "no operator reads it"
    if (raw := next((node for node in readers if not _is(node, "QuantizeLinear")), None)) is not None:
        return f"{raw.op} '{raw.name}' reads its floats"
    made = [node.outputs[0] for node in readers]
    if why := next(filter(None, (_find_mismatch(graph, made[0], other) for other in made)), ""):
        return why
    if any(other in graph.outputs for other in made):
        return "its integers are already an output"
    graph.nodes = [node for node in graph.nodes if not any(node is reader for reader in readers)]
    _become(graph, name, made[0])
    for node in graph.nodes:
        node.inputs = [name if other in made else other for other in node.inputs]
    return ""


def _make_output_integer(graph: Graph, name: str) -> str:
    """Let an output hold the input of its DequantizeLinear; else return the reason why it stays."""
    producers, readers = graph.producers(), graph.consumers()
    producer = producers.get(name)
    if producer is None or not _is(producer, "DequantizeLinear"):
        return f"it is the output of {producer.op} '{producer.name}'" if producer else ("no operator produces it")
    stored = producer.inputs[0]
    if why := _find_mismatch(graph, stored, stored):
        return why
    if stored not in producers or stored in graph.outputs:
        return f"its integers are '{stored}', which is an input, a constant or another output"
    if readers.get(name):
        return "operators of the graph read its floats too"
    graph.nodes = [node for node in graph.nodes if node is not producer]
    _become(graph, name, stored)
    for node in graph.nodes:
        node.inputs = [name if other == stored else other for other in node.inputs]
        node.outputs = [name if other == stored else other for other in node.outputs]
    return ""


def _is(node: Node, op: str) -> bool:
    return node.op == op and not node.domain


def _find_mismatch(graph: Graph, one: str, other: str) -> str:
    """Return why the two are not equal integers with one scale, as LiteRT's tensors require; empty if they
    are.
    """
    mine, its, dtype = graph.scales.get(one), graph.scales.get(other), graph.dtypes[one]
    if mine is None or its is None or dtype != graph.dtypes[other] or not mine.is_same(its):
        return "it is not quantized per-tensor with one scale"
    if dtype.name not in STORED:
        return f"LiteRT does not quantize to {dtype.name}"
    return "LiteRT's 16-bit quantization has no zero point" if dtype == np.int16 and np.any(mine.zero_point) else ""


def _become(graph: Graph, name: str, stored: str) -> None:
    graph.dtypes[name], graph.scales[name] = graph.dtypes[stored], graph.scales[stored]
