"""Preprocessing by the compiled core: equal to the reference, and what it rejects."""

from pathlib import Path

import numpy as np
import pytest

from edgewright.errors import ConfigError, DataError
from edgewright.kernels import library, preprocess
from edgewright.kernels.build import find_compiler
from edgewright.kernels.checks.run import CHECKS, check_kernels
from edgewright.kernels.frames import YuvFrame
from edgewright.kernels.library import VARIABLE, load_library
from edgewright.kernels.preprocessing import prepare_with_kernels
from edgewright.tasks.data.images import prepare_image, to_image
from edgewright.tasks.spec.file import write_task
from edgewright.tasks.spec.task import Classification, ImageInput, Task, TensorInput

with_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler")
SPEC = ImageInput(name="image", size=(24, 20), resize_to=26, mean=(120.0, 110.0, 100.0), std=58.0)
TASK = Task(inputs=(SPEC,), output=Classification())


def make_frame(height: int = 50, width: int = 41) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


@with_compiler
def test_all_kernels_equal_numpy() -> None:
    done = check_kernels(seed=3, shapes=60)
    assert done.failures == ()
    assert done.checked >= 60 * len(CHECKS)


@pytest.mark.parametrize("choice", ["", "numpy", pytest.param("scalar", marks=with_compiler)])
def test_equals_the_reference(choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, choice)
    file = tmp_path / "task.toml"
    file.write_text(write_task(TASK))
    want = prepare_image(to_image(make_frame()), SPEC)[0]
    for task in (TASK, file, str(file)):
        np.testing.assert_array_equal(preprocess(make_frame(), task), want)


@pytest.mark.parametrize(
    ("frame", "task", "what"),
    [
        (np.zeros((4, 4, 3), np.float32), TASK, r"float32 \[4, 4, 3\]"),
        (np.zeros((4, 4), np.uint8), TASK, r"uint8 \[4, 4\]"),
        (np.zeros((0, 4, 3), np.uint8), TASK, "no pixels"),
        (np.broadcast_to(np.zeros(3, np.uint8), (20_000, 20_000, 3)), TASK, "20000 × 20000 pixels"),
        ([[1]], TASK, "it is list"),
        (make_frame(), Task(inputs=(TensorInput(name="x"),), output=Classification()), "no image input"),
        (
            make_frame(),
            Task(inputs=(ImageInput(name="x", size=(8, 8), resize="none", crop="none"),), output=Classification()),
            "41 × 50",
        ),
    ],
)
def test_rejected_frames(frame: np.ndarray, task: Task, what: str) -> None:
    with pytest.raises(DataError, match=what):
        preprocess(frame, task)


def test_an_unknown_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "mmx")
    with pytest.raises(ConfigError, match="numpy, scalar"):
        preprocess(make_frame(), TASK)


def test_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgewright.kernels.library.find_compiler", lambda: None)
    monkeypatch.setattr("edgewright.kernels.library.find_prebuilt", lambda: None)
    load_library.cache_clear()
    try:
        loaded, why = load_library()
        assert loaded is None
        assert "no C compiler" in why
    finally:
        load_library.cache_clear()


def test_evaluation_builds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's cache folder stays empty; the reference computes the same."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("edgewright.kernels.library.find_prebuilt", lambda: None)
    for cached in (load_library, library._is_there):
        cached.cache_clear()
    try:
        image = to_image(make_frame())
        np.testing.assert_array_equal(prepare_with_kernels(image, SPEC)[0], prepare_image(image, SPEC)[0])
        assert not list(tmp_path.iterdir())
    finally:
        for cached in (load_library, library._is_there):
            cached.cache_clear()


@with_compiler
def test_a_compiler_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgewright.kernels.build import build_library

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiler = find_compiler()
    assert compiler is not None
    bad = tmp_path / "bad.c"
    bad.write_text("int one(void) { return }\n")
    path, why = build_library(compiler, (bad,))
    assert path is None
    assert "error" in why
    assert not list((tmp_path / "edgewright" / "kernels").iterdir())


@with_compiler
def test_out_is_filled_and_checked() -> None:
    out = np.empty(SPEC.shape, np.float32)
    assert preprocess(make_frame(), TASK, out=out) is out
    np.testing.assert_array_equal(out, preprocess(make_frame(), TASK))
    overlapping = np.zeros(4 * out.size + 4096, np.uint8)
    frame = overlapping[-3600:].reshape(40, 30, 3)
    within = overlapping[: 4 * out.size].view(np.float32).reshape(out.shape)
    for bad, what in (
        (np.empty(SPEC.shape, np.float64), "float64"),
        (np.empty((1, 3, 20, 24), np.float32), "does not fit"),
        (np.asfortranarray(out), "one piece"),
    ):
        with pytest.raises(DataError, match=what):
            preprocess(make_frame(), TASK, out=bad)
    assert preprocess(frame, TASK, out=within) is within  # neighbors in memory, not overlapping
    with pytest.raises(DataError, match="overlap"):
        preprocess(overlapping[2000:5600].reshape(40, 30, 3), TASK, out=within)


@pytest.mark.parametrize("choice", ["numpy", pytest.param("scalar", marks=with_compiler)])
def test_yuv(choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gray frame of luma 235 is white, 16 black; the planes must fit each other."""
    monkeypatch.setenv(VARIABLE, choice)
    task = Task(inputs=(ImageInput(name="x", size=(2, 2), resize="none", dtype="uint8"),), output=Classification())
    luma = np.array([[16, 235], [126, 0]], np.uint8)
    done = preprocess(YuvFrame("nv21", (luma, np.full((1, 2), 128, np.uint8))), task)
    np.testing.assert_array_equal(done[0], np.broadcast_to([[0, 255], [128, 0]], (3, 2, 2)))
    for planes in ((), (luma,), (luma, np.zeros((2, 2), np.uint8)), (luma, np.zeros((1, 2), np.int8))):
        with pytest.raises(DataError):
            preprocess(YuvFrame("nv21", planes), task)
