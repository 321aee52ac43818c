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

from edgewright.formats.onnx.reader import get_dtype_name
from edgewright.runtimes.contract import Array, NotConvertible
from edgewright.runtimes.litert.converters.ports import ReferenceIo, make_feed
from edgewright.runtimes.litert.writer.convert import SPATIAL, TRANSPARENT
from edgewright.runtimes.wire import CompileRequest

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


def _list_ports(graph: Any) -> tuple[list[Any], list[Any]]:
    """Return the inputs without weights, and the outputs."""
    constants = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in constants], list(graph.output)


def file_names(graph: Any) -> dict[str, str]:
    """Return names that TensorFlow does not change: the source's own if they are identifiers, else `in_0`, `out_0`."""
    inputs, outputs = _list_ports(graph)
    names = {value.name: f"in_{position}" for position, value in enumerate(inputs)}
    names |= {value.name: f"out_{position}" for position, value in enumerate(outputs)}
    if all(PLAIN.fullmatch(name) for name in names) and len({name.lower() for name in names}) == len(names):
        return {name: name for name in names}
    return names


def _rename(graph: Any, names: Mapping[str, str]) -> None:
    """Rename values everywhere, including subgraphs."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                _rename(inner, names)
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)


def _write_hard_sigmoids(graph: Any) -> None:
    """Replace HardSigmoid(x) by ReLU6(6αx + 6β) / 6 (ONNX operator specification, HardSigmoid-6)."""
    from onnx import helper, numpy_helper

    nodes = []
    for position, node in enumerate(graph.node):
        if node.op_type != "HardSigmoid":
            nodes.append(node)
            continue
        given = {attribute.name: attribute.f for attribute in node.attribute}
        alpha, beta = given.get("alpha", 0.2), given.get("beta", 0.5)
        stem = f"hard_sigmoid_{position}"
        values = {"scale": 6 * alpha, "shift": 6 * beta, "low": 0.0, "high": 6.0, "sixth": 1 / 6}
        for name, number in values.items():
            graph.initializer.append(numpy_helper.from_array(np.asarray(number, np.float32), f"{stem}_{name}"))
        nodes += [
            helper.make_node("Mul", [node.input[0], f"{stem}_scale"], [f"{stem}_scaled"], f"{stem}_mul"),
            helper.make_node("Add", [f"{stem}_scaled", f"{stem}_shift"], [f"{stem}_shifted"], f"{stem}_add"),
            helper.make_node(
                "Clip", [f"{stem}_shifted", f"{stem}_low", f"{stem}_high"], [f"{stem}_cut"], f"{stem}_clip"
            ),
            helper.make_node("Mul", [f"{stem}_cut", f"{stem}_sixth"], list(node.output), node.name),
        ]
    del graph.node[:]
    graph.node.extend(nodes)


def make_input_options(model: Any, *, in_order: bool) -> dict[str, list[str]]:
    """Return onnx2tf's options for the inputs that keep the source's layout."""
    inputs = [value for value in _list_ports(model.graph)[0] if len(value.type.tensor_type.shape.dim) > 2]
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
    seen, waiting = {name}, [name]
    while waiting:
        value = waiting.pop()
        for node in graph.node:
            if value not in node.input:
                continue
            if node.op_type in SPATIAL and node.input[0] in seen:
                return True
            if node.op_type in TRANSPARENT:
                fresh = [output for output in node.output if output not in seen]
                seen.update(fresh)
                waiting += fresh
    return False


def run_reference(source: Path, shapes: Mapping[str, Sequence[int]]) -> ReferenceIo:
    """Return the source's outputs on generated inputs, from ONNX Runtime."""
    import onnx
    import onnxruntime

    graph = onnx.load(str(source), load_external_data=False).graph
    feeds = {
        value.name: make_feed(shapes[value.name], get_dtype_name(value.type.tensor_type.elem_type), position)
        for position, value in enumerate(_list_ports(graph)[0])
    }
    session = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    names = [value.name for value in _list_ports(graph)[1]]
    return ReferenceIo(feeds, dict(zip(names, session.run(names, feeds), strict=True)), file_names(graph))


def explain(log: str, error: BaseException) -> str:
    """Return the lines that onnx2tf marks as errors, else the last line of the exception."""
    lines = [COLOR_CODE.sub("", line).strip() for line in log.splitlines()]
    marked = [line.removeprefix("ERROR:").strip()[:300] for line in lines if line.startswith("ERROR")]
    own = (str(error).strip().splitlines() or [""])[-1][:300]
    reason = "\n".join(dict.fromkeys(line for line in marked[:4] if line))
    return reason or f"{type(error).__name__}: {own}"
