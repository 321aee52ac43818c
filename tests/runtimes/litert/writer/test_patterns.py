"""Parts of networks that are written in the form that LiteRT runs fastest."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.onnx_files import constant, node, value, weights, write_onnx
from tests.runtimes.litert.writer.compare import Compared, compare, count_partitions

FLOAT_DB = 80.0


def run(
    folder: Path, nodes: list[Any], constants: list[Any], shape: list[int], outputs: tuple[str, ...] = ("y",)
) -> Compared:
    made = [value(name, None) for name in outputs]
    compared = compare(write_onnx(folder / "m.onnx", nodes, [value("x", shape)], made, constants))
    assert compared.sqnr_db >= FLOAT_DB
    return compared


@pytest.mark.parametrize(
    ("stride", "dilation", "pads"), [(1, 1, [3, 3, 3, 3]), (2, 1, [3, 3, 3, 3]), (1, 2, [6, 6, 6, 6]), (1, 1, [0] * 4)]
)
def test_a_large_depthwise_kernel_goes_in_bands(tmp_path: Path, stride: int, dilation: int, pads: list[int]) -> None:
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], "deep", kernel_shape=[7, 7], group=8, pads=pads,
             strides=[stride, stride], dilations=[dilation, dilation]),
        node("Relu", ["c"], ["y"], "relu"),
    ]  # fmt: skip
    compared = run(tmp_path, nodes, [weights("w", 8, 1, 7, 7), weights("b", 8, seed=1)], [1, 8, 17, 19])
    assert compared.codes["DEPTHWISE_CONV_2D"] == 3
    assert count_partitions(compared.converted.data) == 1


def test_a_pool_behind_a_clamp_is_padded_with_zeros(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], "conv", kernel_shape=[3, 3]),
        node("Relu", ["c"], ["r"], "relu"),
        node("MaxPool", ["r"], ["y"], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    ]
    compared = run(tmp_path, nodes, [weights("w", 8, 3, 3, 3), weights("b", 8, seed=1)], [1, 3, 18, 18])
    assert compared.converted.operators == ("CONV_2D", "PAD", "MAX_POOL_2D")
    assert count_partitions(compared.converted.data) == 1


def test_a_pool_of_negative_numbers_is_not(tmp_path: Path) -> None:
    nodes = [
        node("Neg", ["x"], ["n"]),
        node("Exp", ["n"], ["e"]),
        node("Neg", ["e"], ["m"]),
        node("MaxPool", ["m"], ["y"], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    ]
    assert run(tmp_path, nodes, [], [1, 3, 8, 8]).codes["PADV2"] == 1


def test_a_pixel_shuffle_behind_a_convolution_moves_nothing(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], "conv", kernel_shape=[3, 3]),
        node("DepthToSpace", ["c"], ["y"], "shuffle", blocksize=3, mode="CRD"),
    ]
    compared = run(tmp_path, nodes, [weights("w", 18, 3, 3, 3), weights("b", 18, seed=1)], [1, 3, 8, 8])
    assert compared.converted.operators == ("CONV_2D", "DEPTH_TO_SPACE")


@pytest.mark.parametrize("cube", ["Pow", "Mul"])
def test_gelu_by_tanh_is_found_in_pieces(tmp_path: Path, cube: str) -> None:
    power = [node("Pow", ["x", "three"], ["c"])]
    product = [node("Mul", ["x", "x"], ["q"]), node("Mul", ["q", "x"], ["c"])]
    nodes = [
        *(power if cube == "Pow" else product),
        node("Mul", ["c", "share"], ["s"]),
        node("Add", ["x", "s"], ["a"]),
        node("Mul", ["a", "root"], ["r"]),
        node("Tanh", ["r"], ["t"]),
        node("Add", ["t", "one"], ["o"]),
        node("Mul", ["x", "o"], ["h"]),
        node("Mul", ["h", "half"], ["y"], "gelu"),
    ]
    numbers = {"three": 3.0, "share": 0.044715, "root": (2 / np.pi) ** 0.5, "one": 1.0, "half": 0.5}
    compared = run(tmp_path, nodes, [constant(name, number) for name, number in numbers.items()], [2, 50])
    assert compared.converted.operators == ("GELU",)


def test_a_formula_that_is_nearly_gelu_stays_as_it_is(tmp_path: Path) -> None:
    nodes = [
        node("Pow", ["x", "two"], ["c"]),
        node("Mul", ["c", "share"], ["s"]),
        node("Add", ["x", "s"], ["a"]),
        node("Mul", ["a", "root"], ["r"]),
        node("Tanh", ["r"], ["t"]),
        node("Add", ["t", "one"], ["o"]),
        node("Mul", ["x", "o"], ["h"]),
        node("Mul", ["h", "half"], ["y"]),
    ]
    numbers = {"two": 2.0, "share": 0.044715, "root": (2 / np.pi) ** 0.5, "one": 1.0, "half": 0.5}
    assert run(tmp_path, nodes, [constant(n, v) for n, v in numbers.items()], [2, 50]).codes["GELU"] == 0


def test_parts_of_several_sizes_and_a_picked_row_are_slices(tmp_path: Path) -> None:
    nodes = [
        node("Split", ["x", "sizes"], ["a", "b", "c"], axis=1),
        node("Gather", ["b", "one"], ["y"], axis=1),
        node("Gather", ["c", "run"], ["z"], axis=1),
    ]
    constants = [constant("sizes", [2, 3, 5], "int64"), constant("one", 1, "int64"), constant("run", [1, 2], "int64")]
    compared = run(tmp_path, nodes, constants, [2, 10, 4], ("a", "y", "z"))
    assert set(compared.codes) <= {"SLICE", "RESHAPE"}
    assert count_partitions(compared.converted.data) == 1


@pytest.mark.parametrize(("start", "step", "size"), [(0, 2, 8), (1, 2, 8), (0, 2, 9), (1, 3, 9), (2, 4, 11), (3, 5, 6)])
def test_every_so_many_rows(tmp_path: Path, start: int, step: int, size: int) -> None:
    nodes = [node("Slice", ["x", "starts", "ends", "axes", "steps"], ["y"], "leap")]
    numbers = {"starts": [start, start], "ends": [size, size], "axes": [1, 2], "steps": [step, step]}
    constants = [constant(name, number, "int64") for name, number in numbers.items()]
    run(tmp_path, nodes, constants, [2, size, size, 3])


def test_the_weights_of_a_recurrent_cell_are_stored_once(tmp_path: Path) -> None:
    constants = [weights("w", 1, 4 * 64, 8), weights("r", 1, 4 * 64, 64, seed=1), weights("b", 1, 8 * 64, seed=2)]
    nodes = [node("LSTM", ["x", "w", "r", "b"], ["y"], "cell", hidden_size=64)]
    compared = run(tmp_path, nodes, constants, [20, 1, 8])
    assert len(compared.converted.data) < 2 * 4 * (4 * 64 * (8 + 64 + 2))


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_recurrence_with_the_batch_first(tmp_path: Path, op: str) -> None:
    """ONNX Runtime has no such kernel: it is held against the same cell with the time first."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    constants = [
        weights("w", 2, gates * 6, 3),
        weights("r", 2, gates * 6, 6, seed=1),
        weights("b", 2, 2 * gates * 6, seed=2),
    ]
    attributes: dict[str, Any] = {"hidden_size": 6, "direction": "bidirectional"}
    from edgewright.runtimes.litert.writer import convert_onnx
    from tests.runtimes.litert.writer.node_tests import run_litert

    results = []
    x = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32)
    for layout in (0, 1):
        nodes = [node(op, ["x", "w", "r", "b"], ["y", "h"], "cell", layout=layout, **attributes)]
        fed = x.transpose(1, 0, 2) if layout else x
        outputs = [value("y", None), value("h", None)]
        path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", fed.shape)], outputs, constants)
        results.append(run_litert(convert_onnx(path, io="source", check="none").data, {"x": fed}))
    assert np.array_equal(results[0]["y"].transpose(2, 0, 1, 3), results[1]["y"])
    assert np.array_equal(results[0]["h"].transpose(1, 0, 2), results[1]["h"])


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("dilation", [1, 2])
def test_pools_over_three_axes(tmp_path: Path, op: str, dilation: int) -> None:
    attributes: dict[str, Any] = {"kernel_shape": [2, 3, 2], "strides": [1, 2, 2], "pads": [0, 1, 1, 1, 1, 0]}
    attributes["dilations"] = [dilation, 1, dilation]
    nodes = [node(op, ["x"], ["y"], "pool", **attributes)]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [2, 3, 6, 7, 8])], [value("y", None)], opset=19)
    assert compare(path).sqnr_db >= FLOAT_DB


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("bij,bjk->bik", ([2, 3, 4], [2, 4, 5])),
        ("bhqd,bhkd->bhqk", ([2, 3, 4, 5], [2, 3, 6, 5])),
        ("bqhd,bkhd->bhqk", ([2, 4, 3, 5], [2, 6, 3, 5])),
        ("bhqk,bkhd->bqhd", ([2, 3, 4, 6], [2, 6, 3, 5])),
        ("...ij,...jk->...ik", ([2, 3, 4, 5], [2, 3, 5, 6])),
        ("i,j->ij", ([4], [5])),
        ("ij,ij->", ([4, 5], [4, 5])),
        ("abc,cd->abd", ([2, 3, 4], [4, 5])),
        ("abc,b->ac", ([2, 3, 4], [3])),
        ("abc->ca", ([2, 3, 4],)),
        ("ij,jk", ([2, 3], [3, 4])),
    ],
)
def test_einsum(tmp_path: Path, equation: str, shapes: tuple[list[int], ...]) -> None:
    names = ["x", "z"][: len(shapes)]
    nodes = [node("Einsum", names, ["y"], "sum", equation=equation)]
    inputs = [value(name, shape) for name, shape in zip(names, shapes, strict=True)]
    path = write_onnx(tmp_path / "m.onnx", nodes, inputs, [value("y", None)], opset=13)
    assert compare(path).sqnr_db >= FLOAT_DB


@pytest.mark.parametrize("mode", ["cubic", "linear"])
@pytest.mark.parametrize("size", [5, 16])
def test_resizing_by_products_with_matrices(tmp_path: Path, mode: str, size: int) -> None:
    nodes = [node("Resize", ["x", "", "", "sizes"], ["y"], "resize", mode=mode, antialias=1)]
    constants = [constant("sizes", [1, 3, size, size + 1], "int64")]
    run(tmp_path, nodes, constants, [1, 3, 10, 11])
