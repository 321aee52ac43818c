"""A simulated compiler with all kinds of failures."""

from pathlib import Path

from edgewright import __version__
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.pretend.session import FAILURES
from edgewright.runtimes.wire import Compiled, CompileRequest
from edgewright.schema.artifact import IoMap


def compile_model(request: CompileRequest) -> Compiled:
    """Return an artifact without inputs and outputs, or fail in the way of the option `fail`."""
    main = f"{request.stem}.pretend"
    (Path(request.folder) / main).write_bytes(b"pretend")
    match request.options.get("fail", "never"):
        case "refuse":
            raise NotConvertible("operator Pretend 'node' is not supported", "remove it")
        case "nothing":
            main = "absent.pretend"
        case "never":
            pass
        case how:
            FAILURES[how]()
    return Compiled(main=main, io_map=IoMap(inputs=(), outputs=()), tools={"edgewright": __version__})
