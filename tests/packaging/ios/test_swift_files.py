"""The generated Swift files, and what the Swift library does not have."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edgewright.api.field.package import PackageRequest, make_package
from edgewright.errors import ConfigError, ModelNotConvertible
from edgewright.packaging.contract import AppContract, AppEngine, AppInput, AppModel, AppTensor
from edgewright.packaging.ios import check
from edgewright.packaging.ios.parameters import write_package, write_parameters
from edgewright.tasks.spec.task import Boxes, Classification, Embedding, ImageInput, NextToken, Regression, TokensInput
from tests.paths import ROOT

DIGITS = ROOT / "src/edgewright/flows/digits"
IMAGE = ImageInput(name="x", size=(9, 7), resize="pad", resize_to=None, mean=(1.5, 2.0, 3.0), std=4, color="BGR")


def make_tensor(name: str, shape: tuple[int, ...], dtype: str = "float32") -> AppTensor:
    axes = tuple(range(len(shape)))
    return AppTensor(
        name=name, source=name, shape=shape, dtype=dtype, source_shape=shape, source_dtype=dtype, axes=axes
    )


def make_contract(**changes: Any) -> AppContract:
    files = {"net.mlpackage/Manifest.json": "0"}
    model = AppModel(
        main="net.mlpackage", files=files, sha256="ab", bytes=1, runtime="coreml", format="coreml", precision="fp32"
    )
    contract = AppContract(
        name='A "name"',
        identifier="a_name",
        app_id="com.example.a",
        model=model,
        engine=AppEngine(),
        inputs=(AppInput(tensor=make_tensor("x", (1, 3, 9, 7)), preprocessing=IMAGE),),
        outputs=(make_tensor("y", (1, 4)),),
        answer=Classification(name="y"),
        labels=(),
        first_pass="columns",
        version="1",
    )
    return replace(contract, **changes)


def test_labels_are_literals() -> None:
    labels = ('say "a"', "\\(run())", "a\nb", "é日", "\x07\x08", "a\\bin", "x\\u1234", "")
    text = write_parameters(make_contract(labels=labels))
    wanted = [
        '"say \\"a\\""',
        '"\\\\(run())"',
        '"a\\u{000a}b"',
        '"é日"',
        '"\\u{0007}\\u{0008}"',
        '"a\\\\bin"',
        '"x\\\\u1234"',
        '""',
    ]
    assert f"labels: [{', '.join(wanted)}]" in text


def test_the_parameters_of_an_image() -> None:
    text = write_parameters(make_contract())
    for part in (
        "size: (9, 7), resize: .pad, resizeTo: (0, 0)",
        "color: .bgr, scale: [1.0, 1.0, 1.0], mean: [1.5, 2.0, 3.0], std: [4.0, 4.0, 4.0]",
        "rowsFirstIfTall: false",
        'model = "net"',
    ):
        assert part in text
    assert 'name: "a_name"' in write_package(make_contract())


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (Boxes(boxes="b", scores="s", format="cxcywh", most=9), 'outputs: ("b", "s", ""), format: .cxcywh'),
        (Embedding(name="y", normalize=False), '.embedding(output: "y", normalize: false)'),
        (Regression(name="y", unit="m"), '.regression(output: "y", unit: "m")'),
    ],
)
def test_other_answers(answer: Any, part: str) -> None:
    assert part in write_parameters(make_contract(answer=answer))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"answer": NextToken(name="y")}, "next-token"),
        ({"outputs": (make_tensor("y", (1, 4), "int8"),)}, "'y' is int8"),
        (
            {"inputs": (AppInput(tensor=make_tensor("t", (1, 8)), preprocessing=TokensInput(name="t", length=8)),)},
            "'t' is not an image",
        ),
    ],
)
def test_what_the_library_does_not_have(changes: dict[str, Any], what: str) -> None:
    check(make_contract())
    with pytest.raises(ConfigError, match=what):
        check(make_contract(**changes))


def test_another_format_names_the_command(tmp_path: Path) -> None:
    model, task = str(DIGITS / "digits.onnx"), str(DIGITS / "task.toml")
    request = PackageRequest(target="ios", artifacts=(model,), task=task, output=str(tmp_path / "app"))
    with pytest.raises(ModelNotConvertible) as failed:
        make_package(request)
    assert f"edgewright compile {model} --runtime coreml" in failed.value.try_this
    assert failed.value.exit_code == 6
