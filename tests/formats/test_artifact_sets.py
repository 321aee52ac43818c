"""Sets of artifacts: the choice by sizes, and set files that cannot be trusted."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgewright.errors import InputError, ModelNotFound, ModelUnreadable
from edgewright.formats.artifact_sets import choose_artifact, list_artifacts, read_set_model, write_set
from edgewright.formats.artifacts import find_record, record_path
from edgewright.formats.files import read_model
from edgewright.schema.artifact import Artifact
from tests.models.artifact_records import make_port, put_artifact

WIDTHS = (160, 320)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A set of two artifacts whose input is [1, 3, 48, width]."""
    mains = [
        put_artifact(tmp_path, f"m-{width}-ncnn-fp32.param", port=make_port((1, 3, 48, width))) for width in WIDTHS
    ]
    records = [record for record in map(find_record, mains) if record is not None]
    write_set(tmp_path / "m-ncnn-fp32.set.json", records)
    return tmp_path / "m-ncnn-fp32.set.json"


def change(path: Path, **fields: Any) -> None:
    """Change the last entry of a set."""
    content = msgspec.json.decode(path.read_bytes())
    content["entries"][-1] |= fields
    path.write_bytes(msgspec.json.encode(content))


def test_the_artifact_of_exactly_this_size(path: Path) -> None:
    for width in WIDTHS:
        assert choose_artifact(path, {"x": [1, 3, 48, width]}) == path.with_name(f"m-{width}-ncnn-fp32.param")


def test_another_size_names_those_that_there_are(path: Path) -> None:
    with pytest.raises(InputError, match="no artifact for x=1,3,48,200") as caught:
        choose_artifact(path, {"x": (1, 3, 48, 200)})
    assert "x=1,3,48,160; x=1,3,48,320" in caught.value.why
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("shapes", "text"), [({}, "input 'x' is missing"), ({"x": (1,), "z": (1,)}, "'z' is not an")])
def test_other_inputs(path: Path, shapes: dict[str, tuple[int, ...]], text: str) -> None:
    with pytest.raises(InputError, match=text):
        choose_artifact(path, shapes)


def test_all_artifacts_or_those_of_a_size(path: Path) -> None:
    assert [main.name for main in list_artifacts(path)] == ["m-160-ncnn-fp32.param", "m-320-ncnn-fp32.param"]
    assert [main.name for main in list_artifacts(path, {"x": (1, 3, 48, 320)})] == ["m-320-ncnn-fp32.param"]


def test_a_set_is_a_model_with_dynamic_sizes(path: Path) -> None:
    model = read_set_model(path)
    assert (model.format, model.precision, model.name) == ("ncnn", "fp32", path.name)
    assert [(spec.name, spec.shape) for spec in model.signature.inputs] == [("x", (1, 3, 48, ""))]
    assert model.bytes == sum(read_model(main).bytes for main in list_artifacts(path))


@pytest.mark.parametrize("name", ["../m.param", "/etc/passwd", "a/../../m.param", "C:\\m.param", "", "con"])
def test_names_outside_of_the_folder(path: Path, name: str) -> None:
    for fields in ({"main": name}, {"files": {name: "0" * 64}}):
        change(path, **fields)
        with pytest.raises(ModelUnreadable) as caught:
            list_artifacts(path)
        assert "it refers to a file outside its folder" in caught.value.why


@pytest.mark.parametrize(
    "fields",
    [
        {"files": {"m-320-ncnn-fp32.param": "0" * 64}},
        {"shapes": {"x": (1, 3, 48, 640)}},
        {"main": "m-160-ncnn-fp32.param"},
    ],
)
def test_an_entry_that_its_record_contradicts(path: Path, fields: dict[str, Any]) -> None:
    change(path, **fields)
    with pytest.raises(ModelUnreadable) as caught:
        list_artifacts(path)
    assert "is not the artifact that the set was written for" in caught.value.why


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is not a set of artifacts"),
        (b"[" * 100_000, "is not a set of artifacts"),
        (b'{"schema": "\xff"}', "is not a set of artifacts"),
        (b" " * (17 << 20), "over 16,777,216 bytes"),
    ],
)
def test_a_file_that_is_no_set(path: Path, text: bytes, message: str) -> None:
    path.write_bytes(text)
    with pytest.raises(ModelUnreadable) as caught:
        choose_artifact(path, {"x": (1,)})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schema": "edgewright.artifact-set/9"}, "artifact-set/9"),
        ({"entries": []}, "it has 0 artifacts"),
        ({"inputs": ["z"]}, "other inputs"),
    ],
)
def test_a_set_that_is_inconsistent(path: Path, fields: dict[str, Any], message: str) -> None:
    path.write_bytes(msgspec.json.encode(msgspec.json.decode(path.read_bytes()) | fields))
    with pytest.raises(ModelUnreadable) as caught:
        choose_artifact(path, {"x": (1, 3, 48, 160)})
    assert message in str(caught.value)


def test_too_many_or_equal_entries(path: Path) -> None:
    content = msgspec.json.decode(path.read_bytes())
    for times, message in ((2, "two of its artifacts have the same shapes"), (20, "it has 40 artifacts")):
        path.write_bytes(msgspec.json.encode(content | {"entries": content["entries"] * times}))
        with pytest.raises(ModelUnreadable) as caught:
            list_artifacts(path)
        assert message in caught.value.why


def test_a_missing_artifact(path: Path) -> None:
    main = path.with_name("m-320-ncnn-fp32.param")
    main.with_suffix(".bin").unlink()
    with pytest.raises(ModelUnreadable, match="is incomplete"):
        read_set_model(path)
    record_path(main).unlink()
    with pytest.raises(ModelUnreadable, match="is incomplete"):
        choose_artifact(path, {"x": (1, 3, 48, 320)})
    with pytest.raises(ModelNotFound):
        choose_artifact(path.with_name("absent.set.json"), {"x": (1, 3, 48, 320)})


def test_outputs_that_differ_in_rank(path: Path) -> None:
    record = msgspec.json.decode(record_path(path.with_name("m-320-ncnn-fp32.param")).read_bytes(), type=Artifact)
    signature = msgspec.structs.replace(record.source.signature, outputs=record.source.signature.inputs)
    source = msgspec.structs.replace(record.source, signature=signature)
    changed = msgspec.structs.replace(record, source=source)
    record_path(path.with_name(record.main)).write_bytes(msgspec.json.encode(changed))
    with pytest.raises(ModelUnreadable, match="is inconsistent"):
        read_set_model(path)


def test_a_set_where_one_file_is_expected(path: Path) -> None:
    with pytest.raises(ModelUnreadable, match="is a set of artifacts"):
        read_model(path)
