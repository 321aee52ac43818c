"""The TFLite reader: against LiteRT itself, and against broken files."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright.errors import ModelNotFound, ModelUnreadable
from edgewright.formats.tflite.reader import invert_names, name_tensors, read_graph, read_precision, read_signature
from edgewright.schema.model import GraphNode, Quantization, TensorSpec
from tests.models.tflite_files import (
    Names,
    Node,
    Tensor,
    alter_tflite,
    write_convnet,
    write_dense,
    write_int8_convnet,
    write_sum,
    write_tflite,
)
from tests.paths import ROOT

pytest.importorskip("ai_edge_litert", reason="writes its models with ai-edge-litert's schema")

MODELS = ROOT.parent / "shared/data/models"
REAL = sorted(MODELS.glob("*.tflite"))


def test_signature_reports_names_types_and_shapes(tmp_path: Path) -> None:
    signature = read_signature(write_convnet(tmp_path / "m.tflite"))
    assert signature.inputs == (TensorSpec(name="x", dtype="float32", shape=(1, 8, 8, 3)),)
    assert signature.outputs == (TensorSpec(name="y", dtype="float32", shape=(1, 5)),)


def test_signature_reports_the_quantization_of_a_tensor_with_one_scale(tmp_path: Path) -> None:
    (x,) = read_signature(write_int8_convnet(tmp_path / "m.tflite")).inputs
    assert x.dtype == "int8"
    assert x.quantization == Quantization(scale=float(np.float32(0.05)), zero_point=-3)


def test_a_free_size_is_an_empty_name(tmp_path: Path) -> None:
    assert [t.shape for t in read_signature(write_sum(tmp_path / "m.tflite")).inputs] == [("", 4), ("", 4)]


def test_one_signature_def_gives_the_names_in_the_order_of_the_graph(tmp_path: Path) -> None:
    names = Names({"second": "b", "first": "a"}, {"total": "c"})
    signature = read_signature(write_sum(tmp_path / "m.tflite", [names]))
    assert [t.name for t in signature.inputs] == ["first", "second"]
    assert [t.name for t in signature.outputs] == ["total"]
    (node,) = read_graph(tmp_path / "m.tflite")
    assert node == GraphNode(name="ADD#0", op="ADD", inputs=("first", "second"), outputs=("total",))


@pytest.mark.parametrize(
    "signatures",
    [
        [Names({"p": "a", "q": "b"}, {"r": "c"}, "one"), Names({"s": "a", "t": "b"}, {"u": "c"}, "two")],
        [Names({"p": "a"}, {"c": "c"})],
    ],
    ids=["two signature defs", "one that leaves an input out"],
)
def test_otherwise_the_tensors_give_the_names(tmp_path: Path, signatures: list[Names]) -> None:
    signature = read_signature(write_sum(tmp_path / "m.tflite", signatures))
    assert [t.name for t in signature.inputs] == ["a", "b"]


def test_names_are_made_unique() -> None:
    assert name_tensors([4, 5, 6], {4: "x", 5: "x", 6: ""}, {}) == ("x", "x#5", "tensor#6")
    assert name_tensors([4, 4], {4: "x"}, {4: "s"}) == ("s", "s#4")


def test_graph_leaves_constants_and_absent_inputs_out(tmp_path: Path) -> None:
    graph = read_graph(write_convnet(tmp_path / "m.tflite"))
    assert [node.name for node in graph] == [
        "CONV_2D#0",
        "ADD#1",
        "AVERAGE_POOL_2D#2",
        "RESHAPE#3",
        "FULLY_CONNECTED#4",
    ]
    assert [node.inputs for node in graph] == [("x",), ("conv", "conv"), ("sum",), ("pool",), ("flat",)]
    (dense,) = read_graph(write_dense(tmp_path / "d.tflite", "float32"))
    assert dense.inputs == ("x",)


def test_a_custom_operator_is_named_by_its_code(tmp_path: Path) -> None:
    tensors = [Tensor("x", (1,)), Tensor("y", (1,))]
    write_tflite(tmp_path / "m.tflite", tensors, [Node("MyOperator", ("x",), ("y",))], ["x"], ["y"])
    assert [node.op for node in read_graph(tmp_path / "m.tflite")] == ["MyOperator"]


def test_an_operator_code_beyond_the_old_byte_is_read(tmp_path: Path) -> None:
    tensors = [Tensor("x", (1,)), Tensor("y", (1,))]
    write_tflite(tmp_path / "m.tflite", tensors, [Node("GELU", ("x",), ("y",))], ["x"], ["y"])
    assert [node.op for node in read_graph(tmp_path / "m.tflite")] == ["GELU"]


@pytest.mark.parametrize(
    ("kind", "precision"),
    [("float32", "fp32"), ("float16", "fp16"), ("int8", "w8a8-dynamic"), ("dequantized", "w8")],
)
def test_precision_of_a_dense_layer(tmp_path: Path, kind: str, precision: str) -> None:
    assert read_precision(write_dense(tmp_path / "m.tflite", kind)) == precision


def test_precision_of_an_int8_convnet(tmp_path: Path) -> None:
    assert read_precision(write_int8_convnet(tmp_path / "m.tflite")) == "w8a8"


@pytest.mark.parametrize(
    ("activation", "precision"), [("int16", "w8a16"), ("int8", "w8a8"), ("uint8", "w8a8"), ("float32", "w8a8-dynamic")]
)
def test_precision_follows_the_activations(tmp_path: Path, activation: str, precision: str) -> None:
    write_two_dense(tmp_path / "m.tflite", activation, activation)
    assert read_precision(tmp_path / "m.tflite") == precision


def test_float_and_int8_operators_together_are_mixed(tmp_path: Path) -> None:
    write_two_dense(tmp_path / "m.tflite", "int8", "float32")
    assert read_precision(tmp_path / "m.tflite") == "mixed"


def test_half_precision_with_some_float_weights_is_fp16(tmp_path: Path) -> None:
    half, single = np.zeros((2, 2), np.float16), np.zeros((2, 2), np.float32)
    tensors = [Tensor(name, (1, 2)) for name in "xyz"]
    tensors += [Tensor("w", (2, 2), "float16", half), Tensor("wide", (2, 2)), Tensor("v", (2, 2), "float32", single)]
    nodes = [
        Node("DEQUANTIZE", ("w",), ("wide",)),
        Node("FULLY_CONNECTED", ("x", "wide", ""), ("y",)),
        Node("FULLY_CONNECTED", ("y", "v", ""), ("z",)),
    ]
    assert read_precision(write_tflite(tmp_path / "m.tflite", tensors, nodes, ["x"], ["z"])) == "fp16"


def test_without_compute_operators_the_tensors_decide(tmp_path: Path) -> None:
    tensors = [Tensor("x", (1,), "int8"), Tensor("y", (1,), "int8")]
    write_tflite(tmp_path / "m.tflite", tensors, [Node("RELU", ("x",), ("y",))], ["x"], ["y"])
    assert read_precision(tmp_path / "m.tflite") == "w8a8"


def test_an_output_that_is_the_first_tensor_counts_too(tmp_path: Path) -> None:
    tensors = [Tensor("y", (1,), "int8"), Tensor("x", (1,))]
    write_tflite(tmp_path / "m.tflite", tensors, [Node("QUANTIZE", ("x",), ("y",))], ["x"], ["y"])
    assert read_precision(tmp_path / "m.tflite") == "w8a8"


@pytest.mark.parametrize(("activation", "precision"), [("float32", "w4"), ("int8", "w4a8"), ("uint8", "w4a8")])
def test_precision_of_four_bit_weights(tmp_path: Path, activation: str, precision: str) -> None:
    tensors = [Tensor("x", (1, 2), activation), Tensor("w", (2, 2), "int4", np.zeros(2, np.uint8), (1.0,))]
    tensors.append(Tensor("y", (1, 2), activation))
    nodes = [Node("FULLY_CONNECTED", ("x", "w", ""), ("y",))]
    assert read_precision(write_tflite(tmp_path / "m.tflite", tensors, nodes, ["x"], ["y"])) == precision


@pytest.mark.parametrize(
    ("offset", "size", "precision"),
    [(0, 10**9, "fp32"), (1, 10**9, "fp32"), (8, 0, "fp32"), (8, 2, "w8a8-dynamic")],
    ids=["none", "placeholder", "empty", "data"],
)
def test_weights_may_lie_behind_the_flatbuffer(tmp_path: Path, offset: int, size: int, precision: str) -> None:
    def move(model: Any) -> None:
        model.buffers[1].data, model.buffers[1].offset, model.buffers[1].size = None, offset, size

    assert read_precision(alter_tflite(write_dense(tmp_path / "m.tflite", "int8"), move)) == precision


def test_a_scale_without_a_zero_point_has_zero(tmp_path: Path) -> None:
    def drop(model: Any) -> None:
        model.subgraphs[0].tensors[0].quantization.zeroPoint = None

    (x,) = read_signature(alter_tflite(write_int8_convnet(tmp_path / "m.tflite"), drop)).inputs
    assert x.quantization == Quantization(scale=float(np.float32(0.05)), zero_point=0)


def test_of_two_names_the_first_in_the_alphabet_counts() -> None:
    assert invert_names([("b", 1), ("a", 1), ("c", 1), ("", 2)]) == {1: "a"}


def write_two_dense(path: Path, first: str, second: str) -> None:
    """Two FULLY_CONNECTED side by side with int8 weights and the given activations."""
    stored = np.zeros((2, 2), np.int8)
    tensors = [Tensor(f"{name}{kind}", (1, 2), kind) for kind in (first, second) for name in "xy"]
    tensors.append(Tensor("w", (2, 2), "int8", stored, (1.0,)))
    nodes = [Node("FULLY_CONNECTED", (f"x{kind}", "w", ""), (f"y{kind}",)) for kind in (first, second)]
    write_tflite(path, tensors, nodes, [f"x{first}", f"x{second}"], [f"y{first}", f"y{second}"])


# Broken files


def read_all(path: Path) -> None:
    read_signature(path)
    read_graph(path)
    read_precision(path)


def test_no_file_and_a_folder_are_not_found(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.tflite", tmp_path):
        with pytest.raises(ModelNotFound):
            read_signature(path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"TFL3", "4 bytes"),
        (b"\0" * 64, "TFL3"),
        (b"\xff\xff\xff\x7fTFL3" + b"\0" * 64, "truncated"),
        (Random(0).randbytes(4096), "TFL3"),
    ],
    ids=["empty", "tiny", "zeros", "far root", "random"],
)
def test_what_is_no_model_is_reported_in_three_lines(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelUnreadable) as caught:
        read_signature(path)
    assert "m.tflite" in caught.value.what
    assert why in caught.value.why
    assert caught.value.try_this


def set_code(model: Any) -> None:
    model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = -1


def set_placeholder(model: Any) -> None:
    model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = 127


def set_input(model: Any) -> None:
    model.subgraphs[0].operators[0].inputs = [0, -2]


def set_type(model: Any) -> None:
    model.subgraphs[0].tensors[0].type = 99


def set_buffer(model: Any) -> None:
    model.buffers = model.buffers[:1]
    model.subgraphs[0].tensors[0].buffer = 1


def set_shape(model: Any) -> None:
    model.subgraphs[0].tensors[0].shapeSignature = [-2, 4]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (set_code, "operator code -1 is unknown"),
        (set_placeholder, "operator code 127 is unknown"),
        (set_input, "it refers to tensor -2"),
        (set_type, "tensor type 99 is unknown"),
        (set_buffer, "it refers to buffer 1, but has 1 buffers"),
        (set_shape, "the shape of a tensor is impossible"),
    ],
)
def test_values_that_the_schema_does_not_know_are_refused(
    tmp_path: Path, change: Callable[[Any], None], why: str
) -> None:
    with pytest.raises(ModelUnreadable) as caught:
        read_signature(alter_tflite(write_sum(tmp_path / "m.tflite"), change))
    assert why in caught.value.why


def test_a_disk_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("edgewright.formats.tflite.reader.mmap.mmap", fail)
    with pytest.raises(ModelUnreadable) as caught:
        read_signature(write_sum(tmp_path / "m.tflite"))
    assert caught.value.why == "Input/output error"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    names = [Names({"in": "x"}, {"out": "y"})]
    return write_convnet(tmp_path_factory.mktemp("whole") / "m.tflite", signatures=names).read_bytes()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.95])
def test_a_truncated_model_is_rejected(tmp_path: Path, whole: bytes, share: float) -> None:
    (tmp_path / "m.tflite").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelUnreadable, match="truncated"):
        read_signature(tmp_path / "m.tflite")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_bytes_never_end_in_anything_else(tmp_path: Path, whole: bytes, data: st.DataObject) -> None:
    content = bytearray(whole)
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=30)):
        content[at] = value
    path = tmp_path / "m.tflite"
    path.write_bytes(content[: data.draw(st.integers(0, len(whole)))])
    try:
        read_all(path)
    except ModelUnreadable as error:
        assert error.what
        assert error.why


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 2**32 - 1)), min_size=1, max_size=4))
def test_wild_offsets_and_counts_never_end_in_anything_else(
    tmp_path: Path, whole: bytes, words: list[tuple[int, int]]
) -> None:
    content = bytearray(whole)
    for word, value in words:
        content[word * 4 : word * 4 + 4] = value.to_bytes(4, "little")
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    try:
        read_all(path)
    except ModelUnreadable as error:
        assert error.why


def test_vectors_that_share_their_bytes_are_rejected(tmp_path: Path, whole: bytes) -> None:
    """A million tensors that are all one tensor: each is valid, together they are more than the file holds."""
    content = bytearray(whole)
    one = find_tensor(content)
    content += b"\0" * (-len(content) % 4)
    start, count = len(content), 200_000
    content += count.to_bytes(4, "little")
    for i in range(count):
        # Offsets are unsigned and lead forward, so the shared tensor must lie behind the vector.
        content += (4 * (count - i)).to_bytes(4, "little")
    content += tensor_with_a_long_name()
    patch_tensors(content, one, start)
    (tmp_path / "m.tflite").write_bytes(content)
    with pytest.raises(ModelUnreadable, match="overlap"):
        read_signature(tmp_path / "m.tflite")


def find_tensor(content: bytearray) -> int:
    """Where the main subgraph's field for its tensors lies."""

    def word(at: int) -> int:
        return int.from_bytes(content[at : at + 4], "little")

    def field(table: int, slot: int) -> int:
        vtable = table - int.from_bytes(content[table : table + 4], "little", signed=True)
        return table + int.from_bytes(content[vtable + 4 + 2 * slot : vtable + 6 + 2 * slot], "little")

    model = word(0)
    subgraphs = field(model, 2) + word(field(model, 2))
    subgraph = subgraphs + 4 + word(subgraphs + 4)
    return field(subgraph, 0)


def patch_tensors(content: bytearray, field: int, vector: int) -> None:
    content[field : field + 4] = (vector - field).to_bytes(4, "little")


def tensor_with_a_long_name() -> bytes:
    """A table whose only field is slot 3, a text of 4,096 letters; its vtable stands behind it."""
    table = (-8 & 0xFFFFFFFF).to_bytes(4, "little") + (20 - 4).to_bytes(4, "little")
    vtable = b"".join(part.to_bytes(2, "little") for part in (12, 8, 0, 0, 0, 4))
    return table + vtable + (4096).to_bytes(4, "little") + b"n" * 4096


# Against LiteRT


def compare_with_litert(path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    signature = read_signature(path)
    for details, specs in (
        (interpreter.get_input_details(), signature.inputs),
        (interpreter.get_output_details(), signature.outputs),
    ):
        assert [d["name"] for d in details] == [spec.name for spec in specs]
        assert [np.dtype(d["dtype"]).name for d in details] == [spec.dtype for spec in specs]
        reported = [tuple("" if size < 0 else size for size in d["shape_signature"].tolist()) for d in details]
        assert reported == [spec.shape for spec in specs]
        for detail, spec in zip(details, specs, strict=True):
            scale, zero_point = detail["quantization"]
            expected = Quantization(scale=float(scale), zero_point=zero_point) if scale else None
            assert spec.quantization == expected


def compare_operators(path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    graph = read_graph(path)
    details = interpreter._get_ops_details()
    assert [d["op_name"] for d in details] == [node.op for node in graph]
    assert [len(d["outputs"]) for d in details] == [len(node.outputs) for node in graph]
    tensors = [name for node in graph for name in node.outputs]
    assert len(set(tensors)) == len(tensors)


@pytest.mark.parametrize("write", [write_convnet, write_int8_convnet, write_sum])
def test_written_models_are_read_as_litert_reads_them(tmp_path: Path, write: object) -> None:
    assert callable(write)
    path = write(tmp_path / "m.tflite")
    compare_with_litert(path)
    compare_operators(path)


@pytest.mark.shared_data
@pytest.mark.skipif(not REAL, reason="the evaluation models do not lie beside the checkout")
@pytest.mark.parametrize("path", REAL or [MODELS], ids=lambda path: path.name)
def test_real_models_are_read_as_litert_reads_them(path: Path) -> None:
    compare_with_litert(path)
    compare_operators(path)


@pytest.mark.shared_data
@pytest.mark.skipif(not REAL, reason="the evaluation models do not lie beside the checkout")
def test_real_models_cut_short_are_rejected(tmp_path: Path) -> None:
    for path in islice(REAL, 3):
        content = path.read_bytes()
        for share in (0.1, 0.5, 0.99):
            (tmp_path / "m.tflite").write_bytes(content[: int(len(content) * share)])
            with pytest.raises(ModelUnreadable):
                read_signature(tmp_path / "m.tflite")
