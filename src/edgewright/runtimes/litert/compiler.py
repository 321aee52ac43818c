"""TFLite files from ONNX by Edgewright's writer, or by converters in isolated environments."""

import shutil
from collections.abc import Iterator
from importlib.metadata import version as installed_version
from pathlib import Path

from edgewright.errors import EdgewrightError
from edgewright.formats.artifacts import make_same_port
from edgewright.formats.tflite.reader import read_graph, read_signature
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.litert.writer import Converted, ConvertedPort, Io, TaskMetadata, convert_onnx
from edgewright.runtimes.wire import Compiled, CompileRequest
from edgewright.schema.artifact import IoMap, Port
from edgewright.schema.model import Signature, TensorSpec
from edgewright.schema.plan import ModelMetadata


def compile_model(request: CompileRequest) -> Compiled:
    """See `contract.Runtime.compile`."""
    if request.format == "tflite":
        return _copy_tflite(request)
    converter = request.options.get("converter", "writer")
    if converter != "writer" and _read_io(request) == "integer":
        raise NotConvertible(f"{converter} does not write integer inputs and outputs", "omit converter= or io=")
    match converter:
        case "onnx2tf":
            from edgewright.runtimes.litert.converters.isolated import compile_onnx2tf

            return compile_onnx2tf(request)
        case "litert-torch":
            from edgewright.runtimes.litert.converters.isolated import compile_litert_torch

            return compile_litert_torch(request)
    return _write_model(request)


def _write_model(request: CompileRequest) -> Compiled:
    """Convert with Edgewright's writer. The caller compares the outputs, so the writer's own check is skipped."""
    try:
        converted = convert_onnx(
            Path(request.source),
            shapes=request.shapes,
            io=_read_io(request),
            precision="fp16" if request.precision == "fp16" else "fp32",
            check="none",
            task=_to_task_metadata(request.metadata),
        )
    except EdgewrightError as error:
        raise NotConvertible(f"{error.what}: {error.why}" if error.why else error.what, error.try_this) from error
    main = f"{request.stem}.tflite"
    path = Path(request.folder) / main
    path.write_bytes(converted.data)
    return Compiled(
        main=main,
        io_map=_map_io(converted, read_signature(path)),
        tools={name: installed_version(name) for name in ("onnx", "ai-edge-litert", "flatbuffers")},
        origins=_trace_origins(converted, path),
        notes=converted.notes,
    )


def _read_io(request: CompileRequest) -> Io:
    match request.options.get("io"):
        case "source":
            return "source"
        case "integer":
            return "integer"
    return "channels_last"


def _to_task_metadata(metadata: ModelMetadata | None) -> TaskMetadata | None:
    """Return the metadata in the writer's form."""
    return TaskMetadata(labels=metadata.labels, mean=metadata.mean, std=metadata.std) if metadata else None


def _map_io(converted: Converted, signature: Signature) -> IoMap:
    """Return the map of the file's tensors, which keep the source's names; images may have their channels last."""
    specs = {spec.name: spec for spec in (*signature.inputs, *signature.outputs)}
    return IoMap(
        inputs=tuple(_as_port(one, specs[one.name]) for one in converted.inputs),
        outputs=tuple(_as_port(one, specs[one.name]) for one in converted.outputs),
    )


def _as_port(one: ConvertedPort, spec: TensorSpec) -> Port:
    source_shape = [0] * len(one.axes)
    for size, axis in zip(one.shape, one.axes, strict=True):
        source_shape[axis] = size
    return Port(
        source=one.name,
        name=one.name,
        source_shape=tuple(source_shape),
        source_dtype=one.dtype,
        axes=one.axes,
        shape=one.shape,
        dtype=spec.dtype,
        quantization=spec.quantization,
    )


def _trace_origins(converted: Converted, path: Path) -> dict[str, tuple[str, ...]]:
    """Return the ONNX nodes of every operator, by its name in `formats.tflite`."""
    return {node.name: nodes for node, nodes in zip(read_graph(path), converted.sources, strict=True) if nodes}


def _copy_tflite(request: CompileRequest) -> Compiled:
    """Copy a TFLite file, which is in LiteRT's own format already."""
    main = f"{request.stem}.tflite"
    path = Path(request.folder) / main
    shutil.copyfile(request.source, path)
    signature = read_signature(path)
    return Compiled(
        main=main,
        io_map=IoMap(
            inputs=tuple(make_same_port(spec) for spec in signature.inputs),
            outputs=tuple(make_same_port(spec) for spec in signature.outputs),
        ),
        tools={},
        notes=tuple(_find_float_ports(signature)) if _read_io(request) == "integer" else (),
    )


def _find_float_ports(signature: Signature) -> Iterator[str]:
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            if spec.dtype.startswith("float"):
                yield f"{kind} '{spec.name}' stays {spec.dtype}: a TFLite file is used unchanged"
