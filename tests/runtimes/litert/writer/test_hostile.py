"""Files that are damaged, mutated or made to harm: named errors, never a crash and never a wrong file."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgewright.errors import EdgewrightError, InputError, ModelNotConvertible, ModelUnreadable, OutputError
from edgewright.runtimes.litert.writer import convert_onnx
from tests.models.onnx_files import constant, node, value, write_conv_net, write_onnx
from tests.runtimes.litert.writer.node_tests import run_litert


def test_mutated_files_give_a_file_or_a_named_error(tmp_path: Path) -> None:
    good = write_conv_net(tmp_path / "good.onnx").read_bytes()
    random = np.random.default_rng(0)
    rejections = 0
    for turn in range(300):
        data = bytearray(good)
        for at in random.integers(0, len(data), random.integers(1, 6)):
            data[at] = random.integers(0, 256)
        try:
            # A process for each would take minutes: most files run in this one.
            converted = convert_onnx(bytes(data), check="numbers" if turn % 10 == 0 else "none")
        except EdgewrightError:
            rejections += 1
            continue
        ones = {entry.name: np.ones(entry.shape) for entry in converted.inputs}
        assert len(run_litert(converted.data, ones)) == len(converted.outputs)
    assert 0 < rejections < 300


@pytest.mark.parametrize("length", [0, 1, 17, 200])
def test_truncated_files_are_unreadable_or_rejected(tmp_path: Path, length: int) -> None:
    good = write_conv_net(tmp_path / "good.onnx").read_bytes()
    with pytest.raises(EdgewrightError):
        convert_onnx(good[:length])


def test_a_cycle_is_named(tmp_path: Path) -> None:
    nodes = [node("Add", ["x", "b"], ["a"], "one"), node("Relu", ["a"], ["b"], "two")]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1])], [value("b", [1])])
    with pytest.raises(ModelUnreadable, match="'one'"):
        convert_onnx(path)


def test_weights_that_are_larger_than_their_bytes(tmp_path: Path) -> None:
    path = write_conv_net(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.graph.initializer[0].dims[0] = 4_000_000
    with pytest.raises(ModelUnreadable):
        convert_onnx(model.SerializeToString())


@pytest.mark.parametrize("size", [-1, 2**40])
def test_impossible_sizes_of_weights(tmp_path: Path, size: int) -> None:
    path = write_conv_net(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.graph.initializer[0].dims[0] = size
    with pytest.raises(ModelUnreadable):
        convert_onnx(model.SerializeToString())


def test_a_constant_that_would_fill_the_memory(tmp_path: Path) -> None:
    nodes = [node("ConstantOfShape", ["s"], ["c"], "huge"), node("Add", ["x", "c"], ["y"], "add")]
    path = write_onnx(
        tmp_path / "m.onnx", nodes, [value("x", [1])], [value("y", None)], [constant("s", [2**20, 2**20], "int64")]
    )
    with pytest.raises(ModelUnreadable, match="impossible"):
        convert_onnx(path)


def test_an_open_size_must_be_given(tmp_path: Path) -> None:
    path = write_conv_net(tmp_path / "m.onnx", batch="n")
    with pytest.raises(InputError, match="no fixed shape"):
        convert_onnx(path)
    with pytest.raises(InputError, match="no input 'z'"):
        convert_onnx(path, shapes={"z": (1,)})
    with pytest.raises(InputError, match="the model's shape is"):
        convert_onnx(path, shapes={"x": (1, 4, 8, 8)})
    assert convert_onnx(path, shapes={"x": (2, 3, 8, 8)}).inputs[0].shape == (2, 8, 8, 3)


def test_an_old_opset_is_rejected(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", [node("Relu", ["x"], ["y"])], [value("x", [1])], [value("y", [1])], opset=9)
    with pytest.raises(ModelNotConvertible, match="opset 9"):
        convert_onnx(path)


def test_text_is_rejected(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.STRING, [2])],
        [helper.make_tensor_value_info("y", TensorProto.STRING, [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(ModelNotConvertible):
        convert_onnx(model.SerializeToString())


@pytest.mark.parametrize("op", ["If", "Loop", "Scan", "Compress", "EyeLike", "Range", "Constant", "Shape", "Resize"])
@pytest.mark.parametrize("inputs", [[], ["k"], ["k", "k"], ["", "", "k"]], ids=len)
@pytest.mark.parametrize("body", ["none", "empty", "number"])
def test_operators_without_what_they_need_are_rejected_if_at_all(
    tmp_path: Path, op: str, inputs: list[str], body: str
) -> None:
    bad = node(op, inputs, ["y"], "bad one")
    for name in ("body", "then_branch", "else_branch", "num_scan_inputs", "axis", "dtype", "end"):
        if body == "empty":
            bad.attribute.append(helper.make_attribute(name, helper.make_graph([], "g", [], [])))
        elif body == "number":
            bad.attribute.append(helper.make_attribute(name, 10**12))
    nodes = [bad, node("Relu", ["y"], ["z"])]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1])], [value("z", [1])], [constant("k", 1, np.int64)])
    try:
        convert_onnx(path, check="none")
    except (ModelNotConvertible, ModelUnreadable) as error:
        assert "the LiteRT writer failed" not in error.what


@pytest.mark.parametrize("version", [2**62, 10**6])
def test_an_opset_that_no_onnx_has(tmp_path: Path, version: int) -> None:
    path = write_conv_net(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.opset_import[0].version = version
    with pytest.raises(ModelUnreadable, match="this opset does not exist"):
        convert_onnx(model.SerializeToString())


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (KeyError("of ours"), ModelNotConvertible),
        (RecursionError("deep"), ModelNotConvertible),
        (OSError(28, "No space left on device"), OutputError),
        (MemoryError(), MemoryError),
        (InputError("as it is"), InputError),
    ],
)
def test_a_fault_of_the_writer_is_no_other_error(
    tmp_path: Path, raised: BaseException, expected: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk and too little memory stay what they are; a fault of the writer keeps its traceback."""

    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr("edgewright.runtimes.litert.writer.convert.write_file", fail)
    with pytest.raises(expected) as caught:
        convert_onnx(write_conv_net(tmp_path / "m.onnx"), check="none")
    assert raised in (caught.value, caught.value.__cause__)
