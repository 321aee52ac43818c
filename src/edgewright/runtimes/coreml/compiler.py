"""ML programs from ONNX via a torch program, or from a torch source."""

import re
import shutil
from collections.abc import Iterable, Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from edgewright.errors import EdgewrightError
from edgewright.formats.torch.program import LoadedProgram, TorchPort, load_source
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.coreml.library import load_library, silence_library
from edgewright.runtimes.coreml.package import MlProgram, read_program
from edgewright.runtimes.wire import Compiled, CompileRequest
from edgewright.schema.artifact import IoMap, Port

TOOLS = ("onnx", "torch", "coremltools")
MOST_DIMENSIONS = 5
# Names that coremltools changes, because they are words of its language.
RESERVED = frozenset(
    [
        "any",
        "bool",
        "program",
        "func",
        "tensor",
        "list",
        "dict",
        "tuple",
        "true",
        "false",
        "string",
        "bf16",
        "fp16",
        "fp32",
        "fp64",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "state",
    ]
)
DEFAULT_TARGET = "iOS16"
# Types of Core ML's arrays by the source's type.
CONVERTED_DTYPES = {
    "float16": "float32",
    "float32": "float32",
    "float64": "float32",
    "bool": "int32",
    "int8": "int32",
    "uint8": "int32",
    "int16": "int32",
    "int32": "int32",
    "int64": "int32",
}


def compile_model(request: CompileRequest) -> Compiled:
    """See `contract.Runtime.compile`. With fp16 weights and computation are float16; inputs and outputs are float32."""
    library = load_library()
    with silence_library():
        loaded = _load_program(request)
        inputs, outputs = _map_ports(loaded.inputs), _map_ports(loaded.outputs, _port_names(loaded.inputs))
        model = _convert(library, loaded, inputs, outputs, request)
        main = f"{request.stem}.mlpackage"
        path = Path(request.folder) / main
        shutil.rmtree(path, ignore_errors=True)
        model.save(str(path))
    io_map = _check_written(IoMap(inputs=inputs, outputs=outputs), read_program(path))
    tools = {name: installed_version(name) for name in TOOLS}
    return Compiled(main=main, io_map=io_map, tools=tools)


def _load_program(request: CompileRequest) -> LoadedProgram:
    try:
        return load_source(request.source, request.format, request.shapes, weights=request.options.get("weights"))
    except EdgewrightError as error:
        raise NotConvertible(error.why or error.what, error.try_this) from error


def _map_ports(tensors: Sequence[TorchPort], taken: Iterable[str] = ()) -> tuple[Port, ...]:
    """Return ports with valid names of Core ML."""
    names: set[str] = set(taken)
    ports = []
    for one in tensors:
        if one.dtype not in CONVERTED_DTYPES:
            raise NotConvertible(f"Core ML does not support arrays of {one.dtype}: '{one.name}'")
        if len(one.shape) > MOST_DIMENSIONS:
            raise NotConvertible(
                f"Core ML supports arrays with 1 to {MOST_DIMENSIONS} axes: '{one.name}' has {len(one.shape)}"
            )
        name = valid_name(one.name, names)
        names.add(name)
        ports.append(_as_port(one, name))
    return tuple(ports)


def _port_names(tensors: Sequence[TorchPort]) -> list[str]:
    return [port.name for port in _map_ports(tensors)]


def valid_name(name: str, taken: set[str]) -> str:
    """Return an unused name of letters, digits and underscores without a leading digit, and not a reserved word."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    plain = plain if plain[:1].isalpha() or plain[:1] == "_" else f"_{plain}"
    return plain if plain not in taken and plain not in RESERVED else valid_name(f"{plain}_", taken)


def _as_port(one: TorchPort, name: str) -> Port:
    return Port(
        source=one.name,
        name=name,
        source_shape=one.shape,
        source_dtype=one.dtype,
        axes=tuple(range(len(one.shape))),
        shape=one.shape or (1,),  # Core ML has no scalars
        dtype=CONVERTED_DTYPES[one.dtype],
    )


def _convert(
    library: Any, loaded: LoadedProgram, inputs: Sequence[Port], outputs: Sequence[Port], request: CompileRequest
) -> Any:
    """Convert a TorchScript trace with coremltools; from torch.export it would drop the names of inputs and outputs."""
    import numpy as np

    precision = library.precision.FLOAT16 if request.precision == "fp16" else library.precision.FLOAT32
    traced = _trace_program(loaded)
    try:
        return library.convert(
            traced,
            source="pytorch",
            convert_to="mlprogram",
            inputs=[library.TensorType(name=p.name, shape=p.shape, dtype=np.dtype(p.dtype).type) for p in inputs],
            outputs=[library.TensorType(name=p.name, dtype=np.dtype(p.dtype).type) for p in outputs],
            compute_precision=precision,
            minimum_deployment_target=library.target[request.options.get("target", DEFAULT_TARGET)],
            skip_model_load=True,
        )
    except Exception as error:  # coremltools raises exceptions of any class
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise NotConvertible(f"coremltools cannot convert it: {lines[-1][:400]}") from error


def _trace_program(loaded: LoadedProgram) -> Any:
    """Return a TorchScript trace whose inputs and outputs have types of Core ML's arrays."""
    import torch

    kinds = [(example.dtype, example.shape) for example in loaded.examples]
    run = loaded.callable()

    class Held(torch.nn.Module):  # type: ignore[misc]  # torch's types are not read by mypy
        def __init__(self) -> None:
            super().__init__()
            self.inner = run

        def forward(self, *tensors: Any) -> Any:
            given = (
                one.to(kind) if shape else one.to(kind).reshape(())
                for one, (kind, shape) in zip(tensors, kinds, strict=True)
            )
            made = self.inner(*given)
            results = made if isinstance(made, tuple | list) else (made,)
            arrays = (one if one.dim() else one.reshape(1) for one in results)
            return tuple(one.to(torch.int32) if one.dtype == torch.bool else one for one in arrays)

    held = tuple(
        example.to(getattr(torch, CONVERTED_DTYPES[str(example.dtype).removeprefix("torch.")])).reshape(
            example.shape or (1,)
        )
        for example in loaded.examples
    )
    with torch.no_grad():
        return torch.jit.trace(Held().eval(), held, check_trace=False)


def _check_written(io_map: IoMap, program: MlProgram) -> IoMap:
    """Raise NotConvertible if the package's inputs and outputs are not the requested ones."""
    wanted = [port.name for port in (*io_map.inputs, *io_map.outputs)]
    written = [*program.inputs, *program.outputs]
    if wanted != written:
        raise NotConvertible(f"coremltools wrote other inputs and outputs than requested: {written}, not {wanted}")
    return io_map
