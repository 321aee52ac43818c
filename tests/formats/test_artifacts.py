"""The record beside an artifact's files."""

from pathlib import Path

import msgspec
import pytest

from edgewright.errors import ModelUnreadable
from edgewright.formats.artifacts import find_record, list_records, record_path
from edgewright.formats.files import read_graph, read_model
from edgewright.schema.artifact import Artifact
from edgewright.schema.model import Quantization
from tests.models.artifact_records import put_artifact


def change(main: Path, **fields: object) -> None:
    record = msgspec.json.decode(record_path(main).read_bytes(), type=Artifact)
    record_path(main).write_bytes(msgspec.json.encode(msgspec.structs.replace(record, **fields)))


def test_a_model_by_its_record(tmp_path: Path) -> None:
    model = read_model(put_artifact(tmp_path))
    assert (model.format, model.precision, model.name) == ("ncnn", "fp32", "m-ncnn-fp32.param")
    assert model.data_files == ("m-ncnn-fp32.bin",)
    assert [(spec.name, spec.shape) for spec in model.signature.inputs] == [("in0", (1, 4, 5, 3))]
    assert read_graph(Path(model.path), model.format) == ()


def test_the_hash_is_that_of_all_files(tmp_path: Path) -> None:
    first, second = put_artifact(tmp_path / "a"), put_artifact(tmp_path / "b", data=b"7767517\nother")
    assert read_model(first).sha256 != read_model(second).sha256


def test_a_changed_file_is_rejected(tmp_path: Path) -> None:
    main = put_artifact(tmp_path)
    main.with_suffix(".bin").write_bytes(b"other")
    with pytest.raises(ModelUnreadable, match="does not match the record"):
        read_model(main)


def test_a_missing_file_is_rejected(tmp_path: Path) -> None:
    main = put_artifact(tmp_path)
    main.with_suffix(".bin").unlink()
    with pytest.raises(ModelUnreadable, match="is missing"):
        read_model(main)


@pytest.mark.parametrize("text", [b"", b"{}", b"[1", b"\xff"])
def test_a_record_that_is_none(tmp_path: Path, text: bytes) -> None:
    main = put_artifact(tmp_path)
    record_path(main).write_bytes(text)
    with pytest.raises(ModelUnreadable, match="is not an artifact record"):
        read_model(main)


def test_a_record_of_a_later_schema(tmp_path: Path) -> None:
    main = put_artifact(tmp_path)
    change(main, schema="edgewright.artifact/9")
    with pytest.raises(ModelUnreadable, match="artifact/9"):
        find_record(main)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a\\..\\x", ""])
def test_a_record_cannot_name_files_elsewhere(tmp_path: Path, name: str) -> None:
    main = put_artifact(tmp_path)
    change(main, files={main.name: "0" * 64, name: "0" * 64})
    with pytest.raises(ModelUnreadable, match="outside its folder"):
        find_record(main)


def test_a_record_of_another_file_does_not_count(tmp_path: Path) -> None:
    main = put_artifact(tmp_path)
    other = main.with_suffix(".onnx")
    other.write_bytes(b"\x08")
    assert find_record(other) is None
    assert find_record(main) is not None


def test_all_of_a_folder(tmp_path: Path) -> None:
    mains = [put_artifact(tmp_path, name) for name in ("a.param", "b.param")]
    assert [path for path, _ in list_records(tmp_path)] == mains
    assert list_records(tmp_path / "absent") == []


@pytest.mark.parametrize(
    "fields",
    [
        {"axes": (0, 2, 3, 3)},
        {"axes": (0, 1)},
        {"axes": (0, 2, 3, 9)},
        {"shape": (1, 4, 5, 4)},
        {"shape": (-7, 4, 5, 3)},
        {"dtype": "banana"},
        {"source": "unknown"},
        {"quantization": Quantization(scale=0.0, zero_point=0)},
        {"quantization": Quantization(scale=-1.0, zero_point=0)},
    ],
)
def test_a_record_that_contradicts_itself(tmp_path: Path, fields: dict[str, object]) -> None:
    main = put_artifact(tmp_path)
    record = find_record(main)
    assert record is not None
    port = msgspec.structs.replace(record.io_map.inputs[0], **fields)
    change(main, io_map=msgspec.structs.replace(record.io_map, inputs=(port,)))
    with pytest.raises(ModelUnreadable, match="is inconsistent"):
        find_record(main)


@pytest.mark.parametrize("size", [0, -5, 10**15])
def test_a_record_of_another_size_than_its_files(tmp_path: Path, size: int) -> None:
    """What a model may take of memory and time goes by its size."""
    main = put_artifact(tmp_path)
    change(main, bytes=size)
    with pytest.raises(ModelUnreadable, match="its record says"):
        read_model(main)


def test_a_record_without_its_main_file_in_the_list(tmp_path: Path) -> None:
    main = put_artifact(tmp_path)
    change(main, files={})
    with pytest.raises(ModelUnreadable, match="is inconsistent"):
        find_record(main)
