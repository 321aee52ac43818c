"""Custom operators of a model for ncnn: pnnx converts the graph without their nodes, which become layers afterwards.

pnnx cannot load a graph with an unknown operator. What such a node reads becomes an output of the graph, and what it
computes an input; the rows of the layers are put between them in pnnx's result.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from edgewright.formats.onnx.attributes import read_attributes
from edgewright.kernels.custom.description import CustomOperator
from edgewright.kernels.custom.folder import LayerShapes
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.ncnn.naming import make_plain_name
from edgewright.runtimes.ncnn.param import ParamRow, make_input_params, make_shape_hint
from edgewright.schema.arrays import Array

LARGEST_RANK = 4


class CustomNodes(NamedTuple):
    """The nodes of custom operators in a model.

    Attributes:
        nodes: in execution order.
        operators: by the names of the nodes.
        constants: what they read that does not depend on the model's inputs.
        names: of blobs in ncnn, by tensor; others have the plain name of their tensor.
    """

    nodes: Sequence[Any]
    operators: Mapping[str, CustomOperator]
    constants: Mapping[str, Array]
    names: Mapping[str, str] = MappingProxyType({})

    def name_blob(self, tensor: str) -> str:
        """Return the name of a tensor's blob."""
        return self.names.get(tensor) or make_plain_name(tensor)


class ClosedRows(NamedTuple):
    """Layers with those of custom operators; `weights` precede the bytes that pnnx wrote."""

    rows: list[ParamRow]
    layers: dict[str, LayerShapes]
    weights: bytes


def find_custom_nodes(model: Any, operators: Sequence[CustomOperator], values: Mapping[str, Array]) -> CustomNodes:
    """Return the nodes of these operators. Raises NotConvertible for one that ncnn's layers cannot compute."""
    from onnx import numpy_helper

    known = {one.key: one for one in operators}
    found = {node.name: known[key] for node in model.graph.node if (key := f"{node.domain}:{node.op_type}") in known}
    nodes = [node for node in model.graph.node if node.name in found]
    for node in nodes:
        _check_node(node, found[node.name], values)
    if not nodes:
        return CustomNodes((), {}, {})
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    depends = {value.name for value in model.graph.input} - constants.keys()
    for node in model.graph.node:
        if depends.intersection(node.input) or node.name in found:
            depends.update(node.output)
    read = {name for node in nodes for name in node.input if name not in depends}
    every = {**values, **constants}
    return CustomNodes(nodes, found, {name: every[name] for name in sorted(read)})


def _check_node(node: Any, operator: CustomOperator, values: Mapping[str, Array]) -> None:
    types = {*operator.inputs.values(), *(output.type for output in operator.outputs)}
    title = f"{operator.key} '{node.name}'"
    if types != {"float32"}:
        raise NotConvertible(f"{title} has {', '.join(sorted(types))}: custom layers of ncnn have float32 only")
    if len(node.input) != len(operator.inputs) or len(node.output) != len(operator.outputs):
        raise NotConvertible(f"{title} has other numbers of inputs and outputs than its description")
    large = next((name for name in node.output if values[name].ndim > LARGEST_RANK + 1), None)
    if large is not None:
        raise NotConvertible(f"{title}: '{large}' has more axes than a blob of ncnn")


def open_graph(model: Any, custom: CustomNodes, values: Mapping[str, Array]) -> Any:
    """Return the model without these nodes: their inputs become outputs, their outputs inputs."""
    from onnx import helper

    opened = deepcopy(model)
    graph = opened.graph
    kept = [node for node in graph.node if node.name not in custom.operators]
    del graph.node[:]
    graph.node.extend(kept)
    made = {name for node in kept for name in node.output}
    read = {name for node in kept for name in node.input}
    given = {name for node in custom.nodes for name in node.output}
    wanted = [name for node in custom.nodes for name in node.input if name in made and name not in custom.constants]
    outputs = [value.name for value in graph.output]
    inputs = [value.name for value in graph.input if value.name in read]
    _set_values(graph.output, [name for name in outputs if name in made] + wanted, values, helper)
    _set_values(graph.input, inputs + [name for name in sorted(given) if name in read], values, helper)
    del graph.value_info[:]
    return opened


def _set_values(field: Any, names: Sequence[str], values: Mapping[str, Array], helper: Any) -> None:
    known = {value.name: deepcopy(value) for value in field}
    del field[:]
    for name in dict.fromkeys(names):
        if name in known:
            field.append(known[name])
        else:
            kind = helper.np_dtype_to_tensor_dtype(values[name].dtype)
            field.append(helper.make_tensor_value_info(name, kind, values[name].shape))


def get_blob_shape(value: Array) -> tuple[int, ...]:
    """Return the shape of a custom layer's output that pnnx does not know: without a batch of one."""
    return value.shape[1:] if value.ndim > 1 and value.shape[0] == 1 else np.atleast_1d(value).shape


def close_rows(
    rows: Sequence[ParamRow],
    custom: CustomNodes,
    values: Mapping[str, Array],
    blobs: Mapping[str, tuple[int, ...]],
    outputs: Collection[str],
) -> ClosedRows:
    """Return the rows with the layers of custom nodes.

    Args:
        rows: pnnx's, with blobs named after tensors.
        values: of all tensors.
        blobs: shapes of the custom outputs that pnnx's rows read.
        outputs: of the model.
    """
    made = {name for node in custom.nodes for name in node.output}
    plain = {custom.name_blob(name) for name in made}
    layers, added = {}, []
    for node in custom.nodes:
        operator = custom.operators[node.name]
        name = make_plain_name(node.name)
        shapes = [blobs.get(top) or get_blob_shape(values[top]) for top in node.output]
        given = {key: value for key, value in read_attributes(node).items() if key in operator.attributes}
        layers[name] = LayerShapes(
            operator=operator.key,
            inputs=tuple(_find_value(one, custom, values).shape for one in node.input),
            outputs=tuple(values[one].shape for one in node.output),
            blobs=tuple(shapes),
            attributes={key: float(value) for key, value in (operator.attributes | given).items()},
        )
        bottoms, tops = (tuple(map(custom.name_blob, names)) for names in (node.input, node.output))
        added.append(ParamRow(make_layer_type(operator), name, bottoms, tops, make_shape_hint(shapes)))
    memory = [_make_memory(custom.name_blob(name), array) for name, array in custom.constants.items()]
    kept = [row for row in rows if not (row.op == "Input" and row.tops[0] in plain)]
    known = {row.tops[0] for row in memory}
    every = _split_read_twice([*memory, *_order(kept, added, known)], {custom.name_blob(name) for name in outputs})
    weights = b"".join(np.ascontiguousarray(array, "<f4").tobytes() for array in custom.constants.values())
    return ClosedRows(every, layers, weights)


def make_layer_type(operator: CustomOperator) -> str:
    """Return the type of a layer, which no layer of ncnn has."""
    return make_plain_name(f"{operator.domain}.{operator.name}")


def _find_value(name: str, custom: CustomNodes, values: Mapping[str, Array]) -> Array:
    return custom.constants[name] if name in custom.constants else values[name]


def _make_memory(name: str, array: Array) -> ParamRow:
    if array.ndim > LARGEST_RANK:
        raise NotConvertible(f"constant '{name}' has {array.ndim} axes, but ncnn supports at most {LARGEST_RANK}")
    return ParamRow("MemoryData", f"constant_{name}", (), (name,), make_input_params(np.atleast_1d(array).shape))


def _order(kept: Sequence[ParamRow], added: Sequence[ParamRow], known: set[str]) -> list[ParamRow]:
    """Return all rows, each after those that it reads, and pnnx's in their order: so are their weights."""
    waiting, done, ordered = list(added), set(known), list[ParamRow]()
    for row in kept:
        while not done.issuperset(row.bottoms):
            ready = next((one for one in waiting if done.issuperset(one.bottoms)), None)
            if ready is None:
                raise NotConvertible(f"pnnx orders the layers so that '{row.name}' precedes what it reads")
            waiting.remove(ready)
            ordered.append(ready)
            done.update(ready.tops)
        ordered.append(row)
        done.update(row.tops)
    return [*ordered, *waiting]


def _split_read_twice(rows: Sequence[ParamRow], outputs: Collection[str]) -> list[ParamRow]:
    """Return the rows with a Split, which ncnn requires, for each blob that several layers read.

    An output of the model that a layer reads is a blob of the Split that none reads.
    """
    readers = Counter(blob for row in rows for blob in row.bottoms)
    copies = {
        blob: [f"{blob}_copy{i}" for i in range(count)]
        for blob, count in readers.items()
        if count + (blob in outputs) > 1
    }
    made = {blob: f"{blob}_made" if blob in outputs else blob for blob in copies}
    split: list[ParamRow] = []
    for row in rows:
        bottoms = tuple(copies[blob].pop(0) if blob in copies else blob for blob in row.bottoms)
        splits = [
            ParamRow("Split", f"split_{top}", (made[top],), (*copies[top], *([top] if top in outputs else [])), {})
            for top in row.tops
            if top in copies
        ]
        split += [row._replace(bottoms=bottoms, tops=tuple(made.get(top, top) for top in row.tops)), *splits]
    return split
