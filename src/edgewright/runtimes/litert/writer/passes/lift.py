"""Stage 3: a height of 1 for one-dimensional convolutions and pools, which LiteRT has only over two axes.

Values keep four axes from one window to the next, through the operators that do not depend on the number of axes.
So no reshape stands between a quantized operator and its pairs, and the chain is one partition of XNNPACK.
"""

from typing import Any

import numpy as np

from edgewright.runtimes.litert.writer.graph import Graph, Node, Shape

WINDOWS = {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"}
# Attributes with a number for each spatial axis, and the number of the new axis.
PER_AXIS = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_padding": 0, "output_shape": 1}
# Operators that follow a lifted value: of one value, of several that broadcast, and along an axis.
UNARY = {"Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "Elu", "Selu", "Celu", "Gelu", "Erf",
         "Swish", "Mish", "Softplus", "Clip", "Exp", "Log", "Sqrt", "Abs", "Neg", "Reciprocal", "Identity",
         "QuantizeLinear", "DequantizeLinear", "BatchNormalization", "InstanceNormalization",
         "GlobalAveragePool", "GlobalMaxPool"}  # fmt: skip
BROADCAST = {"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "PRelu"}
ALONG = {"Concat", "Split"}
# Operators that depend on the order of the elements alone.
RESHAPES = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}


def lift_flat_windows(graph: Graph) -> None:
    """Replace one-dimensional windows, and what follows them, by operators on values [N, C, 1, W]."""
    if any(_is_flat_window(graph, node) for node in graph.nodes):
        _Lifting(graph).run()


def _is_flat_window(graph: Graph, node: Node) -> bool:
    return node.op in WINDOWS and not node.domain and len(graph.shapes[node.inputs[0]]) == 3


class _Lifting:
    """The values of three axes that have a form of four, while the nodes are visited in order."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[Node] = []
        self.producers = graph.producers()
        self.wide: dict[str, str] = {}
        # Lifted values whose form of three axes does not exist yet, with the node that makes the wide one.
        self.pending: dict[str, Node] = {}

    def run(self) -> None:
        for node in self.graph.nodes:
            if _is_flat_window(self.graph, node):
                self._lift(node, range(2 if "Conv" in node.op else 1), _lift_window(node.attributes))
            elif self._follows(node):
                data = range(len(node.inputs)) if node.op in {*BROADCAST, "Concat"} else range(1)
                self._lift(node, data, _lift_axis(node))
            else:
                if node.op in RESHAPES and not node.domain:
                    node.inputs[0] = self.wide.get(node.inputs[0], node.inputs[0])
                self._narrow(node.inputs, node)
                self.nodes.append(node)
        self._narrow(self.graph.outputs, None)
        self.graph.nodes = self.nodes

    def _follows(self, node: Node) -> bool:
        """Return whether a node reads a lifted value, and computes the same with a height of 1."""
        if node.domain or node.op not in {*UNARY, *BROADCAST, *ALONG} or not any(n in self.wide for n in node.inputs):
            return False
        if any(len(self.graph.shapes[name]) != 3 for name in node.outputs if name):
            return False
        if node.op in {"QuantizeLinear", "DequantizeLinear"}:
            return self._has_one_scale(node)
        data = node.inputs if node.op in {*BROADCAST, "Concat"} else node.inputs[:1]
        return all(name in self.graph.constants or len(self.graph.shapes[name]) == 3 for name in data)

    def _has_one_scale(self, node: Node) -> bool:
        return int(np.prod(self.graph.shapes[node.inputs[1]])) == 1 and not node.attributes.get("block_size", 0)

    def _lift(self, node: Node, data: range, attributes: dict[str, Any]) -> None:
        inputs = list(node.inputs)
        for at in data:
            inputs[at] = self._widen(inputs[at], node)
        outputs = list(node.outputs)
        lifted = Node(node.op, inputs, outputs, attributes, node.sources, "", node.location)
        for at, name in enumerate(node.outputs):
            if name and len(self.graph.shapes[name]) == 3:
                outputs[at] = self._add_wide(name)
                self.pending[name] = lifted
        self.nodes.append(lifted)

    def _add_wide(self, name: str) -> str:
        made = self.graph.add_value(f"{name}/2d", _insert_height(self.graph.shapes[name]), self.graph.dtypes[name])
        self.wide[name] = made
        return made

    def _widen(self, name: str, reader: Node) -> str:
        """Return a value [a, b, c] as [a, b, 1, c]; constants of fewer axes broadcast as they are."""
        if name in self.wide:
            return self.wide[name]
        graph, producer = self.graph, self.producers.get(name)
        if name in graph.constants:
            data = graph.constants[name]
            return graph.add_constant(name, data.reshape(_insert_height(data.shape))) if data.ndim > 1 else name
        made = self._add_wide(name)
        if producer is not None and producer.op == "DequantizeLinear" and producer.inputs[0] in graph.constants:
            stored = graph.constants[producer.inputs[0]]
            if not producer.attributes.get("block_size", 0) and stored.ndim == 3:
                wide = graph.add_constant(producer.inputs[0], stored.reshape(_insert_height(stored.shape)))
                axis = int(producer.attributes.get("axis", 1)) % 3
                attributes = producer.attributes | {"axis": axis + (axis == 2)}
                inputs = [wide, *producer.inputs[1:]]
                self.nodes.append(Node(producer.op, inputs, [made], attributes, producer.sources))
                return made
        self._reshape("Unsqueeze", name, made, producer, reader)
        return made

    def _narrow(self, names: list[str], reader: Node | None) -> None:
        for name in names:
            if (lifted := self.pending.pop(name, None)) is not None:
                self._reshape("Squeeze", self.wide[name], name, lifted, reader or lifted)

    def _reshape(self, op: str, source: str, target: str, producer: Node | None, reader: Node) -> None:
        """Add a reshape, of the stored integers if the value is a dequantized one: with pairs on both sides."""
        graph, sources = self.graph, reader.sources
        if producer is None or producer.op != "DequantizeLinear" or not self._has_one_scale(producer):
            self.nodes.append(Node(op, [source], [target], {}, sources))
            return
        shape, dtype = graph.shapes[target], graph.dtypes[producer.inputs[0]]
        real = graph.add_value(f"{target}/reshaped", shape, graph.dtypes[target])
        stored = graph.add_value(f"{target}/stored", shape, dtype)
        scales = producer.inputs[1:]
        self.nodes += [
            Node(op, [source], [real], {}, sources),
            Node("QuantizeLinear", [real, *scales], [stored], {}, sources),
            Node("DequantizeLinear", [stored, *scales], [target], {}, sources),
        ]


def _insert_height(shape: Shape) -> Shape:
    return (*shape[:-1], 1, shape[-1])


def _lift_window(attributes: dict[str, Any]) -> dict[str, Any]:
    made = dict(attributes)
    for key, filler in PER_AXIS.items():
        if values := made.get(key):
            made[key] = [filler, *values]
    if pads := made.get("pads"):
        low, high = pads
        made["pads"] = [0, low, 0, high]
    return made


def _lift_axis(node: Node) -> dict[str, Any]:
    if node.op not in ALONG:
        return dict(node.attributes)
    axis = int(node.attributes.get("axis", 0)) % 3
    return node.attributes | {"axis": axis + (axis == 2)}
