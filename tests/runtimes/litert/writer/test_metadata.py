"""Labels and normalization in the file."""

import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edgewright.errors import InputError
from edgewright.runtimes.litert.writer import TaskMetadata, convert_onnx
from tests.models.onnx_files import write_conv_net

TASK = TaskMetadata(labels=["zero", "one", "two", "three", "four"], mean=[1.0, 2.0, 3.0], std=[0.5, 0.25, 0.125])


def read_metadata(data: bytes) -> bytes:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    model: Any = schema.ModelT.InitFromPackedBuf(data)
    (entry,) = model.metadata
    assert entry.name == b"TFLITE_METADATA"
    return bytes(model.buffers[entry.buffer].data)


class Table:
    """A flatbuffer's table, read by the numbers of its fields."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def field(self, number: int) -> int:
        """Where a field lies; 0 where it is absent."""
        table = self.at - struct.unpack_from("<i", self.data, self.at)[0]
        size = struct.unpack_from("<H", self.data, table)[0]
        offset = struct.unpack_from("<H", self.data, table + 4 + 2 * number)[0] if 4 + 2 * number < size else 0
        return self.at + offset if offset else 0

    def follow(self, number: int) -> int:
        at = self.field(number)
        return at + int(struct.unpack_from("<I", self.data, at)[0])

    def table(self, number: int) -> "Table":
        return Table(self.data, self.follow(number))

    def tables(self, number: int) -> list["Table"]:
        at = self.follow(number)
        places = range(at + 4, at + 4 + 4 * struct.unpack_from("<I", self.data, at)[0], 4)
        return [Table(self.data, place + struct.unpack_from("<I", self.data, place)[0]) for place in places]

    def floats(self, number: int) -> tuple[float, ...]:
        at = self.follow(number)
        return struct.unpack_from(f"<{struct.unpack_from('<I', self.data, at)[0]}f", self.data, at + 4)

    def text(self, number: int) -> str:
        at = self.follow(number)
        return self.data[at + 4 : at + 4 + struct.unpack_from("<I", self.data, at)[0]].decode()


def test_normalization_and_labels_are_found_where_the_schema_says(tmp_path: Path) -> None:
    converted = convert_onnx(write_conv_net(tmp_path / "m.onnx"), task=TASK)
    packed = read_metadata(converted.data)
    assert packed[4:8] == b"M001"
    root = Table(packed, struct.unpack_from("<I", packed)[0])
    assert root.text(7) == "1.0.0"
    (graph,) = root.tables(3)
    (image,), (scores,) = graph.tables(2), graph.tables(3)
    assert (image.text(0), scores.text(0)) == ("x", "y")
    assert packed[image.table(3).field(0)] == 2
    (unit,) = image.tables(4)
    assert packed[unit.field(0)] == 1
    assert unit.table(1).floats(0) == (1.0, 2.0, 3.0)
    assert unit.table(1).floats(1) == (0.5, 0.25, 0.125)
    (file,) = scores.tables(6)
    assert file.text(0) == "labels.txt"
    assert packed[file.field(2)] == 2


def test_the_labels_are_an_archive_behind_a_file_that_still_runs(tmp_path: Path) -> None:
    source = write_conv_net(tmp_path / "m.onnx")
    converted = convert_onnx(source, task=TASK)  # checked: LiteRT and ONNX Runtime agree
    (tmp_path / "m.tflite").write_bytes(converted.data)
    with zipfile.ZipFile(tmp_path / "m.tflite") as archive:
        assert archive.read("labels.txt").decode().splitlines() == list(TASK.labels)
    assert convert_onnx(source, task=TASK, check="none").data == converted.data


@pytest.mark.parametrize(
    "task", [TaskMetadata(labels=["a"]), TaskMetadata(mean=[1.0]),
             TaskMetadata(mean=[1.0, 2.0], std=[1.0, 1.0]), TaskMetadata(mean=[1.0], std=[0.0]),
             TaskMetadata(labels=["a", "b", "c\nd", "e", "f"])]
)  # fmt: skip
def test_what_does_not_fit_is_named(tmp_path: Path, task: TaskMetadata) -> None:
    with pytest.raises(InputError):
        convert_onnx(write_conv_net(tmp_path / "m.onnx"), task=task)
