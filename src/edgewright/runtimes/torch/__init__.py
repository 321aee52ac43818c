"""torch: not a runtime to run models in, but the way from a torch source to ONNX, which all others read.

It has `version` and `compile` alone. Importing this module loads nothing of torch.
"""

from edgewright.runtimes.wire import Compiled, CompileRequest

DISTRIBUTION = "torch"


def version() -> str:
    """Return the version of the installed torch; ImportError where it is absent."""
    from importlib import import_module

    return str(import_module("torch").__version__)


def compile(request: CompileRequest) -> Compiled:
    """Write the source as ONNX; NotConvertible where torch cannot."""
    from edgewright.runtimes.torch.compiler import compile_model

    return compile_model(request)
