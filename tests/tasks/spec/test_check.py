"""Task, model and data that do not match are reported before work starts, with the likely fix."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.errors import ConfigError, DataError
from edgewright.schema.model import Signature, TensorSpec
from edgewright.tasks.data.dataset import open_dataset
from edgewright.tasks.spec.check import check_labels, check_task, count_model_classes
from edgewright.tasks.spec.file import Task
from edgewright.tasks.spec.task import (
    AudioInput,
    Boxes,
    Classification,
    ImageInput,
    NextToken,
    TensorInput,
    TokensInput,
)

Shape = tuple[int | str, ...]


def model(shape: Shape, dtype: str = "float32", classes: int | str = 10, name: str = "x") -> Signature:
    return Signature(
        inputs=(TensorSpec(name=name, dtype=dtype, shape=shape),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(1, classes)),),
    )


def pictures(output: Classification | None = None, **more: Any) -> Task:
    one = {"name": "x", "size": (32, 32), **more}
    return Task(inputs=(ImageInput(**one),), output=output or Classification())


def said(task: Task, signature: Signature) -> str:
    with pytest.raises(ConfigError) as caught:
        check_task(task, signature)
    return f"{caught.value.what} | {caught.value.why} | {caught.value.try_this}"


def test_what_fits() -> None:
    check_task(pictures(), model((1, 3, 32, 32)))
    check_task(pictures(), model(("n", 3, "h", "w")))
    check_task(pictures(layout="NHWC"), model(("", 32, 32, 3)))
    check_task(pictures(Classification(classes=9, first_class=1)), model((1, 3, 32, 32)))


@pytest.mark.parametrize(
    ("task", "signature", "words"),
    [
        (pictures(), model((1, 32, 32, 3)), 'layout = "NHWC" in the task'),
        (pictures(layout="NHWC"), model((1, 3, 32, 32)), 'layout = "NCHW" in the task'),
        (pictures(), model((1, 1, 32, 32)), 'color = "gray" in the task'),
        (pictures(color="gray"), model((1, 3, 32, 32)), 'color = "RGB" in the task'),
        (pictures(), model((1, 32, 32, 1)), 'layout = "NHWC" and color = "gray" in the task'),
        (pictures(), model((1, 3, 48, 64)), "size = [48, 64] in the task"),
        (pictures(), model((1, 48, 64, 3)), 'layout = "NHWC" and size = [48, 64] in the task'),
        (pictures(), model((1, 3, 32, 32), "uint8"), 'dtype = "uint8" in the task, with mean = 0'),
        (pictures(), model((1, 3, 32, 32), "int8"), 'dtype = "int8" in the task, with mean = 128'),
        (pictures(), model((8, 3, 32, 32)), "fixed batch of 8"),
        (pictures(), model((1, 3, 32, 32), name="image"), 'name = "image" in the task'),
        (pictures(Classification(classes=11)), model((1, 3, 32, 32)), "classes = 10 in the task"),
        (pictures(Classification(classes=9)), model((1, 3, 32, 32)), "first_class = 1 in the task"),
        (pictures(Classification(name="z")), model((1, 3, 32, 32)), "the model has no output 'z'"),
        (
            Task(inputs=(TokensInput(name="x", length=8, dtype="int32"),), output=NextToken(), metric="perplexity"),
            model((1, 16), "int32"),
            "length = 16 in the task",
        ),
        (
            Task(inputs=(AudioInput(name="x", sample_rate=8000, window=8000),), output=Classification()),
            model((1, 16000, 1)),
            "window = 16000 and shape = [1, 16000, 1] in the task",
        ),
        (
            Task(inputs=(TensorInput(name="x", shape=(1, 3)),), output=Classification()),
            model(("n", 4)),
            "shape = [1, 4] in the task",
        ),
        (
            Task(inputs=(ImageInput(name="x", size=(32, 32)),), output=Boxes(boxes="b"), metric="map"),
            model((1, 3, 32, 32)),
            "the model has no output 'b'",
        ),
    ],
)
def test_the_likely_fix(task: Task, signature: Signature, words: str) -> None:
    assert words in said(task, signature)


def test_inputs_that_one_side_does_not_know() -> None:
    two = Signature(
        inputs=(
            TensorSpec(name="x", dtype="int64", shape=(1, 8)),
            TensorSpec(name="mask", dtype="int64", shape=(1, 8)),
        ),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(1, 8, 100)),),
    )
    tokens = TokensInput(name="x", length=8)
    task = Task(inputs=(tokens,), output=NextToken(), metric="perplexity")
    assert "does not describe the model's input 'mask'" in said(task, two)
    masked = Task(inputs=(TokensInput(name="x", length=8, mask="mask"),), output=NextToken(), metric="perplexity")
    check_task(masked, two)


def test_a_labels_file_of_another_model(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    for count, words in ((12, "labels file that belongs to the model"), (9, "first_class = 1")):
        file.write_text("\n".join(f"class {i}" for i in range(count)))
        assert words in said(pictures(Classification(labels=str(file))), model((1, 3, 32, 32)))


def test_labels_are_checked_against_the_model(tmp_path: Path) -> None:
    task = pictures()
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 32, 32), np.uint8), labels=np.array([0, 9, 10]))
    with open_dataset(str(tmp_path / "d.npz"), task) as data:
        check_labels(data, task, model((1, 3, 32, 32)), [0, 1])
        check_labels(data, task, model((1, 3, 32, 32), classes="c"), [2])
        with pytest.raises(DataError, match="the label 10 is out of range"):
            check_labels(data, task, model((1, 3, 32, 32)), [0, 1, 2])
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 32, 32), np.uint8))
    with open_dataset(str(tmp_path / "d.npz"), task) as data, pytest.raises(DataError, match="has no labels"):
        check_labels(data, task, model((1, 3, 32, 32)), [0])


def test_what_the_model_distinguishes() -> None:
    assert count_model_classes(pictures(), model((1, 3, 32, 32))) == 10
    assert count_model_classes(pictures(Classification(first_class=1)), model((1, 3, 32, 32))) == 9
    assert count_model_classes(pictures(), model((1, 3, 32, 32), classes=1)) == 0
