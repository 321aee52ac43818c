"""Conversion of ONNX to TFLite by onnx2tf 1.29, with workarounds.

- It modifies the file in place, so it gets a copy.
- It downloads an array of images whenever all inputs look like images, unless a file of that name is in the
  current folder: a generated file is there, which it uses only for its own comparisons.
- It treats every input of three or more axes as an image: options keep those that no spatial operator reads.
- Erf becomes TensorFlow's own operator, unless replaced; HardSigmoid becomes one that XNNPACK rejects, unless it is
  written with ReLU6.
- On failure it ends the process, and prints the reason to stdout.
"""

import io
import re
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.formats.neighbors import find_readers
from edgewright.formats.onnx.attributes import iterate_subgraphs, keep_only, read_attribute
from edgewright.formats.onnx.constants import add_initializers, list_inputs_without_constants
from edgewright.formats.onnx.reader import get_dtype_name
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.litert.converters.ports import ReferenceIo, make_feed
from edgewright.runtimes.litert.writer.convert import reaches_spatial
from edgewright.runtimes.wire import CompileRequest
from edgewright.schema.arrays import Array

CALIBRATION_IMAGES_FILE = "calibration_image_sample_data_20x128x128x3_float32.npy"
KINDS: dict[str, str] = {"fp32": "float32", "fp16": "float16"}
PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
COLOR_CODE = re.compile(r"\x1b\[[0-9;]*m")


def convert_onnx_file(request: CompileRequest, folder: Path) -> Path:
    """Return the TFLite file that onnx2tf makes in `folder`, which is the current one. Raises NotConvertible with its
    reason.
    """
    if request.precision not in KINDS:
        raise NotConvertible(f"onnx2tf writes {' and '.join(KINDS)} here, not {request.precision}", "omit converter")
    model = prepare(Path(request.source))
    np.save(folder / CALIBRATION_IMAGES_FILE, _make_calibration_images())
    log = io.StringIO()
    try:
        with redirect_stdout(log):
            _call_onnx2tf(model, folder, make_input_options(model, in_order=request.options.get("io") == "source"))
    except (SystemExit, Exception) as error:  # it has no exception class of its own
        raise NotConvertible(explain(log.getvalue(), error), "try the default converter, or another runtime") from error
    made = folder / "made" / f"model_{KINDS[request.precision]}.tflite"
    if not made.is_file():
        raise NotConvertible(explain(log.getvalue(), FileNotFoundError(made.name)))
    return made


def _call_onnx2tf(model: Any, folder: Path, kept: Mapping[str, list[str]]) -> None:
    import onnx
    import onnx2tf

    path = folder / "model.onnx"
    onnx.save(model, str(path))
    onnx2tf.convert(
        input_onnx_file_path=str(path),
        output_folder_path=str(folder / "made"),
        output_signaturedefs=True,  # keeps the names
        replace_to_pseudo_operators=["erf"],
        non_verbose=True,
        **kept,
    )


def _make_calibration_images() -> Array:
    """Return the array that onnx2tf expects for its images: float32 [20, 128, 128, 3] from 0 to 1."""
    return np.random.default_rng(0).random((20, 128, 128, 3), dtype=np.float32)


def prepare(source: Path) -> Any:
    """Return the model with embedded weights, plain names of inputs and outputs, and HardSigmoid expressed with
    ReLU6."""
    import onnx

    model = onnx.load(str(source))
    _rename(model.graph, file_names(model.graph))
    _write_hard_sigmoids(model.graph)
    return model


def file_names(graph: Any) -> dict[str, str]:
    """Return names that TensorFlow does not change: the source's own if they are identifiers, else `in_0`, `out_0`."""
    inputs = list_inputs_without_constants(graph)
    names = {value.name: f"in_{position}" for position, value in enumerate(inputs)}
    names |= {value.name: f"out_{position}" for position, value in enumerate(graph.output)}
    if all(PLAIN.fullmatch(name) for name in names) and len({name.lower() for name in names}) == len(names):
        return {name: name for name in names}
    return names


def _rename(graph: Any, names: Mapping[str, str]) -> None:
    """Rename values everywhere, including subgraphs."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for inner in iterate_subgraphs(node):
            _rename(inner, names)
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)


def _write_hard_sigmoids(graph: Any) -> None:
    """Replace HardSigmoid(x) by ReLU6(6αx + 6β) / 6 (ONNX operator specification, HardSigmoid-6)."""
    from onnx import helper

    nodes = []
    for position, node in enumerate(graph.node):
        if node.op_type != "HardSigmoid":
            nodes.append(node)
            continue
        alpha, beta = read_attribute(node, "alpha", 0.2), read_attribute(node, "beta", 0.5)
        stem = f"hard_sigmoid_{position}"
        values = {"scale": 6 * alpha, "shift": 6 * beta, "low": 0.0, "high": 6.0, "sixth": 1 / 6}
        add_initializers(graph, {f"{stem}_{name}": np.asarray(one, np.float32) for name, one in values.items()})
        nodes += [
            helper.make_node("Mul", [node.input[0], f"{stem}_scale"], [f"{stem}_scaled"], f"{stem}_mul"),
            helper.make_node("Add", [f"{stem}_scaled", f"{stem}_shift"], [f"{stem}_shifted"], f"{stem}_add"),
            helper.make_node(
                "Clip", [f"{stem}_shifted", f"{stem}_low", f"{stem}_high"], [f"{stem}_cut"], f"{stem}_clip"
            ),
            helper.make_node("Mul", [f"{stem}_cut", f"{stem}_sixth"], list(node.output), node.name),
        ]
    keep_only(graph.node, nodes)


def make_input_options(model: Any, *, in_order: bool) -> dict[str, list[str]]:
    """Return onnx2tf's options for the inputs that keep the source's layout."""
    inputs = [
        value for value in list_inputs_without_constants(model.graph) if len(value.type.tensor_type.shape.dim) > 2
    ]
    images = [value.name for value in inputs if is_image(model.graph, value.name)]
    others = [value.name for value in inputs if value.name not in images]
    options = {"keep_shape_absolutely_input_names": others}
    if in_order:
        options["keep_ncw_or_nchw_or_ncdhw_input_names"] = images
    return {name: names for name, names in options.items() if names}


def is_image(graph: Any, name: str) -> bool:
    """Return whether a spatial operator reads this value, directly or through operators that do not depend on the order
    of axes.
    """
    return reaches_spatial(find_readers(graph.node), name)


def run_reference(source: Path, shapes: Mapping[str, Sequence[int]]) -> ReferenceIo:
    """Return the source's outputs on generated inputs, from ONNX Runtime."""
    import onnx
    import onnxruntime

    graph = onnx.load(str(source), load_external_data=False).graph
    feeds = {
        value.name: make_feed(shapes[value.name], get_dtype_name(value.type.tensor_type.elem_type), position)
        for position, value in enumerate(list_inputs_without_constants(graph))
    }
    session = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    names = [value.name for value in graph.output]
    return ReferenceIo(feeds, dict(zip(names, session.run(names, feeds), strict=True)), file_names(graph))


def explain(log: str, error: BaseException) -> str:
    """Return the lines that onnx2tf marks as errors, else the last line of the exception."""
    lines = [COLOR_CODE.sub("", line).strip() for line in log.splitlines()]
    marked = [line.removeprefix("ERROR:").strip()[:300] for line in lines if line.startswith("ERROR")]
    own = (str(error).strip().splitlines() or [""])[-1][:300]
    reason = "\n".join(dict.fromkeys(line for line in marked[:4] if line))
    return reason or f"{type(error).__name__}: {own}"
