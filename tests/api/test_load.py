"""Loaded models: names and layouts of the source, batches, threads, sizes, errors."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import edgewright
from edgewright.errors import InputError, ModelNotFound, UsageError
from tests.api.conftest import DIGITS

MODEL = str(DIGITS / "digits.onnx")
IMAGES = np.random.default_rng(0).random((6, 1, 8, 8), np.float32)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A LiteRT artifact, whose file has another layout than its source."""
    folder = tmp_path_factory.mktemp("artifact")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWRIGHT_HOME", str(folder / "home"))
        return str(edgewright.compile(MODEL, runtime="litert", output=folder, check=False).artifact("litert").path)


def test_an_artifact_has_the_names_and_layouts_of_its_source(artifact: str) -> None:
    with edgewright.load(MODEL) as source, edgewright.load(artifact) as model:
        assert (model.runtime, source.runtime) == ("litert", "onnxruntime")
        assert [spec.name for spec in model.inputs] == ["image"]
        expected, found = source({"image": IMAGES[:1]}), model({"image": IMAGES[:1]})
    assert found.keys() == {"logits"}
    np.testing.assert_allclose(found["logits"], expected["logits"], atol=1e-3)


def test_isolated_it_returns_the_same(artifact: str) -> None:
    with edgewright.load(artifact) as here, edgewright.load(artifact, isolated=True) as there:
        assert np.array_equal(here(IMAGES[:1])["logits"], there(image=IMAGES[:1])["logits"])


def test_a_batch_runs_in_parts(artifact: str) -> None:
    with edgewright.load(artifact) as model:
        single = [model(IMAGES[i : i + 1])["logits"] for i in range(len(IMAGES))]
        assert np.array_equal(model(IMAGES)["logits"], np.concatenate(single))


def test_threads_get_their_own_outputs(artifact: str) -> None:
    with edgewright.load(artifact) as model, ThreadPoolExecutor(4) as pool:
        expected = model(IMAGES)["logits"]
        found = list(pool.map(lambda i: model(IMAGES[i % 6 : i % 6 + 1])["logits"], range(60)))
    assert all(np.array_equal(one[0], expected[i % 6]) for i, one in enumerate(found))


@pytest.mark.parametrize(
    ("inputs", "what"),
    [
        ({"picture": IMAGES[:1]}, "the inputs of digits.onnx are not picture"),
        (None, "the inputs of digits.onnx are not a single array"),
        (IMAGES[0], r"input 'image' has shape .*, but the value given has shape \[1, 8, 8\]"),
        (np.zeros((1, 1, 8, 8), np.complex64), "input 'image' is float32, but the value given is complex64"),
    ],
)
def test_inputs_that_do_not_fit(inputs: object, what: str) -> None:
    with edgewright.load(MODEL) as model, pytest.raises(InputError, match=what):
        model(inputs)


def test_float64_becomes_the_models_type() -> None:
    with edgewright.load(MODEL) as model:
        assert np.array_equal(model(IMAGES[:1].astype(np.float64))["logits"], model(IMAGES[:1])["logits"])


def test_a_closed_model_and_a_missing_file(tmp_path: Path) -> None:
    model = edgewright.load(MODEL)
    model.close()
    model.close()
    with pytest.raises(UsageError, match=r"digits\.onnx is closed"):
        model(IMAGES[:1])
    with pytest.raises(ModelNotFound):
        edgewright.load(tmp_path / "none.onnx")
