"""The contract of an app: what the parameter files of all languages are written from."""

from typing import Any

import msgspec
import pytest

from edgewright.errors import ConfigError
from edgewright.packaging.contract import AppEngine, AppModel, AppNames, check_expressible, make_contract
from edgewright.schema.artifact import Port
from edgewright.tasks.spec.task import Boxes, Classification, ImageInput, Task, TensorInput

MODEL = AppModel(
    main="8 bit.tflite", files={}, sha256="0", bytes=1, runtime="litert", format="tflite", precision="fp32"
)


def make_port(axes: tuple[int, ...], shape: tuple[int, ...], name: str = "x") -> Port:
    source = tuple(shape[axes.index(i)] for i in range(len(axes)))
    return Port(
        source=name, name=f"{name}_0", source_shape=source, source_dtype="float32", axes=axes, shape=shape,
        dtype="float32",
    )  # fmt: skip


def make(task: Task, port: Port) -> Any:
    output = make_port((0, 1), (1, 10), "y")
    return make_contract(task, MODEL, ([port], [output]), AppEngine(), AppNames())


@pytest.mark.parametrize(
    ("layout", "axes", "folded"),
    [
        ("NCHW", (0, 1, 2, 3), "NCHW"),
        ("NCHW", (0, 2, 3, 1), "NHWC"),
        ("NHWC", (0, 1, 2, 3), "NHWC"),
        ("NHWC", (0, 3, 1, 2), "NCHW"),
    ],
)
def test_the_layout_is_that_of_the_artifact(layout: Any, axes: tuple[int, ...], folded: str) -> None:
    spec = ImageInput(name="x", size=(8, 6), layout=layout)
    shape = tuple(spec.shape[axis] for axis in axes)
    contract = make(Task(inputs=(spec,), output=Classification()), make_port(axes, shape))
    assert contract.image == msgspec.structs.replace(spec, layout=folded)
    assert contract.image.shape == shape


def test_a_layout_that_no_app_has() -> None:
    spec = ImageInput(name="x", size=(8, 6))
    with pytest.raises(ConfigError, match="layout"):
        make(Task(inputs=(spec,), output=Classification()), make_port((0, 3, 2, 1), (1, 6, 8, 3)))


def test_names_are_filled_in(tmp_path: Any) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("one\ntwo\n")
    spec = ImageInput(name="x", size=(8, 6))
    task = Task(inputs=(spec,), output=Boxes(labels=str(labels)))
    contract = make(task, make_port((0, 1, 2, 3), (1, 3, 8, 6)))
    assert (contract.identifier, contract.app_id) == ("model_8_bit", "com.example.model_8_bit")
    assert (contract.answer.boxes, contract.answer.labels, contract.labels) == ("y", "", ("one", "two"))
    assert str(tmp_path) not in msgspec.json.encode(contract).decode()


def test_two_pictures_are_named_with_the_alternative() -> None:
    images = tuple(ImageInput(name=name, size=(8, 6)) for name in ("left", "right"))
    with pytest.raises(ConfigError, match="several image inputs") as caught:
        check_expressible(Task(inputs=images, output=Classification()))
    assert "'right'" in caught.value.try_this
    check_expressible(Task(inputs=(images[0], TensorInput(name="right")), output=Classification()))
