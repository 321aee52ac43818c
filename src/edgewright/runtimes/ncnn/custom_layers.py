"""Custom operators as layers of ncnn, through its Python binding."""

from pathlib import Path
from typing import Any

import numpy as np

from edgewright.kernels.custom.description import DTYPES, CustomOperator
from edgewright.kernels.custom.folder import LayerShapes, OperatorsFile, read_operators_file
from edgewright.kernels.custom.place import HINT, find_operators_path
from edgewright.runtimes.contract import Rejected
from edgewright.runtimes.ncnn.conversion.custom import make_layer_type

FAILED, OUT_OF_MEMORY = -1, -100  # ncnn's results of a layer
failures: list[str] = []  # of kernels in this process, for the error of a session


def register_layers(ncnn: Any, net: Any, given: OperatorsFile) -> None:
    """Register the custom layers of a model. Raises Rejected if their library is missing."""
    from edgewright.kernels.custom.native import find_functions

    try:
        functions = find_functions(given)
    except ValueError as error:
        raise Rejected(str(error), HINT) from error
    for one in given.operators:
        layers = {name: layer for name, layer in given.layers.items() if layer.operator == one.key}
        creator = _make_creator(ncnn, one, functions[one.key], layers)
        net.register_custom_layer(make_layer_type(one), creator, creator.discard)


def read_layers(param: Path) -> OperatorsFile | None:
    """Return the custom operators of a model; None if it has none. Raises Rejected."""
    path = find_operators_path(param)
    try:
        given = read_operators_file(path) if path else None
    except ValueError as error:
        raise Rejected(str(error), HINT) from error
    return given if given is not None and given.layers else None


class _Creator:
    """Creates the layers of one operator, and keeps them as long as ncnn uses them."""

    def __init__(self, kind: Any) -> None:
        self._kind, self._kept = kind, list[Any]()

    def __call__(self) -> Any:
        layer = self._kind()
        self._kept.append(layer)
        return layer

    def discard(self, layer: Any) -> None:
        self._kept = [one for one in self._kept if one is not layer]


def _make_creator(ncnn: Any, operator: CustomOperator, function: Any, layers: dict[str, LayerShapes]) -> _Creator:
    kinds = [*operator.inputs.values(), *(output.type for output in operator.outputs)]
    from edgewright.kernels.custom.native import KernelCall

    calls = {
        name: KernelCall(function, one.attributes, [DTYPES[kind] for kind in kinds]) for name, one in layers.items()
    }

    def start(layer: Any) -> None:
        ncnn.Layer.__init__(layer)
        layer.one_blob_only = layer.support_inplace = False

    def forward(layer: Any, bottoms: Any, tops: Any, options: Any) -> int:
        shapes = layers[layer.name]
        inputs = [
            np.ascontiguousarray(mat.numpy()).reshape(shape) for mat, shape in zip(bottoms, shapes.inputs, strict=True)
        ]
        outputs = [np.empty(shape, np.float32) for shape in shapes.outputs]
        if calls[layer.name].run(inputs, outputs):
            failures.append(f"custom operator {operator.key} '{layer.name}': its kernel reports a failure")
            return FAILED
        for top, output, shape in zip(tops, outputs, shapes.blobs, strict=True):
            top.clone_from(ncnn.Mat(output.reshape(shape)), options.blob_allocator)
            if top.empty():
                return OUT_OF_MEMORY
        return 0

    return _Creator(type("CustomLayer", (ncnn.Layer,), {"__init__": start, "forward": forward}))
