"""External weights: every reader rejects paths outside of the model's folder and ranges beyond a file's end."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]  # ships no types
from onnx import TensorProto, helper, numpy_helper

import edgewright
from edgewright.errors import ExternalDataMissing, LimitReached, ModelError, ModelUnreadable
from edgewright.formats.files import read_model
from edgewright.formats.onnx.external import BITS, check_external, external_tensors, needs_data_file
from edgewright.formats.onnx.normalize.source import prepare_onnx
from edgewright.formats.onnx.submodel import SubmodelExtractor
from edgewright.formats.onnx.typing_process import read_typed
from edgewright.formats.typed_graph import BITS as BITS_BY_NAME
from tests.models.onnx_files import node, value, write_onnx


def read_for_torch(path: Path) -> Any:
    pytest.importorskip("torch", reason="torch is not installed")
    from edgewright.formats.onnx_to_torch.read import read_graph

    return read_graph(path, {"Add": None})


READERS: dict[str, Callable[[Path], Any]] = {
    "read_model": read_model,
    "analyze": lambda path: read_typed(path, {}),
    "prepare": lambda path: prepare_onnx(path, {"x": (1, 2)}, path.with_name("prepared.onnx")),
    "onnx_to_litert": lambda path: edgewright.onnx_to_litert(path, shapes={"x": (1, 2)}, check="none"),
    "cut": SubmodelExtractor,
    "torch": read_for_torch,
}
every_reader = pytest.mark.parametrize("read", READERS.values(), ids=READERS)


def external(location: str, **entries: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, text in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=text)
    return tensor


def write_model(folder: Path, location: str = "w.bin", **entries: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder.parent / "secret.bin").write_bytes(bytes(64))
    nodes = [node("Add", ["x", "w"], ["y"], "add")]
    ends = [value("x", ["n", 2])], [value("y", ["n", 2])]
    return write_onnx(folder / "m.onnx", nodes, *ends, [external(location, **entries)])


@every_reader
def test_weights_beside_the_model_are_read(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    path = write_model(tmp_path / "m")
    (tmp_path / "m/w.bin").write_bytes(np.ones(2, np.float32).tobytes())
    read(path)


@every_reader
@pytest.mark.parametrize("lead", ["link", "folder", "links", "device", "pipe", "loop", "above", "memory"])
def test_weights_that_lead_out_of_the_folder(tmp_path: Path, read: Callable[[Path], Any], lead: str) -> None:
    location = {"folder": "sub/secret.bin", "above": "../secret.bin", "memory": "*/_ORT_MEM_ADDR_/*"}.get(lead, "w.bin")
    path = write_model(tmp_path / "m", location)
    w = path.with_name("w.bin")
    match lead:
        case "link":
            w.symlink_to("../secret.bin")
        case "folder":
            path.with_name("sub").symlink_to("..")
        case "links":
            path.with_name("v.bin").symlink_to(tmp_path / "secret.bin")
            w.symlink_to("v.bin")
        case "device":
            w.symlink_to("/dev/zero")
        case "pipe":
            os.mkfifo(w)
        case "loop":
            w.symlink_to("w.bin")
        case "memory":
            path.with_name("*").joinpath("_ORT_MEM_ADDR_").mkdir(parents=True)
            (path.parent / "*/_ORT_MEM_ADDR_/*").write_bytes(bytes(8))
    with pytest.raises(ExternalDataMissing) as caught:
        read(path)
    assert caught.value.exit_code == 6


@every_reader
@pytest.mark.parametrize(
    "entries",
    [
        {"offset": "abc"}, {"offset": "-1"}, {"offset": "1e3"}, {"offset": "9" * 5000}, {"offset": "57"},
        {"offset": "٣"}, {"length": "x"}, {"length": "-8"}, {"length": "4"}, {"length": "65"}, {"length": str(2**63)},
        {"length": ""}, {"offset": "60", "length": "8"}, {"length": "64"},
    ],
    ids=str,
)  # fmt: skip
def test_ranges_that_are_none(tmp_path: Path, read: Callable[[Path], Any], entries: dict[str, str]) -> None:
    path = write_model(tmp_path / "m", **entries)
    path.with_name("w.bin").write_bytes(bytes(64))
    with pytest.raises(ModelUnreadable) as caught:
        read(path)
    assert len(str(caught.value)) < 1000


@every_reader
def test_a_file_that_was_cut_short(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    path = write_model(tmp_path / "m", offset="0", length="8")
    path.with_name("w.bin").write_bytes(bytes(7))
    with pytest.raises(ModelUnreadable, match="too short"):
        read(path)


@every_reader
def test_many_tensors_in_the_same_bytes_count_against_the_memory_limit(
    tmp_path: Path, read: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sparse file of zeros that is referenced a hundred times would fill the memory."""
    path = write_model(tmp_path / "m")
    model = onnx.load(path, load_external_data=False)
    for number in range(100):
        tensor = model.graph.initializer.add()
        tensor.CopyFrom(model.graph.initializer[0])
        tensor.name, tensor.dims[:] = f"w{number}", [1 << 18]
    path.write_bytes(model.SerializeToString())
    with path.with_name("w.bin").open("wb") as file:
        file.truncate(1 << 20)
    monkeypatch.setenv("EDGEWRIGHT_MEMORY_LIMIT", "64MB")
    with pytest.raises(LimitReached, match="EDGEWRIGHT_MEMORY_LIMIT") as caught:
        read(path)
    assert caught.value.exit_code == 6


def test_a_range_without_a_length_is_as_long_as_its_tensor(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m", offset="8")
    path.with_name("w.bin").write_bytes(np.arange(16, dtype=np.float32).tobytes())
    ready = onnx.load(prepare_onnx(path, {"x": (1, 2)}, tmp_path / "ready.onnx"))
    assert numpy_helper.to_array(ready.graph.initializer[0]).tolist() == [2, 3]


def test_a_type_that_no_file_holds(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m")
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].data_type = TensorProto.STRING
    path.write_bytes(model.SerializeToString())
    path.with_name("w.bin").write_bytes(bytes(8))
    with pytest.raises(ModelUnreadable, match="type"):
        read_model(path)


def test_a_message_over_two_gigabytes_needs_a_data_file() -> None:
    class Message:
        def ByteSize(self) -> int:
            raise EncodeError

    assert needs_data_file(Message())
    assert not needs_data_file(onnx.ModelProto())


def test_links_within_the_folder_and_to_a_cache_are_followed(tmp_path: Path) -> None:
    path = write_model(tmp_path / "cache")
    path.with_name("real.bin").write_bytes(bytes(8))
    path.with_name("w.bin").symlink_to("real.bin")
    read_model(path)
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown/m.onnx").symlink_to("../cache/m.onnx")
    (tmp_path / "shown/w.bin").symlink_to("../cache/real.bin")
    assert read_model(tmp_path / "shown/m.onnx").data_files == ("w.bin",)


@pytest.mark.parametrize("key", ["location", "offset", "length"])
def test_an_entry_that_stands_twice(tmp_path: Path, key: str) -> None:
    path = write_model(tmp_path / "m", offset="0", length="8")
    path.with_name("w.bin").write_bytes(bytes(64))
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data.add(key=key, value="0")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelUnreadable, match=r"twice|cannot be read"):
        read_model(path)


def test_tensors_are_found_wherever_they_stand(tmp_path: Path) -> None:
    held = external("../secret.bin")
    inner = helper.make_graph([], "g", [], [], [held])
    sparse = onnx.SparseTensorProto(values=held, indices=held)
    imports = [helper.make_opsetid("", 18)]
    function = helper.make_function("d", "F", ["a"], ["b"], [helper.make_node("C", [], ["b"], value=held)], imports)
    function.attribute_proto.append(helper.make_attribute("default", held))
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=inner), helper.make_node("C", [], ["z"], sparse=sparse)]
    nodes.append(helper.make_node("C", [], ["q"], many=[held, held]))
    model = helper.make_model(helper.make_graph(nodes, "g", [], []), functions=[function])
    model.graph.sparse_initializer.append(sparse)
    training = model.training_info.add()
    training.initialization.CopyFrom(inner)
    training.algorithm.CopyFrom(inner)
    assert len(list(external_tensors(model))) == 1 + 2 + 2 + 2 + 2 + 2
    with pytest.raises(ModelError):
        check_external(tmp_path / "m.onnx", model)


def test_bits_are_those_of_the_types_by_name() -> None:
    for number, bits in BITS.items():
        name = onnx.TensorProto.DataType.Name(number).lower() if number < 25 else ""
        named = BITS_BY_NAME.get({"float": "float32", "double": "float64"}.get(name, name))
        assert named in (None, bits)


def test_a_link_to_a_model_names_the_models_own_path(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m")
    (tmp_path / "m/w.bin").write_bytes(bytes(8))
    link = tmp_path / "link.onnx"
    link.symlink_to(path)
    with pytest.raises(ExternalDataMissing) as caught:
        read_model(link)
    assert caught.value.try_this == f"give the model's own path: {path.resolve()}"
