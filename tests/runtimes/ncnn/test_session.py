"""ncnn's sessions: a file's content, rejections, and notes on unsupported options."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.runtimes import ncnn
from edgewright.runtimes.contract import Mismatch, Rejected
from edgewright.runtimes.ncnn.param import (
    find_index_inputs,
    find_output_blobs,
    make_input_params,
    make_shape_hint,
    read_hinted_shape,
    read_input_shape,
    read_row,
)
from edgewright.runtimes.ncnn.session import environment, has_half_weights, note_of_half
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.model import TensorSpec
from tests.models.ncnn_files import HALF, seeded, tagged, write_convnet
from tests.models.onnx_files import normal_feed

library: Any = pytest.importorskip("ncnn", reason="ncnn is not installed")


def request_of(model: Path, **options: str) -> SessionRequest:
    return SessionRequest(model=str(model), options=options)


def test_the_signature_is_read_from_the_file(tmp_path: Path) -> None:
    session = ncnn.open_session(request_of(write_convnet(tmp_path / "m.param")))
    assert session.signature.inputs == (TensorSpec(name="x", dtype="float32", shape=(4, 8, 8)),)
    assert session.signature.outputs == (TensorSpec(name="y", dtype="float32", shape=(5,)),)


def test_a_file_without_shapes_takes_those_of_the_request(tmp_path: Path) -> None:
    model = write_convnet(tmp_path / "m.param", hints=False)
    with pytest.raises(Rejected, match="shape of input 'x'"):
        ncnn.open_session(request_of(model))
    session = ncnn.open_session(SessionRequest(model=str(model), shapes={"x": (4, 6, 10)}))
    assert session.signature.inputs[0].shape == (4, 6, 10)
    assert session.signature.outputs[0].shape == (5,)
    session.bind({"x": normal_feed(4, 6, 10)})
    session.run()
    assert np.isfinite(session.fetch()["y"]).all()


def test_a_shape_for_an_unknown_input_is_a_mismatch(tmp_path: Path) -> None:
    with pytest.raises(Mismatch, match="no input 'z'"):
        ncnn.open_session(SessionRequest(model=str(write_convnet(tmp_path / "m.param")), shapes={"z": (1,)}))


def test_an_unknown_layer_is_named(tmp_path: Path) -> None:
    model = write_convnet(tmp_path / "m.param")
    model.write_text(model.read_text().replace("Pooling", "torch.topk"))
    with pytest.raises(Rejected, match=r"no layer torch\.topk"):
        ncnn.open_session(request_of(model))


def test_a_layer_left_out_of_the_build_is_named(tmp_path: Path) -> None:
    model = write_convnet(tmp_path / "m.param")
    model.write_text(model.read_text().replace("Pooling", "ArgMax"))
    with pytest.raises(Rejected, match="no layer ArgMax"):
        ncnn.open_session(request_of(model))


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "magic"), ("7767517\n", "list index"), ("7767517\n9 9\nInput x 0 1 x\n", "declares 9 layers but has 1")],
)
def test_what_is_no_param_file_is_rejected(tmp_path: Path, text: str, reason: str) -> None:
    model = write_convnet(tmp_path / "m.param")
    model.write_text(text)
    with pytest.raises(Rejected, match=reason):
        ncnn.open_session(request_of(model))


def test_absent_and_short_weights_are_rejected(tmp_path: Path) -> None:
    model = write_convnet(tmp_path / "m.param")
    weights = model.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(Rejected, match="cannot read the weights"):
        ncnn.open_session(request_of(model))
    weights.unlink()
    with pytest.raises(Rejected, match=r"m\.bin are not in the folder"):
        ncnn.open_session(request_of(model))


def test_an_absent_vulkan_device_is_reported(tmp_path: Path) -> None:
    session = ncnn.open_session(request_of(write_convnet(tmp_path / "m.param"), vulkan="on"))
    reported = any("no Vulkan device" in note for note in session.notes)
    assert reported == (library.get_gpu_count() == 0)


def test_nothing_is_reported_where_all_is_given(tmp_path: Path) -> None:
    assert ncnn.open_session(request_of(write_convnet(tmp_path / "m.param"))).notes == ()


def test_half_storage_changes_the_numbers_or_is_reported(tmp_path: Path) -> None:
    """ncnn leaves a storage aside that the CPU does not have; then its numbers are those of float32."""
    model = write_convnet(tmp_path / "m.param")
    outputs = {}
    for storage in ("fp32", "bf16"):
        session = ncnn.open_session(request_of(model, storage=storage))
        session.bind({"x": normal_feed(4, 8, 8)})
        session.run()
        outputs[storage] = session.fetch()["y"]
        missing = any("no bf16" in note for note in session.notes)
    assert missing == bool((outputs["fp32"] == outputs["bf16"]).all())


class FakeLayer:
    def __init__(self, type: str, able: bool) -> None:
        self.type = type
        self.support_fp16_storage = able


class FakeNet:
    def __init__(self, *layers: FakeLayer) -> None:
        self._layers = layers

    def layers(self) -> tuple[FakeLayer, ...]:
        return self._layers


def test_layers_that_only_move_values_do_not_count_as_half_precision() -> None:
    moving = FakeLayer("Reshape", True)
    conv, norm = FakeLayer("Convolution", True), FakeLayer("LayerNorm", False)
    assert "no fp16 activations" in note_of_half(FakeNet(moving, norm), "fp16")
    assert "1 of 2 computing layers" in note_of_half(FakeNet(moving, norm, conv), "fp16")
    assert note_of_half(FakeNet(FakeLayer("Split", False), conv), "fp16") == ""


def test_half_weights_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "m.bin"
    path.write_bytes(tagged(seeded(500)).tobytes())
    assert not has_half_weights(path)
    path.write_bytes(seeded(300_000).tobytes() + tagged(seeded(500), HALF).tobytes())
    assert has_half_weights(path)
    path.write_bytes(b"")
    assert not has_half_weights(path)


def test_openmp_is_quiet_in_this_process_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    with environment({"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}):
        assert (os.environ["OMP_WAIT_POLICY"], os.environ["GOMP_SPINCOUNT"]) == ("active", "0")
    assert os.environ["OMP_WAIT_POLICY"] == "active"
    assert "GOMP_SPINCOUNT" not in os.environ


def test_numpy_alone_is_imported_with_the_session_module() -> None:
    script = "import sys, edgewright.runtimes.ncnn.session; print('ncnn' in sys.modules, 'onnx' in sys.modules)"
    reported = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert reported.split() == ["False", "False"]


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 7), (5, 2, 3, 7), (1, 1, 1)])
def test_shapes_go_into_a_param_file_and_back(shape: tuple[int, ...]) -> None:
    row = read_row(["Input", "x", "0", "1", "x"])._replace(params=make_input_params(shape))
    assert read_input_shape(row) == shape
    hinted = row._replace(tops=("a", "x"), params=make_shape_hint([(9,), shape]))
    assert read_hinted_shape(hinted, "x") == (shape if len(shape) < 4 else None)


def test_inputs_of_embeds_are_indices_and_ends_are_outputs() -> None:
    rows = [
        read_row(line.split())
        for line in (
            "Input ids 0 1 ids",
            "Input x 0 1 x",
            "Reshape r 1 1 ids flat",
            "Embed e 1 1 flat rows",
            "BinaryOp b 2 1 rows x sum",
            "Split s 1 2 sum left y",
            "ReLU z 1 1 left z",
        )
    ]
    assert find_index_inputs(rows) == {"ids"}
    assert find_output_blobs(rows) == ["y", "z"]
