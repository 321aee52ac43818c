"""MNN files from ONNX by MNN's converter, whose result is checked."""

import math
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from edgewright.formats.onnx.constants import list_inputs_without_constants
from edgewright.formats.onnx.prepare import save_model
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.mnn.conversion.int8 import describe_layers as describe_layers
from edgewright.runtimes.mnn.conversion.int8 import (
    find_layers,
    find_quantized_layers,
    make_no_layer_error,
    write_parameters,
)
from edgewright.runtimes.mnn.conversion.int8_graph import prepare_int8_graph
from edgewright.runtimes.mnn.conversion.normalize import extract_floats, infer_shapes, normalize_model
from edgewright.runtimes.mnn.conversion.trial import TrialResult
from edgewright.runtimes.mnn.graph import set_stable_uuid
from edgewright.runtimes.wire import Compiled, CompileRequest
from edgewright.schema.artifact import IoMap, Port
from edgewright.schema.model import Signature, TensorSpec
from edgewright.system.temporary import TemporaryFolder

# LSTM and GRU stay one operator: MNN's interpreter does not run them as loops, and the converter crashed on one.
FLAGS = ("--useOriginRNNImpl",)
PRECISION_FLAGS = {"fp16": ("--fp16",)}
UNKNOWN = re.compile(r"These Op Not Support: (.*)")
DONE = "Converted Success!"
ENGINE_ERROR_WORDS = ("Error", "error", "don't support")
NO_NODE = "the model has no nodes"
MOST_ATTEMPTS = 3


class OnnxPort(NamedTuple):
    """An input or output of the ONNX model; -1 for a dynamic size."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class ProcessOutput(NamedTuple):
    """Exit status and output of the converter's process."""

    code: int
    text: str


def compile_model(request: CompileRequest) -> Compiled:
    """See `contract.Runtime.compile`. Only a QDQ model becomes one with INT8 layers."""
    model = _read_source(Path(request.source))
    inputs, outputs = _read_values(model)
    main = f"{request.stem}.mnn"
    notes: tuple[str, ...] = ()
    with TemporaryFolder() as folder:
        if request.precision == "w8a8":
            notes = _convert_quantized(model, folder, main)
        else:
            source = _save_onnx(normalize_model(model, request.precision), folder)
            output = _convert(source, folder / main, PRECISION_FLAGS.get(request.precision, ()))
            _check_converted(output, folder / main, model)
        (folder / main).write_bytes(set_stable_uuid((folder / main).read_bytes()))
        signature = _try_out(folder / main, folder)
        _move_files(folder, main, Path(request.folder))
    return Compiled(
        main=main,
        io_map=IoMap(
            inputs=_match_ports(inputs, signature.inputs),
            outputs=_match_ports(outputs, signature.outputs),
        ),
        tools={"onnx": installed_version("onnx"), "MNN": installed_version("MNN")},
        notes=notes,
    )


def _convert_quantized(model: Any, folder: Path, main: str) -> tuple[str, ...]:
    """Convert the float graph of a QDQ model together with its scales; return notes.

    If the converter leaves layers in float, which then require their bounds, it runs again with the others as INT8.
    """
    extracted = extract_floats(model)
    layers, left = find_layers(extracted)
    parameters = folder / "scales.bin"
    for _ in range(MOST_ATTEMPTS):
        if not layers:
            raise make_no_layer_error(left)
        write_parameters(layers, parameters)
        source = _save_onnx(normalize_model(infer_shapes(prepare_int8_graph(extracted, layers)), "w8a8"), folder)
        output = _convert(source, folder / main, ("--compressionParamsFile", str(parameters)))
        _check_converted(output, folder / main, model)
        done = find_quantized_layers(folder / main, layers)
        if len(done) == len(layers):
            return describe_layers(done, left)
        left.update({layer.node: "MNN's converter did not convert it" for layer in layers if layer.node not in done})
        layers = [layer for layer in layers if layer.node in done]
    raise NotConvertible("MNN's converter selects different layers for INT8 on each run")


def _read_source(path: Path) -> Any:
    import onnx

    try:
        return infer_shapes(onnx.load(str(path)))
    except Exception as error:  # classes of protobuf and onnx, and missing weights
        raise NotConvertible(f"the model cannot be read: {str(error).strip()[:300]}") from error


def _read_values(model: Any) -> tuple[list[OnnxPort], list[OnnxPort]]:
    """Return the inputs without weights, and the outputs."""
    fed = list_inputs_without_constants(model.graph)
    return [_describe(value) for value in fed], [_describe(value) for value in model.graph.output]


def _describe(value: Any) -> OnnxPort:
    from onnx.helper import tensor_dtype_to_np_dtype

    if not value.type.HasField("tensor_type") or not value.type.tensor_type.elem_type:
        raise NotConvertible(f"'{value.name}' is not a tensor")
    kind = value.type.tensor_type
    sizes = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim)
    return OnnxPort(value.name, tensor_dtype_to_np_dtype(kind.elem_type).name, sizes)


def _save_onnx(model: Any, folder: Path) -> Path:
    path = folder / "source.onnx"
    save_model(model, path)
    return path


def _convert(source: Path, target: Path, flags: Sequence[str]) -> ProcessOutput:
    """Run the converter in the folder of its files, so that other files that it writes are removed with the folder."""
    return _run_module("convert", [str(source), str(target), *FLAGS, *flags], target.parent)


def _run_module(name: str, arguments: Sequence[str], folder: Path) -> ProcessOutput:
    """Run one of our modules in a separate process, whose output also goes to the worker's log."""
    command = [sys.executable, "-P", "-m", f"edgewright.runtimes.mnn.conversion.{name}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=folder, check=False)  # noqa: S603 - our own module
    text = done.stdout + done.stderr
    sys.stderr.write(text)
    return ProcessOutput(done.returncode, text)


def _check_converted(output: ProcessOutput, target: Path, model: Any) -> None:
    """Raise NotConvertible if the converter failed, whatever it reports."""
    if unknown := UNKNOWN.search(output.text):
        raise _unknown_operators(unknown.group(1), model)
    if output.code < 0:
        raise NotConvertible(f"MNN's converter was ended by signal {-output.code}: {_get_last_words(output.text)}")
    if output.code or DONE not in output.text or not target.is_file():
        raise NotConvertible(f"MNN's converter fails: {_get_last_words(output.text)}")


def _unknown_operators(listed: str, model: Any) -> NotConvertible:
    """Return each unsupported operator with the first of its nodes."""
    ops = [part.strip().removeprefix("ONNX::") for part in listed.split("|")]
    first = {node.op_type: node.name for node in reversed(model.graph.node)}
    lines = [f"MNN does not support the operator {op} (node {first.get(op, NO_NODE)})" for op in ops if op]
    return NotConvertible("\n".join(lines), "replace these operators, or compile for another runtime")


def _get_last_words(text: str) -> str:
    """Return the end of the converter's output, which has the cause."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and DONE not in line]
    return " / ".join(lines[-3:])[:500] or "no reason was reported"


def _find_engine_errors(text: str) -> str:
    """Return the lines in which MNN's engine reports errors."""
    found = [line.strip() for line in text.splitlines() if any(word in line for word in ENGINE_ERROR_WORDS)]
    return f"({' / '.join(found[:2])[:300]})" if found else ""


def _move_files(folder: Path, main: str, to: Path) -> None:
    """Move the artifact's files: the model, and its weights if they are separate."""
    for name in (main, f"{main}.weight"):
        if (folder / name).is_file():
            (to / name).write_bytes((folder / name).read_bytes())


def _try_out(path: Path, folder: Path) -> Signature:
    """Load and run the file once, to detect unsupported and crashing operators."""
    answer = folder / "verdict.json"
    output = _run_module("trial", [str(path), str(answer)], folder)
    if output.code < 0:
        raise NotConvertible(f"MNN converts the model but crashes when running it, with signal {-output.code}")
    if output.code or not answer.is_file():
        raise NotConvertible(f"MNN converts the model but cannot run it: {_get_last_words(output.text)}")
    verdict = msgspec.json.decode(answer.read_bytes(), type=TrialResult)
    if verdict.signature is None:
        raise NotConvertible(
            f"MNN converts the model but cannot run it: {verdict.why} {_find_engine_errors(output.text)}"
        )
    return verdict.signature


def _match_ports(values: Sequence[OnnxPort], specs: Sequence[TensorSpec]) -> tuple[Port, ...]:
    """Return the ports, whose names MNN keeps. Raises NotConvertible if one is missing or has another number of
    values."""
    found = {spec.name: spec for spec in specs}
    if lost := [value.name for value in values if value.name not in found]:
        raise NotConvertible(f"MNN's converter loses {', '.join(lost)}")
    return tuple(_as_port(value, found[value.name]) for value in values)


def _as_port(value: OnnxPort, spec: TensorSpec) -> Port:
    sizes = tuple(size if isinstance(size, int) else -1 for size in spec.shape)
    known = value.shape if -1 not in value.shape else sizes
    if math.prod(known) != math.prod(sizes):
        raise NotConvertible(f"MNN reports shape {list(sizes)} for '{value.name}', but the model has {list(known)}")
    return Port(
        source=value.name,
        name=spec.name,
        source_shape=known,
        source_dtype=value.dtype,
        axes=tuple(range(len(known))),
        shape=sizes,
        dtype=spec.dtype,
    )
