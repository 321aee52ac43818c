"""An ONNX graph that is changed in memory, while its large weights stay in their files."""

from collections.abc import Iterator, Mapping, MutableMapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, Self

from edgewright.errors import ModelUnreadable
from edgewright.formats.neighbors import select_needed
from edgewright.formats.onnx.constants import list_inputs_without_constants, make_tensor, map_array, read_array
from edgewright.formats.onnx.external import EXTERNAL, check_external, load_tensor
from edgewright.formats.onnx.reader import map_model, open_model
from edgewright.formats.onnx.weightless import StrippedModel
from edgewright.schema.arrays import Array

DATA_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")


class NodeReplacement(NamedTuple):
    """The nodes and constants that replace one node."""

    nodes: list[Any]
    constants: Mapping[str, Array] = {}


class WeightFile(NamedTuple):
    """A file with the data of large initializers; `is_mapped` keeps arrays of it instead of reading them each time."""

    path: Path
    stripped: StrippedModel
    is_mapped: bool

    def map(self, tensor: Any) -> Array:
        return map_array(tensor, self.path, self.stripped)

    def load(self, tensor: Any) -> None:
        """Read the data into a tensor that has none."""
        if tensor.data_location == EXTERNAL:
            load_tensor(self.path, tensor)
            tensor.data_location = 0  # as onnx does
        elif tensor.name in self.stripped.places and not _has_data(tensor):
            begin, end = self.stripped.places[tensor.name]
            with self.path.open("rb") as file:
                file.seek(begin)
                tensor.raw_data = file.read(end - begin)
            if len(tensor.raw_data) < end - begin:
                raise ModelUnreadable(f"{self.path} cannot be read as ONNX", "it became shorter while it was read")


class Initializers(MutableMapping[str, Array]):
    """The initializers of a message as arrays, which are read on access; others may be added.

    Args:
        graph: whose tensors may lack their data.
        source: where it is: a file, or those of the message from which this one was made.
    """

    def __init__(self, graph: Any, source: "WeightFile | Initializers | None" = None) -> None:
        self._tensors: dict[str, Any] = {tensor.name: tensor for tensor in graph.initializer}
        self._source = source
        self._arrays: dict[str, Array] = {}
        self._changed: set[str] = set()

    def __getitem__(self, name: str) -> Array:
        if name in self._arrays:
            return self._arrays[name]
        tensor, source = self._tensors[name], self._source
        if isinstance(source, WeightFile) and not source.is_mapped:
            return map_array(self._complete(tensor), None)
        if isinstance(source, WeightFile):
            array = source.map(tensor)
        else:
            array = source[name] if source is not None and not _has_data(tensor) else read_array(tensor)
        self._arrays[name] = array
        return array

    def __setitem__(self, name: str, array: Array) -> None:
        self._tensors.setdefault(name, None)
        self._arrays[name] = array
        self._changed.add(name)

    def __delitem__(self, name: str) -> None:
        del self._tensors[name]
        self._arrays.pop(name, None)
        self._changed.discard(name)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def put(self, tensor: Any) -> None:
        """Add a tensor or replace one; the form of its data is kept."""
        self._tensors[tensor.name] = tensor
        self._arrays.pop(tensor.name, None)
        self._changed.discard(tensor.name)

    def describe(self, name: str) -> Any:
        """Return a tensor with name, type and sizes, without data."""
        from onnx import TensorProto, helper

        if name not in self._changed:
            tensor = self._tensors[name]
            return TensorProto(name=name, data_type=tensor.data_type, dims=tensor.dims)
        array = self._arrays[name]
        return TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape)

    def write(self, name: str) -> Any:
        """Return the tensor with its data: as it was given, or as bytes."""
        if name in self._changed:
            return make_tensor(name, self._arrays[name])
        return self._complete(self._tensors[name])

    def _complete(self, tensor: Any) -> Any:
        """Return the tensor with its data, a copy if it had none."""
        if isinstance(self._source, Initializers) and not _has_data(tensor):
            return self._source.write(tensor.name) if tensor.name in self._source else tensor
        if isinstance(self._source, WeightFile):
            tensor = _copy(tensor)
            self._source.load(tensor)
        return tensor


class EditableGraph:
    """Nodes and constants of a model, which may be replaced, added and removed.

    Attributes:
        model: the message with all else; its nodes and initializers are those of the time when it was read.
        nodes: in the order of the message.
        constants: the initializers by name; arrays in a file are read-only.
        inputs, outputs: names of the tensors, without constants.
    """

    def __init__(self, model: Any, source: WeightFile | Initializers | None = None) -> None:
        self.model = model
        self.nodes: list[Any] = list(model.graph.node)
        self.constants = Initializers(model.graph, source)
        self.inputs: list[str] = [value.name for value in list_inputs_without_constants(model.graph)]
        self.outputs: list[str] = [value.name for value in model.graph.output]

    @classmethod
    def open(cls, path: Path, *, is_mapped: bool = True) -> Self:
        """Return the graph of a file whose large weights are read where they are used.

        Args:
            is_mapped: whether the file is mapped, only in a process that may end if another program shortens the file.

        Raises:
            ModelUnreadable, ExternalDataMissing: the file or its weight files cannot be read.
        """
        if is_mapped:
            model, stripped = map_model(path)
        else:
            with open_model(path) as (model, stripped):
                pass
        check_external(path, model)
        return cls(model, WeightFile(path, stripped, is_mapped))

    @classmethod
    def of(cls, model: Any) -> Self:
        """Return the graph of a message that has its weights; a graph itself stays."""
        return model if isinstance(model, cls) else cls(model)

    def replace_model(self, model: Any) -> Self:
        """Return the graph of a message that was made from `to_message`, and may lack data of the same constants."""
        return type(self)(model, self.constants)

    def drop_unused(self) -> None:
        """Remove nodes that no output needs."""
        self.nodes = select_needed(self.nodes, self.outputs)

    def to_message(self, most: int | None = None) -> Any:
        """Return a copy of the whole as a message.

        Args:
            most: constants with more elements have no data in it, only sizes; `fill` adds it.
        """
        from onnx import ModelProto

        made = ModelProto()
        for field, value in self.model.ListFields():
            if field.name != "graph":
                _copy_field(made, field.name, value)
        for field, value in self.model.graph.ListFields():
            if field.name not in ("node", "initializer"):
                _copy_field(made.graph, field.name, value)
        made.graph.node.extend(self.nodes)
        for name in self.constants:
            described = self.constants.describe(name)
            is_whole = most is None or _count_elements(described) <= most
            made.graph.initializer.append(self.constants.write(name) if is_whole else described)
        return made

    def fill(self, model: Any) -> None:
        """Add the data of this graph's constants to the initializers of a message that have none."""
        for tensor in model.graph.initializer:
            if tensor.name in self.constants and not _has_data(tensor):
                tensor.CopyFrom(self.constants.write(tensor.name))


def _copy_field(made: Any, name: str, value: Any) -> None:
    if isinstance(value, str | int):
        setattr(made, name, value)
    else:
        getattr(made, name).extend(value)


def _copy(tensor: Any) -> Any:
    copy = type(tensor)()
    copy.CopyFrom(tensor)
    return copy


def _count_elements(tensor: Any) -> int:
    return prod(tensor.dims)


def _has_data(tensor: Any) -> bool:
    return tensor.HasField("raw_data") or any(len(getattr(tensor, field)) for field in DATA_FIELDS)
