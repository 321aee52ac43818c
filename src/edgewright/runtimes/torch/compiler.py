"""ONNX from a torch source, by torch's own exporter."""

from importlib.metadata import version as installed_version
from pathlib import Path

from edgewright.errors import EdgewrightError
from edgewright.formats.torch.program import export_onnx, load_torch, map_ports
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.wire import Compiled, CompileRequest

TOOLS = ("torch", "onnx", "onnxscript")


def compile_model(request: CompileRequest) -> Compiled:
    """See `contract.Runtime.compile`. Inputs have the names of `forward`'s parameters."""
    main = f"{request.stem}.onnx"
    try:
        loaded = load_torch(request.source, request.shapes, weights=request.options.get("weights"))
        export_onnx(loaded, Path(request.folder) / main)
    except EdgewrightError as error:
        raise NotConvertible(": ".join(filter(None, (error.what, error.why))), error.try_this) from error
    tools = {name: installed_version(name) for name in TOOLS}
    return Compiled(main=main, io_map=map_ports(loaded), tools=tools, notes=loaded.notes)
