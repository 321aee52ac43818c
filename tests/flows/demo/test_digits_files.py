"""The demo's model files and held-out digits in the package."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

import edgewright
from tests.paths import ROOT

FOLDER = Path(edgewright.__file__).parent / "flows/digits"
SCRIPT = ROOT / "scripts/train_digits.py"
FIXTURES = ROOT / "tests" / "fixtures/digits"
FILES = ("README.md", "calib.npz", "digits.onnx", "digits_int8.onnx", "heldout.npz", "task.toml")
# 533 of 539 (98.9 %) were seen for each of the four files. Another CPU's rounding may turn a digit or two
# of an INT8 file, not nine.
FEWEST_RIGHT = 524

Predict = Callable[[NDArray[np.float32]], NDArray[Any]]


@pytest.fixture(scope="module")
def heldout() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    with np.load(FOLDER / "heldout.npz") as arrays:
        return arrays["images"], arrays["labels"]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_digits", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def open_onnx(name: str) -> Predict:
    session = onnxruntime.InferenceSession(FOLDER / name, providers=["CPUExecutionProvider"])
    return lambda image: np.asarray(session.run(["logits"], {"image": image})[0])


def store_as(values: NDArray[np.float32], details: dict[str, Any]) -> NDArray[Any]:
    scale, zero_point = details["quantization"]
    if not scale:
        return values
    limits = np.iinfo(details["dtype"])
    stored: NDArray[Any] = np.round(values / scale + zero_point).clip(limits.min, limits.max)
    return stored.astype(limits.dtype)


def open_tflite(name: str) -> Predict:
    """Return the stored logits: int8 for the INT8 file, in the same order as the real values."""
    reason = "ai-edge-litert is not installed"
    interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason=reason)
    runner = interpreter.Interpreter(str(FIXTURES / name), num_threads=1).get_signature_runner()
    details = runner.get_input_details()["image"]
    return lambda image: np.asarray(runner(image=store_as(image, details))["logits"])


def open_model(name: str) -> Predict:
    return open_onnx(name) if name.endswith(".onnx") else open_tflite(name)


def predict_all(predict: Predict, images: NDArray[np.uint8]) -> NDArray[Any]:
    pixels = images[:, None].astype(np.float32) / np.float32(16)
    return np.concatenate([predict(image[None]) for image in pixels])


def test_the_files_are_there_and_small() -> None:
    assert sorted(p.name for p in FOLDER.iterdir()) == sorted(FILES)
    assert sum(p.stat().st_size for p in FOLDER.iterdir()) < 400_000


def test_the_readme_gives_each_files_size() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in FILES[1:]:
        assert f"| `{name}` | {(FOLDER / name).stat().st_size:,} |" in readme


def test_heldout_digits_are_as_documented(
    heldout: tuple[NDArray[np.uint8], NDArray[np.uint8]],
) -> None:
    images, labels = heldout
    assert images.shape == (539, 8, 8)
    assert images.dtype == labels.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 16)
    assert labels.shape == (539,)
    assert np.bincount(labels).min() >= 50  # every digit, about equally often
    assert len(np.unique(images.reshape(539, -1), axis=0)) == 539


def test_calibration_digits_are_none_of_the_held_out(heldout: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    with np.load(FOLDER / "calib.npz") as arrays:
        assert list(arrays) == ["images"]  # no labels
        images = arrays["images"]
    assert (images.shape, images.dtype) == ((100, 8, 8), np.uint8)
    both = np.concatenate([images.reshape(100, -1), heldout[0].reshape(539, -1)])
    assert len(np.unique(both, axis=0)) == 639


@pytest.mark.parametrize("name", ["digits.onnx", "digits_int8.onnx", "digits.tflite", "digits_int8.tflite"])
def test_model_recognizes_heldout_digits(name: str, heldout: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    images, labels = heldout
    logits = predict_all(open_model(name), images)
    assert logits.shape == (539, 10)
    assert int((logits.argmax(1) == labels).sum()) >= FEWEST_RIGHT


def test_both_float_files_hold_the_same_network(
    heldout: tuple[NDArray[np.uint8], NDArray[np.uint8]],
) -> None:
    lite = predict_all(open_tflite("digits.tflite"), heldout[0])
    reference = predict_all(open_onnx("digits.onnx"), heldout[0])
    # The ONNX file's weights are rounded to 8 bits of fraction, so that the package stays small.
    np.testing.assert_allclose(lite, reference, rtol=0, atol=0.1)


def test_int8_tflite_takes_and_gives_int8() -> None:
    reason = "ai-edge-litert is not installed"
    interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason=reason)
    runner = interpreter.Interpreter(str(FIXTURES / "digits_int8.tflite")).get_signature_runner()
    image, logits = runner.get_input_details()["image"], runner.get_output_details()["logits"]
    readme = (FIXTURES / "README.md").read_text(encoding="utf-8")
    for details in (image, logits):
        scale, zero_point = details["quantization"]
        assert details["dtype"] is np.int8
        assert f"scale {scale}, zero point {zero_point}".replace("-", "−") in readme


def test_onnx_nodes_and_results_are_named_after_modules() -> None:
    import onnx

    nodes = onnx.load(FOLDER / "digits.onnx").graph.node
    names = {node.name: list(node.output) for node in nodes}
    assert len(names) == len(nodes)
    assert names["block2/body/pointwise/conv/Conv"] == ["block2/body/pointwise/conv"]
    assert names["block1/Add"] == ["block1"]


def test_split_keeps_heldout_apart_from_training(script: ModuleType) -> None:
    labels = np.repeat(np.arange(10), 97)
    split = script.split_digits(labels)
    assert np.array_equal(np.sort(np.concatenate([split.train, split.heldout])), np.arange(970))
    assert set(split.calibration.tolist()) < set(split.train.tolist())
    assert np.bincount(labels[split.heldout]).tolist() == [29] * 10
    assert np.bincount(labels[split.calibration]).tolist() == [14] * 10


def test_split_is_the_same_every_time(script: ModuleType) -> None:
    labels = np.arange(1000) % 10
    first, second = script.split_digits(labels), script.split_digits(labels)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_no_training_image_lies_in_the_heldout_file(
    script: ModuleType, heldout: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn, which carries the whole dataset, is not installed")
    images, labels = script.load_digits()
    split = script.split_digits(labels)
    assert np.array_equal(images[split.heldout], heldout[0])
    assert np.array_equal(labels[split.heldout], heldout[1])
    kept = {image.tobytes() for image in heldout[0]}
    assert not [i for i in split.train if images[i].tobytes() in kept]
