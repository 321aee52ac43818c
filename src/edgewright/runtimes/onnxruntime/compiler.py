"""ONNX for ONNX Runtime: the model itself, in half precision, or with integer I/O."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgewright.formats.artifacts import make_same_port
from edgewright.formats.onnx.integer_io import IntegerPort, make_io_integer
from edgewright.formats.onnx.prepare import remove_exporter_metadata, save_model
from edgewright.formats.onnx.stored_weights import cast_weights
from edgewright.kernels.custom.description import DTYPES, CustomOperator
from edgewright.kernels.custom.folder import read_operators_file, write_operators
from edgewright.kernels.custom.place import find_operators_path
from edgewright.runtimes.contract import NotConvertible, Rejected
from edgewright.runtimes.onnxruntime.session import load_session, make_session_options, read_signature, version
from edgewright.runtimes.wire import Compiled, CompileRequest, SessionRequest
from edgewright.schema.artifact import IoMap, Port
from edgewright.schema.model import Signature, TensorSpec


def compile_model(request: CompileRequest) -> Compiled:
    """See `contract.Runtime.compile`. Raises NotConvertible with ONNX Runtime's reason if it rejects the model."""
    import onnx

    model = _read_source(request)
    if request.precision == "fp16":
        model = _to_half(model)
    elif request.precision == "w8":
        cast_weights(model)
    integer_ports: dict[str, IntegerPort] = {}
    notes: tuple[str, ...] = ()
    if request.options.get("io") == "integer":
        if request.precision in ("fp32", "fp16"):
            raise NotConvertible("io=integer: the model is not quantized", "edgewright quantize MODEL")
        integer_ports, notes = make_io_integer(model)
    main = f"{request.stem}.onnx"
    remove_exporter_metadata(model)
    save_model(model, Path(request.folder) / main)
    if (path := find_operators_path(Path())) is not None:
        write_operators(read_operators_file(path), {}, Path(request.folder) / main)
    return Compiled(
        main=main,
        io_map=_map_io(SessionRequest(model=str(Path(request.folder) / main)), request, integer_ports),
        tools={"onnx": onnx.__version__, "onnxruntime": version()},
        notes=notes,
    )


def _read_source(request: CompileRequest) -> Any:
    import onnx

    try:
        return onnx.load(request.source)
    except Exception as error:  # classes of protobuf and onnx, and missing weights
        raise NotConvertible(f"the model cannot be read: {str(error).strip()[:300]}") from error


def _to_half(model: Any) -> Any:
    """Return the model with weights and activations in half precision, and unchanged inputs and outputs.

    ONNX Runtime's own converter keeps operators in float32 that do not work in half precision.
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    path = find_operators_path(Path())
    operators = read_operators_file(path).operators if path else ()
    custom = [one.name for one in operators]
    _declare_types(model, operators)  # the converter casts only what has a type
    try:
        return convert_float_to_float16(model, keep_io_types=True, op_block_list=[*DEFAULT_OP_BLOCK_LIST, *custom])
    except Exception as error:
        raise NotConvertible(f"ONNX Runtime's float16 converter fails: {str(error).strip()[:300]}") from error


def _declare_types(model: Any, operators: Sequence[CustomOperator]) -> None:
    """Add the types of what custom operators compute, which ONNX does not infer."""
    from onnx import helper

    known = {one.key: one for one in operators}
    taken = {value.name for value in (*model.graph.value_info, *model.graph.output)}
    for node in model.graph.node:
        if (operator := known.get(f"{node.domain}:{node.op_type}")) is not None:
            for name, output in zip(node.output, operator.outputs, strict=False):
                if name not in taken:
                    value = helper.make_tensor_value_info(name, DTYPES[output.type], None)
                    model.graph.value_info.append(value)


def _map_io(session: SessionRequest, request: CompileRequest, integer_ports: Mapping[str, IntegerPort]) -> IoMap:
    """Return the source's inputs and outputs; the shapes of the outputs are those that ONNX Runtime infers."""
    try:
        loaded = load_session(session, make_session_options(session))
    except Rejected as error:
        raise NotConvertible(f"ONNX Runtime rejects the model: {error}") from error
    signature = read_signature(loaded, request.shapes)
    outputs = _observe_shapes(loaded, signature) if find_operators_path(Path()) else signature.outputs
    return IoMap(
        inputs=tuple(_as_port(spec, integer_ports.get(spec.name)) for spec in signature.inputs),
        outputs=tuple(_as_port(spec, integer_ports.get(spec.name)) for spec in outputs),
    )


def _observe_shapes(loaded: Any, signature: Signature) -> tuple[TensorSpec, ...]:
    """Return the outputs with the shapes of a run on zeros: ONNX infers no shapes behind a custom operator."""
    feeds = {spec.name: np.zeros(make_same_port(spec).shape, spec.dtype) for spec in signature.inputs}
    try:
        arrays = loaded.run(None, feeds)
    except Exception as error:  # the library raises a dozen classes of its own
        raise NotConvertible(f"ONNX Runtime fails on the model: {str(error).strip()[:300]}") from error
    return tuple(
        msgspec.structs.replace(spec, shape=array.shape) for spec, array in zip(signature.outputs, arrays, strict=True)
    )


def _as_port(spec: TensorSpec, integer_port: IntegerPort | None) -> Port:
    """Return a port with the source's layout; integers of integer I/O represent the source's floats."""
    port = make_same_port(spec)
    if integer_port is None:
        return port
    return msgspec.structs.replace(port, source_dtype="float32", quantization=integer_port.quantization)
