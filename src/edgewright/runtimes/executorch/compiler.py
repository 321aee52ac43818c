"""Programs (.pte) with XNNPACK partitions from ONNX via a torch program, or from a torch source."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from edgewright.errors import EdgewrightError
from edgewright.formats.torch.program import LoadedProgram, load_source, map_ports
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.executorch.description import (
    METHOD,
    ProgramDescription,
    describe_undelegated,
    write_description,
)
from edgewright.runtimes.wire import Compiled, CompileRequest

TOOLS = ("onnx", "torch", "executorch")


def compile_model(request: CompileRequest) -> Compiled:
    """See `contract.Runtime.compile`."""
    with silenced():
        try:
            loaded = load_source(
                request.source,
                request.format,
                request.shapes,
                half=request.precision == "fp16",
                unroll=True,
                integers=request.precision == "w8a8",
                weights=request.options.get("weights"),
            )
        except EdgewrightError as error:
            raise NotConvertible(error.why or error.what, error.try_this) from error
        buffer, description = write_program(loaded)
    main = f"{request.stem}.pte"
    path = Path(request.folder) / main
    path.write_bytes(buffer)
    check_loads(path)
    return Compiled(
        main=main,
        io_map=map_ports(loaded),
        tools={name: installed_version(name) for name in TOOLS},
        notes=describe_undelegated(description),
    )


@contextmanager
def silenced() -> Iterator[None]:
    """Suppress warnings of torch and ExecuTorch about their internals."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def write_program(loaded: LoadedProgram) -> tuple[bytes, ProgramDescription]:
    """Lower, and emit twice: only the first result has the order of the calls for the description.

    Inputs are not in the planned memory, where the first inference would overwrite them.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import ExecutorchBackendConfig, ExecutorchProgramManager, to_edge_transform_and_lower
    from executorch.exir.passes import MemoryPlanningPass

    from edgewright.runtimes.executorch.origins import describe_calls

    def config() -> Any:
        return ExecutorchBackendConfig(memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False))

    edge = to_edge_transform_and_lower(loaded.export(), partitioner=[XnnpackPartitioner()])
    made = edge.to_executorch(config())
    calls = describe_calls(made.exported_program(), loaded.sources_of)
    description = ProgramDescription(
        inputs=tuple(port.name for port in loaded.inputs),
        outputs=tuple(port.name for port in loaded.outputs),
        calls=calls,
    )
    program = ExecutorchProgramManager(
        {"forward": made.exported_program()},
        {METHOD: write_description(description)},
        config(),
        made._named_data,  # weights that partitions share, without a public attribute
    )
    return program.buffer, description


def check_loads(path: Path) -> None:
    """Raise NotConvertible if this machine's ExecuTorch rejects the file."""
    from edgewright.runtimes.contract import Rejected
    from edgewright.runtimes.executorch.session import load_method

    try:
        load_method(path)
    except Rejected as error:
        raise NotConvertible(f"ExecuTorch rejects the program that it wrote: {error}") from error
