"""Run a model once by its source's names and layouts."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.cli.calling import Call, make_call
from tests.models.onnx_files import write_conv_net


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    return make_call(capfd)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    return tmp_path / "x.npz"


def expected(model: Path, inputs: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    with np.load(inputs) as file:
        return np.asarray(session.run(None, {"x": file["x"]})[0])


def test_an_artifact_takes_and_gives_what_its_source_does(call: Call, tmp_path: Path, inputs: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    model = write_conv_net(tmp_path / "m.onnx")
    assert call("compile", model, "--runtime", "litert", "-o", tmp_path / "out").code == 0
    result = call(
        "invoke", tmp_path / "out/m-litert-fp32.tflite", "--inputs", inputs, "-o", tmp_path / "y.npz", "--json"
    )
    assert result.code == 0
    assert result.json()["outputs"] == [{"name": "y", "dtype": "float32", "shape": [1, 5]}]
    with np.load(tmp_path / "y.npz") as file:
        np.testing.assert_allclose(file["y"], expected(model, inputs), rtol=1e-5, atol=1e-6)


def test_a_plain_model_with_a_free_batch(call: Call, tmp_path: Path, inputs: Path) -> None:
    model = write_conv_net(tmp_path / "m.onnx", batch="n")
    result = call("invoke", model, "--inputs", inputs, "-o", tmp_path / "y.npz", "-p", "optimization=disable")
    assert result.code == 0
    assert result.rows() == [{"output": "y", "type": "float32", "shape": "[1, 5]"}]
    with np.load(tmp_path / "y.npz") as file:
        np.testing.assert_allclose(file["y"], expected(model, inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("absent.onnx", "--inputs", "x.npz", "-o", "y.npz"), 2),
        (("m.onnx", "--inputs", "absent.npz", "-o", "y.npz"), 2),
        (("m.onnx", "--inputs", "m.onnx", "-o", "y.npz"), 2),
        (("m.onnx", "--inputs", "x.npz", "-o", "absent/y.npz"), 1),
        (("m.onnx", "--inputs", "x.npz", "-o", "y.npz", "--runtime", "nobody"), 2),
        (("m.onnx", "--inputs", "x.npz", "-o", "y.npz", "--runtime", "torch"), 2),
        (("m.onnx", "--inputs", "x.npz", "-o", "y.npz", "-p", "color=blue"), 2),
    ],
)
def test_bad_words(
    call: Call, tmp_path: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int
) -> None:
    write_conv_net(tmp_path / "m.onnx")
    monkeypatch.chdir(tmp_path)
    result = call("invoke", *words)
    assert result.code == code
    assert result.error()
    assert not list(tmp_path.glob("**/*y.npz*"))
