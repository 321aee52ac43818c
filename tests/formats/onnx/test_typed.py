"""Typed graphs from ONNX: shapes through folding, free sizes, and files that are not what they should be."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from edgewright.errors import EdgewrightError, ExternalDataMissing, InputError, LimitReached, ModelUnreadable
from edgewright.formats.onnx.typed import read_onnx_graph
from edgewright.formats.onnx.typing_process import read_typed
from edgewright.formats.onnx.weightless import encode_varint, load_without_weights
from edgewright.limits import ResourceBudget
from tests.models.onnx_files import (
    constant,
    node,
    value,
    weights,
    write_control_flow,
    write_conv_net,
    write_external,
    write_onnx,
    write_qdq_net,
    write_sequence,
)


def test_every_value_has_its_shape_and_type(tmp_path: Path) -> None:
    graph = read_onnx_graph(write_conv_net(tmp_path / "m.onnx"))
    assert [one.name for one in graph.nodes] == ["conv", "relu", "pool", "flatten", "gemm"]
    assert graph.opset == 18
    assert graph.tensors["c"].shape == (1, 4, 8, 8)
    assert graph.tensors["y"].shape == (1, 5)
    assert graph.tensors["c"].dtype == "float32"
    assert graph.tensors["w"].stored
    assert graph.nodes[0].attributes["pads"] == [1, 1, 1, 1]
    assert graph.assumed == ()


def test_a_leading_free_size_is_one_and_said_so(tmp_path: Path) -> None:
    graph = read_onnx_graph(write_conv_net(tmp_path / "m.onnx", batch="n"))
    assert graph.assumed == ("x",)
    assert graph.tensors["y"].shape == (1, 5)
    assert read_onnx_graph(tmp_path / "m.onnx", {"x": (7, 3, 8, 8)}).tensors["y"].shape == (7, 5)


def test_other_free_sizes_stay_free(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["y"], "relu")]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", ["n", 3, "h", "w"])], [value("y", None)])
    graph = read_onnx_graph(path)
    assert graph.tensors["y"].shape == (1, 3, "h", "w")
    assert graph.tensors["y"].elements() is None
    fixed = read_onnx_graph(path, {"x": (2, 3, 4, 5)})
    assert fixed.tensors["y"].shape == (2, 3, 4, 5)


def test_sizes_that_are_computed_are_folded(tmp_path: Path) -> None:
    """Flattening as TorchScript writes it: Shape, Gather, Concat, Reshape."""
    nodes = [
        node("Shape", ["x"], ["s"], "shape"),
        node("Gather", ["s", "zero"], ["n"], "gather"),
        node("Unsqueeze", ["n", "axes"], ["n1"], "unsqueeze"),
        node("Concat", ["n1", "rest"], ["sizes"], "concat", axis=0),
        node("Reshape", ["x", "sizes"], ["y"], "reshape"),
    ]
    constants = [constant("zero", 0, np.int64), constant("axes", [0], np.int64), constant("rest", [-1], np.int64)]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", ["n", 3, 8])], [value("y", None)], constants)
    graph = read_onnx_graph(path, {"x": (2, 3, 8)})
    assert graph.tensors["y"].shape == (2, 24)
    assert [one.name for one in graph.computing()] == ["reshape"]
    assert graph.tensors["sizes"].constant
    assert not graph.tensors["sizes"].stored


def test_rows_of_large_weights_by_computed_numbers_have_a_shape(tmp_path: Path) -> None:
    """Places of words as torch writes them before it optimizes: Range, Gather from a matrix that is not computed."""
    nodes = [
        node("Range", ["nought", "eight", "one"], ["places"], "range"),
        node("Gather", ["table", "places"], ["rows"], "gather"),
        node("Add", ["x", "rows"], ["y"], "add"),
    ]
    numbers = [constant(name, size, np.int64) for name, size in (("nought", 0), ("eight", 8), ("one", 1))]
    table = onnx.numpy_helper.from_array(np.zeros((9, 1000), np.float32), "table")
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 8, 1000])], [value("y", None)], [*numbers, table])
    graph = read_onnx_graph(path)
    assert graph.tensors["rows"].shape == (8, 1000)
    assert graph.tensors["rows"].constant


def test_group_normalization_has_a_shape(tmp_path: Path) -> None:
    """onnx's own inference says nothing of it."""
    nodes = [
        node("GroupNormalization", ["x", "s", "s"], ["h"], "norm", num_groups=2),
        node("Relu", ["h"], ["y"], "relu"),
    ]
    scale = constant("s", np.ones(4, np.float32), np.float32)
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 4, 8, 8])], [value("y", None)], [scale], opset=21)
    assert read_onnx_graph(path).tensors["y"].shape == (1, 4, 8, 8)


def test_dequantized_weights_are_constant(tmp_path: Path) -> None:
    graph = read_onnx_graph(write_qdq_net(tmp_path / "m.onnx"))
    assert graph.tensors["w1_dq"].constant
    assert not graph.tensors["x_dq"].constant
    assert graph.precision == "w8a8"


@pytest.mark.parametrize(
    ("shapes", "what"),
    [({"z": (1,)}, "no such input"), ({"x": (1, 3, 8)}, "not fit")],
)
def test_shapes_that_do_not_fit(tmp_path: Path, shapes: dict[str, tuple[int, ...]], what: str) -> None:
    path = write_conv_net(tmp_path / "m.onnx")
    with pytest.raises(InputError, match=what):
        read_onnx_graph(path, shapes)


def test_negative_sizes_are_dynamic(tmp_path: Path) -> None:
    relu = [node("Relu", ["x"], ["y"], "relu")]
    path = write_onnx(tmp_path / "m.onnx", relu, [value("x", [-1, 3, "h"])], [value("y", [-1, 3, "h"])])
    graph = read_onnx_graph(path, {"x": (2, 3, 8)})
    assert (graph.tensors["x"].shape, graph.tensors["y"].shape) == ((2, 3, 8), (2, 3, 8))
    assert read_onnx_graph(path).tensors["y"].shape == (1, 3, "h")


def test_unknown_operators_are_reported_and_not_fatal(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mystery", ["x"], ["a"], name="own", domain="my.domain"),
        node("NoSuchOperator", ["a"], ["y"], "absent"),
    ]
    graph = read_onnx_graph(write_onnx(tmp_path / "m.onnx", nodes, [value("x", [2])], [value("y", None)]))
    assert "Mystery of domain 'my.domain' is not known" in graph.nodes[0].problem
    assert graph.nodes[1].problem == ""  # the first one is to blame
    assert graph.tensors["y"].shape is None


@pytest.mark.parametrize("opset", [1, 99])
def test_opsets_beyond_what_onnx_knows(tmp_path: Path, opset: int) -> None:
    path = write_onnx(
        tmp_path / "m.onnx", [node("Relu", ["x"], ["y"])], [value("x", [2])], [value("y", [2])], opset=opset
    )
    assert read_onnx_graph(path).opset == opset


def test_control_flow(tmp_path: Path) -> None:
    graph = read_onnx_graph(write_control_flow(tmp_path / "m.onnx"))
    bodies = {one.op: one.bodies for one in graph.nodes if one.bodies}
    assert bodies == {"If": 2, "Loop": 1}


def test_nameless_and_doubly_named_nodes_get_names(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("Neg", ["a"], ["b"], "same"), node("Abs", ["b"], ["y"], "same")]
    graph = read_onnx_graph(write_onnx(tmp_path / "m.onnx", nodes, [value("x", [2])], [value("y", [2])]))
    names = [one.name for one in graph.nodes]
    assert len(set(names)) == 3
    assert names[:2] == ["Relu#0", "same"]


def test_a_tensor_without_elements(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", [node("Relu", ["x"], ["y"])], [value("x", [0, 3])], [value("y", None)])
    assert read_onnx_graph(path).tensors["y"].elements() == 0


def test_nodes_out_of_order_are_brought_into_one(tmp_path: Path) -> None:
    nodes = [node("Neg", ["a"], ["y"], "second"), node("Relu", ["x"], ["a"], "first")]
    graph = read_onnx_graph(write_onnx(tmp_path / "m.onnx", nodes, [value("x", [2])], [value("y", [2])]))
    assert [one.name for one in graph.nodes] == ["first", "second"]
    assert "order" in graph.notes[0]


def test_functions_are_written_out(tmp_path: Path) -> None:
    body = [node("Relu", ["a"], ["b"]), node("Neg", ["b"], ["c"])]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "Twice", ["a"], ["c"], body, opsets[:1])
    call = helper.make_node("Twice", ["x"], ["y"], domain="own")
    graph = helper.make_graph([call], "g", [value("x", [2])], [value("y", [2])])
    model = helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=10)
    onnx.save(model, str(tmp_path / "m.onnx"))
    read = read_onnx_graph(tmp_path / "m.onnx")
    assert [one.op for one in read.nodes] == ["Relu", "Neg"]
    assert "1 function" in read.notes[0]


def test_an_input_that_is_no_tensor(tmp_path: Path) -> None:
    assert read_onnx_graph(write_sequence(tmp_path / "m.onnx")).tensors["y"].shape is None


# Bad files


def write_cycle(path: Path) -> Path:
    nodes = [node("Add", ["x", "b"], ["a"], "one"), node("Neg", ["a"], ["b"], "two")]
    return write_onnx(path, nodes, [value("x", [2])], [value("b", [2])])


def write_twice(path: Path) -> Path:
    nodes = [node("Neg", ["x"], ["y"]), node("Abs", ["x"], ["y"])]
    return write_onnx(path, nodes, [value("x", [2])], [value("y", [2])])


def write_lost(path: Path) -> Path:
    return write_onnx(path, [node("Neg", ["x"], ["a"])], [value("x", [2])], [value("y", [2])])


@pytest.mark.parametrize(
    ("write", "what"),
    [(write_cycle, "never run"), (write_twice, "two producers"), (write_lost, "no operator produces")],
)
def test_graphs_that_cannot_run(tmp_path: Path, write: object, what: str) -> None:
    assert callable(write)
    with pytest.raises(ModelUnreadable, match=what):
        read_onnx_graph(write(tmp_path / "m.onnx"))


def test_truncated_files_and_garbage(tmp_path: Path) -> None:
    whole = write_conv_net(tmp_path / "m.onnx").read_bytes()
    bad = tmp_path / "bad.onnx"
    for size in (0, 1, 9, len(whole) // 2, len(whole) - 1):
        bad.write_bytes(whole[:size])
        with pytest.raises(ModelUnreadable) as caught:
            read_onnx_graph(bad)
        assert "bad.onnx" in caught.value.what


@pytest.mark.parametrize("seed", range(8))
def test_mutated_files_are_answered(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    data = bytearray(write_conv_net(tmp_path / "m.onnx").read_bytes())
    for _ in range(6):
        data[int(random.integers(len(data)))] = int(random.integers(256))
    (tmp_path / "m.onnx").write_bytes(data)
    try:
        read_onnx_graph(tmp_path / "m.onnx", budget=ResourceBudget(seconds=30))
    except EdgewrightError as error:
        assert error.what


def test_weights_beside_the_model(tmp_path: Path) -> None:
    path = write_external(tmp_path / "m.onnx")
    assert read_onnx_graph(path).data_files == ("weights.bin",)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ExternalDataMissing):
        read_onnx_graph(path)


def test_a_time_limit(tmp_path: Path) -> None:
    with pytest.raises(LimitReached, match="time limit reached"):
        read_onnx_graph(write_conv_net(tmp_path / "m.onnx"), budget=ResourceBudget(seconds=0.001))


# Size


def test_large_weights_are_left_out(tmp_path: Path) -> None:
    path = write_onnx(
        tmp_path / "m.onnx",
        [node("MatMul", ["x", "w"], ["y"])],
        [value("x", [1, 64])],
        [value("y", [1, 64])],
        [weights("w", 64, 64)],
    )
    short = onnx.ModelProto.FromString(load_without_weights(path))
    assert len(load_without_weights(path)) < 500
    assert list(short.graph.initializer[0].dims) == [64, 64]
    assert not short.graph.initializer[0].raw_data
    assert read_onnx_graph(path).tensors["w"].bytes() == 64 * 64 * 4


@pytest.mark.parametrize("cut", [3, 50, 9000])
def test_a_file_that_is_cut_off_is_not_stripped(tmp_path: Path, cut: int) -> None:
    path = write_sparse(tmp_path / "m.onnx", rows=64, columns=64)
    data = path.read_bytes()[:-cut]
    path.write_bytes(data)
    assert load_without_weights(path) == data


def test_a_model_of_a_gigabyte_and_a_half_takes_little_memory(tmp_path: Path) -> None:
    path = write_sparse(tmp_path / "big.onnx", rows=1_500_000, columns=250)
    # In a process of its own: the system counts the largest of all children, and other tests have some too. Of that
    # process itself not `ru_maxrss`: it starts at the peak of the test run that started it.
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from edgewright.formats.onnx.typed import read_onnx_graph\n"
        "from edgewright.runtimes.memory import read_resident_memory\n"
        "graph = read_onnx_graph(Path(sys.argv[1]))\n"
        "print(graph.tensors['w'].bytes(), *graph.tensors['y'].shape)\n"
        "print(read_resident_memory().peak // 1024, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    reported = subprocess.run([sys.executable, "-P", "-c", script, path], capture_output=True, text=True, check=True)
    facts, peaks_kb = reported.stdout.splitlines()
    assert facts == "1500000000 1 250"
    assert all(int(peak) < 600_000 for peak in peaks_kb.split())


def write_sparse(path: Path, rows: int, columns: int) -> Path:
    """A MatMul whose weights are a hole in the file: their bytes come last and are zeros that take no disk."""
    weight = onnx.TensorProto(name="w", dims=[rows, columns], data_type=onnx.TensorProto.FLOAT).SerializeToString()
    count = rows * columns * 4
    raw = b"\x4a" + encode_varint(count)  # TensorProto.raw_data, and then its bytes
    rest = helper.make_graph([node("MatMul", ["x", "w"], ["y"])], "g", [value("x", [1, rows])], [value("y", None)])
    head = rest.SerializeToString()
    tensor_bytes = len(weight) + len(raw) + count
    graph_head = head + b"\x2a" + encode_varint(tensor_bytes) + weight + raw  # GraphProto.initializer
    graph_bytes = len(graph_head) + count
    bare = onnx.ModelProto(ir_version=10, opset_import=[helper.make_opsetid("", 18)]).SerializeToString()
    data = bare + b"\x3a" + encode_varint(graph_bytes) + graph_head  # ModelProto.graph
    path.write_bytes(data)
    with path.open("r+b") as file:
        file.truncate(len(data) + count)
    return path


@pytest.mark.parametrize("version", [2**62, -1, 0, 10**6])
def test_an_opset_that_cannot_be(tmp_path: Path, version: int) -> None:
    path = write_onnx(tmp_path / "m.onnx", [node("NoSuch", ["x"], ["y"])], [value("x", [2])], [value("y", None)])
    model = onnx.load(path)
    model.opset_import[0].version = version
    path.write_bytes(model.SerializeToString())
    assert "opset" in read_typed(path, {}).nodes[0].problem


def test_attributes_of_any_type_and_none(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", [node("Relu", ["x"], ["y"])], [value("x", [2])], [value("y", None)])
    model = onnx.load(path)
    for kind in range(12):
        model.graph.node[0].attribute.add(name=f"of type {kind}", type=kind)
    model.graph.node[0].attribute.add(name="text", type=3, s=b"\xff")
    path.write_bytes(model.SerializeToString())
    found = read_typed(path, {}).nodes[0].attributes
    assert found["text"] == "\ufffd"
    assert found["of type 2"] == 0
    assert found["of type 0"] is None


@pytest.mark.parametrize("sizes", [[-1], [2**63 - 1, 2], [10**12] * 400])
def test_weights_of_impossible_sizes(tmp_path: Path, sizes: list[int]) -> None:
    path = write_conv_net(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.graph.initializer[0].dims[:] = sizes
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelUnreadable, match="impossible sizes"):
        read_typed(path, {})
