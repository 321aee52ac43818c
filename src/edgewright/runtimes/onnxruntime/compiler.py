"""ONNX for ONNX Runtime: the model itself, with its floats in half precision, or with integers at its border."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from edgewright.facts.artifact import IoMap, Port
from edgewright.facts.model import TensorSpec
from edgewright.formats.artifacts import same_port
from edgewright.formats.onnx_border import Edge, take_off_border
from edgewright.formats.prepare import drop_origins, save
from edgewright.runtimes.contract import NotConvertible, Rejected
from edgewright.runtimes.onnxruntime.session import load, read_signature, session_options, version
from edgewright.runtimes.wire import Compiled, CompileRequest, SessionRequest


def compile_model(request: CompileRequest) -> Compiled:
    """See `contract.Runtime.compile`; NotConvertible with ONNX Runtime's own reason where it refuses the model."""
    import onnx

    model = read_source(request)
    if request.precision == "fp16":
        model = to_half(model)
    edges: dict[str, Edge] = {}
    notes: tuple[str, ...] = ()
    if request.options.get("io") == "integer":
        if request.precision in ("fp32", "fp16"):
            raise NotConvertible("io=integer: the model is not quantised", "edgewright quantize MODEL")
        edges, notes = take_off_border(model)
    main = f"{request.stem}.onnx"
    drop_origins(model)
    save(model, Path(request.folder) / main)
    return Compiled(
        main=main,
        io_map=map_io(SessionRequest(model=str(Path(request.folder) / main)), request, edges),
        tools={"onnx": onnx.__version__, "onnxruntime": version()},
        notes=notes,
    )


def read_source(request: CompileRequest) -> Any:
    import onnx

    try:
        return onnx.load(request.source)
    except Exception as error:  # protobuf's and onnx's own classes, and missing weights
        raise NotConvertible(f"the model cannot be read: {str(error).strip()[:300]}") from error


def to_half(model: Any) -> Any:
    """Weights and activations in half precision, inputs and outputs as they were.

    By ONNX Runtime's own converter, which keeps operators in float32 that lose their meaning in half precision.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    try:
        return convert_float_to_float16(model, keep_io_types=True)
    except Exception as error:
        raise NotConvertible(f"ONNX Runtime's converter to float16 fails: {str(error).strip()[:300]}") from error


def map_io(session: SessionRequest, request: CompileRequest, edges: Mapping[str, Edge]) -> IoMap:
    """Inputs and outputs are the source's own; the shapes of the outputs are those that ONNX Runtime infers."""
    try:
        loaded = load(session, session_options(session))
    except Rejected as error:
        raise NotConvertible(f"ONNX Runtime refuses the model: {error}") from error
    signature = read_signature(loaded, request.shapes)
    return IoMap(
        inputs=tuple(as_port(spec, edges.get(spec.name)) for spec in signature.inputs),
        outputs=tuple(as_port(spec, edges.get(spec.name)) for spec in signature.outputs),
    )


def as_port(spec: TensorSpec, edge: Edge | None) -> Port:
    """One that lies as in the source; the integers of an `edge` stand for the source's floats."""
    port = same_port(spec)
    if edge is None:
        return port
    return msgspec.structs.replace(port, source_dtype="float32", quantization=edge.quantization)
