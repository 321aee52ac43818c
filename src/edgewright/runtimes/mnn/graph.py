"""The operators of an MNN file, read from its FlatBuffer without MNN.

Slots and numbers are those of `schema/default/MNN.fbs` and `Type.fbs` of alibaba/MNN, which only grow at their
ends. Weights are not touched.
"""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, Self

from msgspec import Struct

from edgewright.formats.tflite.flatbuffer import FlatbufferReader, MalformedFlatbuffer

INPUT, CUSTOM = 34, (256, 512)  # members of OpType: Input; Plugin and Extra, which need code from elsewhere
NET_OPS, NET_OUTPUTS, NET_TENSORS, NET_SUBGRAPHS, NET_UUID = 3, 4, 7, 10, 11
OP_INPUTS, OP_MAIN, OP_NAME, OP_OUTPUTS, OP_TYPE = 0, 2, 3, 4, 5
DIMS, DTYPE = 0, 1
FLOAT = 1
# Members of DataType by their type in a session: MNN has neither 64-bit numbers nor booleans.
DTYPES = {
    **dict.fromkeys((1, 2, 19), "float32"),
    **dict.fromkeys((3, 5, 9, 10), "int32"),
    4: "uint8",
    6: "int8",
}


class MnnFileUnreadable(Exception):
    """Raised for bytes that are not an MNN model."""


class MnnOperator(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One operator of the file; `kind` is its number in OpType, `inputs` and `outputs` are tensor names."""

    name: str
    kind: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class MnnInput(NamedTuple):
    """An input as the file declares it: a size of -1 is dynamic, `dtype` is the type in a session."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class MnnModel(NamedTuple):
    """The content of a file; `subgraphs` counts the bodies of its branches and loops."""

    operators: tuple[MnnOperator, ...]
    inputs: tuple[MnnInput, ...]
    outputs: tuple[str, ...]
    subgraphs: int


class FlatbufferTable(NamedTuple):
    """A FlatBuffer table at its position in a file."""

    reader: FlatbufferReader
    at: int

    @classmethod
    def root(cls, data: bytes) -> Self:
        reader = FlatbufferReader(data)
        return cls(reader, reader.follow(0))

    def find(self, slot: int) -> int:
        """Return the position of the field; 0 if it has its default."""
        return self.reader.field(self.at, slot)

    def number(self, slot: int, default: int = 0) -> int:
        return self.reader.value(self.at, slot, "i", default)

    def text(self, slot: int) -> str:
        return self.reader.text(self.at, slot)

    def table(self, slot: int) -> "FlatbufferTable | None":
        place = self.find(slot)
        return FlatbufferTable(self.reader, self.reader.follow(place)) if place else None

    def numbers(self, slot: int) -> tuple[int, ...]:
        return self.reader.numbers(self.at, slot, "i")

    def texts(self, slot: int) -> tuple[str, ...]:
        return self.reader.texts(self.at, slot)

    def tables(self, slot: int) -> "list[FlatbufferTable]":
        return [FlatbufferTable(self.reader, at) for at in self.reader.tables(self.at, slot)]


def read_mnn_model(path: Path) -> MnnModel:
    """Return the model in a file. Raises MnnFileUnreadable or OSError."""
    data = path.read_bytes()
    try:
        return _describe_net(FlatbufferTable.root(data))
    except (MalformedFlatbuffer, IndexError, MemoryError) as error:
        raise MnnFileUnreadable(f"{path.name} is not an MNN model") from error


def set_stable_uuid(data: bytes) -> bytes:
    """Return the file with a uuid computed from its content: the converter generates a new one each time."""
    net = FlatbufferTable.root(data)
    begin, length = net.reader.vector(net.at, NET_UUID, 1)
    if not length:
        return data
    blank = data[:begin] + b"0" * length + data[begin + length :]
    digest = sha256(blank).hexdigest().encode()
    return data[:begin] + (digest * (length // len(digest) + 1))[:length] + data[begin + length :]


def _describe_net(net: FlatbufferTable) -> MnnModel:
    tensors = net.texts(NET_TENSORS)
    tables = net.tables(NET_OPS)
    operators = tuple(_describe_operator(table, tensors) for table in tables)
    entries = [_read_entry(table) for table in tables if table.number(OP_TYPE) == INPUT]
    return MnnModel(operators, tuple(entries), net.texts(NET_OUTPUTS), len(net.tables(NET_SUBGRAPHS)))


def _describe_operator(table: FlatbufferTable, tensors: Sequence[str]) -> MnnOperator:
    return MnnOperator(
        name=table.text(OP_NAME),
        kind=table.number(OP_TYPE),
        inputs=tuple(tensors[i] for i in table.numbers(OP_INPUTS) if i >= 0),
        outputs=tuple(tensors[i] for i in table.numbers(OP_OUTPUTS) if i >= 0),
    )


def _read_entry(table: FlatbufferTable) -> MnnInput:
    main = table.table(OP_MAIN)
    if main is None:
        return MnnInput(table.text(OP_NAME), (), DTYPES[FLOAT])
    return MnnInput(table.text(OP_NAME), main.numbers(DIMS), DTYPES.get(main.number(DTYPE, FLOAT), "unknown"))
