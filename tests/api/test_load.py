"""Loaded models: names and layouts of the source, batches, threads, sizes, errors."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import onnx
import pytest

import edgewright
from edgewright.errors import InputError, ModelNotFound, UsageError, WorkerError
from edgewright.flows.evaluate.inference import MAX_LOADED
from tests.api.conftest import DIGITS
from tests.models.onnx_files import write_conv_net

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


def test_the_worker_outlives_the_thread_of_the_first_call() -> None:
    with edgewright.load(MODEL, isolated=True) as model:
        first = Thread(target=model, args=[IMAGES[:1]])
        first.start()
        first.join()
        assert model(IMAGES[:1])["logits"].shape == (1, 10)


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


@pytest.mark.parametrize("dtype", [np.int32, bool, np.uint8, str])
def test_other_kinds_of_values_are_not_converted(dtype: type) -> None:
    with (
        edgewright.load(MODEL) as model,
        pytest.raises(InputError, match=r"is float32, but the value given is \w+"),
    ):
        model(IMAGES[:1].astype(dtype))


def test_values_that_are_no_array() -> None:
    with edgewright.load(MODEL) as model:
        with pytest.raises(InputError, match="is not an array"):
            model([[1.0], [1.0, 2.0]])
        with pytest.raises(InputError, match="'image' is float32, but the value given is float64"):
            model(np.full((1, 1, 8, 8), 1e300))
        with pytest.raises(InputError, match="'image' is given twice"):
            model({"image": IMAGES[:1]}, image=IMAGES[:1])


def test_integers_are_converted_if_none_changes(tmp_path: Path) -> None:
    graph = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (int32[2] x) => (int32[2] y) {y = Neg(x)}'
    )
    onnx.save(graph, tmp_path / "m.onnx")
    with edgewright.load(tmp_path / "m.onnx") as model:
        assert model([1, -2])["y"].tolist() == [-1, 2]  # int64 to NumPy
        with pytest.raises(InputError, match="'x' is int32, but the value given is int64"):
            model([2**31, 0])
        with pytest.raises(InputError, match="'x' is int32, but the value given is float64"):
            model([1.0, 2.0])


def test_an_error_of_the_runtime_itself_is_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_to_fetch(session: object) -> None:
        raise KeyError("logits")

    with edgewright.load(MODEL) as model:
        model(IMAGES[:1])
        engine: Any = model._engine
        ((session, _),) = engine._sessions.values()
        monkeypatch.setattr(type(session), "fetch", fail_to_fetch)
        with pytest.raises(WorkerError, match="onnxruntime failed: KeyError"):
            model(IMAGES[:1])


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


@pytest.mark.parametrize("isolated", [False, True])
def test_a_set_picks_by_the_size_of_the_inputs(tmp_path: Path, isolated: bool) -> None:
    model = write_conv_net(tmp_path / "m.onnx", batch="batch")
    made = edgewright.compile(model, shape="x=1|2,3,8,8", runtime="onnxruntime", check=False, output=tmp_path)
    with edgewright.load(made.report.sets[0].path, isolated=isolated) as sized, edgewright.load(model) as source:
        for count in (2, 1, 2):
            x = IMAGES[:1, :, :1, :1] * np.ones((count, 3, 8, 8), np.float32)
            np.testing.assert_allclose(sized(x)["y"], source(x)["y"], atol=1e-5)
        with pytest.raises(InputError, match="has no artifact for x=3,3,8,8"):
            sized(np.zeros((3, 3, 8, 8), np.float32))


def test_sessions_for_more_sizes_than_stay_loaded(tmp_path: Path) -> None:
    with edgewright.load(write_conv_net(tmp_path / "m.onnx", batch="batch")) as model:
        for count in (*range(1, MAX_LOADED + 3), 1):
            (output,) = model(np.zeros((count, 3, 8, 8), np.float32)).values()
            assert len(output) == count
