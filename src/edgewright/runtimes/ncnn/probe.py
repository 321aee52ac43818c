"""All tensors of an ONNX model in one run of ONNX Runtime, and all blobs of an ncnn model in one run of ncnn.

They show the shapes and types of all tensors, the constants that can be folded, and
the tensor of each of ncnn's blobs.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.formats.onnx.constants import list_inputs_without_constants
from edgewright.kernels.custom.native import register_operators
from edgewright.kernels.custom.place import find_operators_path
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.ncnn.param import ParamRow
from edgewright.runtimes.ncnn.session import load_net, to_mat
from edgewright.schema.arrays import Array

SEED = 0


def run_all_tensors(model: Any) -> dict[str, Array]:
    """Return every tensor by name, including inputs and outputs. Raises NotConvertible if ONNX Runtime rejects the
    model.

    Values inside the graphs of If and Loop, and values that are no tensors, are omitted.
    """
    import onnxruntime
    from onnx import ValueInfoProto

    shown = deepcopy(model)
    known = {value.name for value in shown.graph.output}
    names = dict.fromkeys(name for node in shown.graph.node for name in node.output if name)
    shown.graph.output.extend(ValueInfoProto(name=name) for name in names if name not in known)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if (path := find_operators_path(Path())) is not None:
        register_operators(options, path)
    try:
        session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
        feeds = _make_feeds(model)
        arrays = session.run(None, feeds)
    except Exception as error:  # the library raises a dozen classes of its own
        raise NotConvertible(f"ONNX Runtime cannot run the model: {str(error).strip()[:300]}") from error
    made = dict(zip((value.name for value in session.get_outputs()), arrays, strict=True))
    return feeds | {name: array for name, array in made.items() if isinstance(array, np.ndarray)}


def _make_feeds(model: Any) -> dict[str, Array]:
    """Return seeded inputs: normal floats, integers that are valid rows of the tables that they index, else 0 and 1."""
    from onnx import helper

    generator = np.random.default_rng(SEED)
    constants = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    feeds: dict[str, Array] = {}
    for value in list_inputs_without_constants(model.graph):
        kind = value.type.tensor_type
        shape = tuple(dim.dim_value for dim in kind.shape.dim)
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if dtype.kind == "f":
            feeds[value.name] = generator.standard_normal(shape).astype(dtype)
        elif dtype.kind in "iub":
            rows = _count_rows(model, value.name, constants)
            feeds[value.name] = np.asarray(generator.integers(0, rows, shape)).astype(dtype)
        else:
            raise NotConvertible(f"input '{value.name}' is {dtype.name}, which ncnn does not support")
    return feeds


def _count_rows(model: Any, tensor: str, constants: dict[str, tuple[int, ...]]) -> int:
    """Return the rows of the smallest constant table that the tensor indexes; 2 where it is no index."""
    tables = [
        constants[node.input[0]]
        for node in model.graph.node
        if node.op_type == "Gather" and node.input[1] == tensor and node.input[0] in constants
    ]
    return min((shape[0] for shape in tables if shape), default=2)


def run_all_blobs(param: Path, weights: Path, rows: Sequence[ParamRow], feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Return every blob that ncnn computes in float32, by name; those from the first failing layer on are
    missing.
    """
    net = load_net(param, weights, lightmode=False)
    extractor = net.create_extractor()
    for name, array in feeds.items():
        extractor.input(name, to_mat(array))
    blobs: dict[str, Array] = {}
    for top in (top for row in rows if row.op != "Input" for top in row.tops):
        code, mat = extractor.extract(top)
        if code != 0 or mat.dims == 0:
            break
        blobs[top] = mat.numpy().copy()
    return blobs
