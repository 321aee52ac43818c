"""What is this file: sniffing, reading, and every file that is no model."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright.errors import EdgewrightError, ExternalDataMissing, ModelError, ModelNotFound, ModelUnreadable
from edgewright.formats.files import FORMATS, READABLE, hash_file, hash_files, read_graph, read_model, sniff
from tests.models.onnx_files import write_conv_net, write_external
from tests.paths import ROOT

SHIPPED = ROOT / "src" / "edgewright" / "flows" / "digits"
FIXTURES = ROOT / "tests" / "fixtures" / "digits"
DIGITS = {path.name: path for folder in (SHIPPED, FIXTURES) for path in folder.iterdir()}


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def read_error(path: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        read_model(path)
    assert caught.value.what
    assert caught.value.try_this
    return caught.value


# Sniffing


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\x1c\x00\x00\x00TFL3rest", "tflite"),
        (b"\x1c\x00\x00\x00ORTMrest", "ort"),
        (b"\x1c\x00\x00\x00ET12rest", "executorch"),
        (b"PK\x03\x04rest", "zip"),
        (b"\x89HDF\r\n\x1a\nrest", "hdf5"),
        (b"7767517\n75 83\n", "ncnn"),
        (b"pretend", "pretend"),
        (b"\x08\x0a\x12\x07pytorch", "onnx"),
    ],
)
def test_the_bytes_decide_whatever_the_name(tmp_path: Path, head: bytes, name: str) -> None:
    for suffix in ("", ".onnx", ".tflite", ".bin"):
        assert sniff(put(tmp_path / f"model{suffix}", head)) == name


def test_every_format_is_in_the_table_once() -> None:
    names = [info.name for info in FORMATS]
    assert len(set(names)) == len(names)
    assert set(READABLE) <= set(names)


def test_only_the_suffix_identifies_an_onnx_file_with_other_fields_first(tmp_path: Path) -> None:
    assert sniff(put(tmp_path / "m.ONNX", b"\x3a\x00")) == "onnx"
    with pytest.raises(ModelUnreadable, match="3a 00"):
        sniff(put(tmp_path / "m.bin", b"\x3a\x00"))


@pytest.mark.parametrize("head", [b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"xxxxORTM"])
def test_known_and_not_usable(tmp_path: Path, head: bytes) -> None:
    error = read_error(put(tmp_path / "model.onnx", head))
    assert isinstance(error, ModelUnreadable)
    assert "onnx or tflite" in error.try_this


@pytest.mark.parametrize("head", [b"7767517\n", b"xxxxET12", b"<?xml version"])
def test_an_artifact_without_its_record(tmp_path: Path, head: bytes) -> None:
    error = read_error(put(tmp_path / "model.bin", head))
    assert "has no artifact record" in error.what
    assert "model.edgewright.json" in error.why


# No models


def test_no_such_file(tmp_path: Path) -> None:
    error = read_error(tmp_path / "absent.onnx")
    assert isinstance(error, ModelNotFound)
    assert error.exit_code == 2
    assert "absent.onnx" in error.what


@pytest.mark.parametrize("name", ["folder", "pipe", "dev", "under/a-file", "x" * 300])
def test_what_is_no_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "under").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dev").symlink_to("/dev/zero")
    error = read_error(tmp_path / name)
    assert isinstance(error, ModelNotFound)
    assert error.exit_code == 2


def test_a_dangling_link(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").symlink_to(tmp_path / "gone.onnx")
    assert isinstance(read_error(tmp_path / "m.onnx"), ModelNotFound)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = write_conv_net(tmp_path / "m.onnx")
    path.chmod(0)
    assert read_error(path).exit_code == 2


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="there is no file here that fails to be read")
def test_a_file_that_fails_to_be_read() -> None:
    assert "cannot be opened" in read_error(Path("/proc/self/mem")).what


@pytest.mark.parametrize("name", ["m.onnx", "m.tflite", "m"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    error = read_error(put(tmp_path / name, b""))
    assert "is empty" in error.what
    assert error.exit_code == 6


@pytest.mark.parametrize("name", ["digits.onnx", "digits_int8.onnx", "digits.tflite", "digits_int8.tflite"])
def test_truncated_models(tmp_path: Path, name: str) -> None:
    whole = DIGITS[name].read_bytes()
    for share in (0.001, 0.1, 0.5, 0.9, 0.999):
        assert read_error(put(tmp_path / name, whole[: int(len(whole) * share)])).exit_code == 6


@pytest.mark.parametrize("name", ["m.json", "m.textproto", "m.onnxtxt", "m.onnx"])
def test_a_suffix_of_a_text_format_does_not_lead_astray(tmp_path: Path, name: str) -> None:
    whole = DIGITS["digits.onnx"].read_bytes()
    assert read_model(put(tmp_path / name, whole)).format == "onnx"
    assert isinstance(read_error(put(tmp_path / name, b"\x08{")), ModelUnreadable)


# Models


@pytest.mark.parametrize(
    ("name", "kind", "precision"),
    [
        ("digits.onnx", "onnx", "fp32"),
        ("digits_int8.onnx", "onnx", "w8a8"),
        ("digits.tflite", "tflite", "fp32"),
        ("digits_int8.tflite", "tflite", "w8a8"),
    ],
)
def test_real_models(name: str, kind: str, precision: str) -> None:
    path = DIGITS[name]
    model = read_model(path)
    assert (model.format, model.precision, model.name, model.path) == (kind, precision, name, str(path))
    assert model.sha256 == hash_file(path)
    assert model.bytes == path.stat().st_size
    assert len(model.signature.inputs) == len(model.signature.outputs) == 1
    assert read_graph(path, model.format)


def test_a_pretended_model(tmp_path: Path) -> None:
    path = put(tmp_path / "m.pretend", b"pretend, and nothing else")
    model = read_model(path)
    assert (model.format, model.signature.inputs, model.bytes) == ("pretend", (), 25)
    assert read_graph(path, "pretend") == ()


def test_weights_beside_the_model_count(tmp_path: Path) -> None:
    path = write_external(tmp_path / "m.onnx")
    model, data = read_model(path), tmp_path / "weights.bin"
    assert model.data_files == ("weights.bin",)
    assert model.bytes == path.stat().st_size + data.stat().st_size
    assert model.sha256 == hash_files([path, data]) != hash_file(path)
    data.write_bytes(data.read_bytes()[:-1] + b"\x01")
    assert read_model(path).sha256 != model.sha256


def test_weights_that_are_gone(tmp_path: Path) -> None:
    path = write_external(tmp_path / "m.onnx")
    (tmp_path / "weights.bin").unlink()
    error = read_error(path)
    assert isinstance(error, ExternalDataMissing)
    assert error.exit_code == 6
    assert "weights.bin" in error.what


# Whatever bytes


def read_or_reject(path: Path) -> None:
    try:
        model = read_model(path)
        nodes = read_graph(path, model.format)
    except EdgewrightError as error:
        assert error.exit_code in (2, 6)
    else:
        assert all(isinstance(size, int | str) for spec in model.signature.inputs for size in spec.shape)
        assert isinstance(len(nodes), int)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(st.sampled_from((b"", b"\x08", b"\x08\x07\x3a", b"xxxxTFL3", b"pretend")), st.binary(max_size=200))
def test_random_bytes(tmp_path: Path, head: bytes, data: bytes) -> None:
    for name in ("m.onnx", "m"):
        read_or_reject(put(tmp_path / name, head + data))


changes = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(st.sampled_from(("conv", "external", "digits_int8.tflite")), changes, st.booleans())
def test_mutated_models(tmp_path: Path, kind: str, places: list[tuple[int, int]], near_the_start: bool) -> None:
    path = tmp_path / "m.onnx"
    if kind == "conv":
        write_conv_net(path)
    elif kind == "external":
        write_external(path)
    else:
        put(path, DIGITS[kind].read_bytes())
    data = bytearray(path.read_bytes())
    for place, value in places:
        data[place % (min(len(data), 300) if near_the_start else len(data))] = value
    read_or_reject(put(path, bytes(data)))
