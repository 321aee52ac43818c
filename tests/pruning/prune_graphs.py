"""Made graphs for every operator that pruning follows, and the same graph with units at zero."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgewright.formats.onnx.fold import infer
from edgewright.pruning.groups import PruningGroups

Array = NDArray[Any]
TYPES = {"f": TensorProto.FLOAT, "i": TensorProto.INT64}


class Net:
    """A graph that grows by `op`; weights are made where they are named."""

    def __init__(self, seed: int = 7, opset: int = 18) -> None:
        self._rng = np.random.default_rng(seed)
        self._nodes: list[Any] = []
        self._constants: dict[str, Array] = {}
        self.opset = opset

    def weight(self, name: str, *shape: int) -> str:
        scale = np.sqrt(max(1, int(np.prod(shape[1:]))))
        return self.put(name, (self._rng.standard_normal(shape) / scale + 0.1).astype(np.float32))

    def put(self, name: str, array: Array | list[int] | int) -> str:
        self._constants[name] = np.asarray(array)
        return name

    def op(self, kind: str, *inputs: str, name: str = "", outputs: int = 1, **attributes: Any) -> Any:
        name = name or f"{kind.lower()}{len(self._nodes)}"
        made = [f"{name}/y{place}" for place in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), made, name, **attributes))
        return made[0] if outputs == 1 else made

    def conv(
        self, x: str, name: str, inputs: int, outputs: int, size: int = 3, group: int = 1, **attributes: Any
    ) -> str:
        w = self.weight(f"{name}.weight", outputs, inputs // group, size, size)
        b = self.weight(f"{name}.bias", outputs)
        made: str = self.op("Conv", x, w, b, name=f"n_{name}", pads=[size // 2] * 4, group=group, **attributes)
        return made

    def norm(self, x: str, name: str, size: int) -> str:
        parts = [self.weight(f"{name}.{part}", size) for part in ("weight", "bias", "mean")]
        parts.append(self.put(f"{name}.var", np.abs(self._constants[parts[0]]) + 0.5))
        made: str = self.op("BatchNormalization", x, *parts, name=f"n_{name}")
        return made

    def linear(self, x: str, name: str, inputs: int, outputs: int) -> str:
        made = self.op("MatMul", x, self.weight(f"{name}.weight", inputs, outputs), name=f"n_{name}")
        added: str = self.op("Add", made, self.weight(f"{name}.bias", outputs))
        return added

    def model(self, inputs: Mapping[str, tuple[int, ...]], *outputs: str) -> Any:
        whole = {name for name in inputs if name.startswith("ids")}
        graph = helper.make_graph(
            self._nodes,
            "made",
            [
                helper.make_tensor_value_info(name, TYPES["i" if name in whole else "f"], shape)
                for name, shape in inputs.items()
            ],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in self._constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)
        found = infer(model, {}).output
        del model.graph.output[:]
        model.graph.output.extend(found)
        onnx.checker.check_model(model)
        return model


def zero_units(model: Any, groups: PruningGroups, keep: Mapping[str, NDArray[np.int64]]) -> Any:
    """The model as it is, but with zeros in all weights of the units that go."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    held = {tensor.name: tensor for tensor in made.graph.initializer}
    for group in groups.groups:
        gone = np.setdiff1d(np.arange(group.size), keep.get(group.name, np.arange(group.size)))
        for member in group.members:
            array = np.moveaxis(numpy_helper.to_array(held[member.tensor]).copy(), member.axis, 0)
            array[member.indices[gone].ravel()] = 0
            held[member.tensor].CopyFrom(
                numpy_helper.from_array(np.ascontiguousarray(np.moveaxis(array, 0, member.axis)), member.tensor)
            )
    return made


def make_inputs(model: Any, seed: int = 3) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.input:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        whole = value.type.tensor_type.elem_type == TensorProto.INT64
        feeds[value.name] = rng.integers(0, 5, shape) if whole else rng.standard_normal(shape).astype(np.float32)
    return feeds
