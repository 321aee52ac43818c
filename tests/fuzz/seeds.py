"""The files that are mutated: written once for a run of the fuzzer, the same bytes every time."""

import re
import shutil
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from edgewright.store.store import open_store
from tests.fuzz.settings_cases import as_member, pack
from tests.models import onnx_files, tflite_files
from tests.models.tflite_files import Node, Tensor
from tests.paths import ROOT
from tests.web.records import fill

DIGITS = ROOT / "src/edgewright/flows/digits"


def write_seeds(folder: Path) -> Path:
    """Write all seeds below an empty folder, and return it."""
    for name in ("onnx", "tflite", "exports", "settings"):
        (folder / name).mkdir(parents=True)
    write_onnx_seeds(folder / "onnx")
    write_tflite_seeds(folder / "tflite")
    write_settings(folder / "settings")
    write_exports(folder / "exports", folder / "home")
    return folder


def write_onnx_seeds(folder: Path) -> None:
    for name in ("digits.onnx", "digits_int8.onnx"):
        shutil.copy(DIGITS / name, folder / name)
    onnx_files.write_conv_net(folder / "conv.onnx")
    onnx_files.write_conv_net(folder / "conv_free.onnx", batch="N")
    onnx_files.write_residual_net(folder / "residual.onnx")
    onnx_files.write_qdq_net(folder / "qdq.onnx")
    onnx_files.write_branches(folder / "branches.onnx")
    onnx_files.write_control_flow(folder / "control.onnx")
    onnx_files.write_sequence(folder / "sequence.onnx")
    onnx_files.write_no_input(folder / "no_input.onnx")
    onnx_files.write_expand(folder / "expand.onnx")
    onnx_files.write_many_outputs(folder / "many.onnx")
    write_shapes(folder / "shapes.onnx")
    write_recurrent(folder / "recurrent.onnx")


def write_shapes(path: Path) -> None:
    """Write a model whose operators compute sizes: what is folded, and can be made to grow."""
    node = onnx_files.node
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["rows"]),
        node("Range", ["zero", "limit", "one"], ["r"]),
        node("ConstantOfShape", ["sizes"], ["c"]),
        node("Tile", ["c", "repeats"], ["t"]),
        node("Expand", ["t", "wide"], ["e"]),
        node("Reshape", ["x", "square"], ["y"]),
        node("Pad", ["y", "pads"], ["p"]),
        node("Slice", ["p", "starts", "ends"], ["part"]),
        node("OneHot", ["places", "depth", "values"], ["hot"]),
        node("ReduceSum", ["e"], ["total"], keepdims=0),
        node("Add", ["part", "total"], ["out"]),
    ]
    sizes = {"sizes": [2, 3], "repeats": [2, 2], "wide": [4, 6], "square": [4, 4], "pads": [0, 0, 1, 1],
             "starts": [0, 0], "ends": [2, 2], "places": [1, 2],
             "zero": 0, "one": 1, "limit": 5, "depth": 4}  # fmt: skip
    constants = [onnx_files.constant(name, held, np.int64) for name, held in sizes.items()]
    constants.append(onnx_files.constant("values", [0.0, 1.0]))
    outputs = [
        onnx_files.value(name, None, kind) for name, kind in (("out", "FLOAT"), ("r", "INT64"), ("hot", "FLOAT"))
    ]
    onnx_files.write_onnx(path, nodes, [onnx_files.value("x", ["N", 16])], outputs, constants)


def write_recurrent(path: Path) -> None:
    """Write a model with an LSTM and a Loop."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["again"]), helper.make_node("Add", ["sum_in", "sum_in"], ["sum_out"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_value_info("sum_in", TensorProto.FLOAT, [1, 1, 4])],
        [helper.make_tensor_value_info("again", TensorProto.BOOL, []),
         helper.make_tensor_value_info("sum_out", TensorProto.FLOAT, [1, 1, 4])],
    )  # fmt: skip
    nodes = [
        onnx_files.node("LSTM", ["x", "w", "r"], ["", "h"], "lstm", hidden_size=4),
        onnx_files.node("Loop", ["trips", "yes", "h"], ["y"], "loop", body=body),
    ]
    constants = [onnx_files.weights("w", 1, 16, 3), onnx_files.weights("r", 1, 16, 4),
                 onnx_files.constant("trips", 3, np.int64), onnx_files.constant("yes", True, np.bool_)]  # fmt: skip
    onnx_files.write_onnx(
        path, nodes, [onnx_files.value("x", [5, 1, 3])], [onnx_files.value("y", [1, 1, 4])], constants
    )


def write_tflite_seeds(folder: Path) -> None:
    tflite_files.write_convnet(folder / "conv.tflite")
    tflite_files.write_int8_convnet(folder / "int8.tflite")
    tflite_files.write_sum(folder / "sum.tflite", [tflite_files.Names({"left": "a", "right": "b"}, {"sum": "c"})])
    for kind in ("float32", "float16", "int8", "dequantized"):
        tflite_files.write_dense(folder / f"dense_{kind}.tflite", kind)
    write_cells(folder / "cells.tflite")


def write_cells(path: Path) -> None:
    """Write a model with operators that keep state or take many inputs."""
    data = tflite_files.weights
    tensors = [
        Tensor("x", (1, 8)), Tensor("w", (4, 8), data=data((4, 8))), Tensor("r", (4, 4), data=data((4, 4))),
        Tensor("b", (4,), data=data((4,))), Tensor("h", (1, 4)), Tensor("y", (1, 4)), Tensor("z", (1, 4, 1)),
        Tensor("m", (1, 1, 4)), Tensor("p", (1, 4, 4)), Tensor("axis", (1,), "int32", np.array([1], np.int32)),
        Tensor("q", (1, 4)),
    ]  # fmt: skip
    nodes = [
        Node("RNN", ("x", "w", "r", "b", "h"), ("y",), "RNNOptions"),
        Node("EXPAND_DIMS", ("y", "axis"), ("m",), "ExpandDimsOptions"),
        Node("EXPAND_DIMS", ("y", "axis"), ("z",), "ExpandDimsOptions"),
        Node("BATCH_MATMUL", ("z", "m"), ("p",), "BatchMatMulOptions"),
        Node("MEAN", ("p", "axis"), ("q",), "ReducerOptions"),
    ]
    tflite_files.write_tflite(path, tensors, nodes, ["x", "h"], ["q"])


def write_settings(folder: Path) -> None:
    shutil.copy(DIGITS / "digits.onnx", folder)
    shutil.copy(DIGITS / "task.toml", folder)
    with np.load(DIGITS / "heldout.npz") as held:
        images, labels = held["images"][:16], held["labels"][:16]
    (folder / "small.npz").write_bytes(pack({"images.npy": as_member(images), "labels.npy": as_member(labels)}))
    image = (images[:1, None] / 16).astype(np.float32)
    (folder / "inputs.npz").write_bytes(pack({"image.npy": as_member(image)}))


def write_exports(folder: Path, home: Path) -> None:
    """Write a home with good runs, and an export of each under a fixed id."""
    with open_store(home) as store:
        runs = vars(fill(store))
        for name, run in runs.items():
            store.export_run(run.id, folder / name)
    names = {run.id: f"01M8MKTEKJ9V5544WAC4{place:06}" for place, run in enumerate(runs.values())}
    for record in folder.glob("*/run.json"):
        text = re.sub("|".join(names), lambda found: names[found.group()], record.read_text())
        record.write_text(text)
