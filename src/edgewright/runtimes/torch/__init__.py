"""torch: not for running models, but for the conversion of a torch source to ONNX, which all others read.

It has only `version` and `compile`. Importing this module loads nothing of torch.
"""

from edgewright.runtimes.wire import Compiled, CompileRequest

DISTRIBUTION = "torch"


def version() -> str:
    """Return the version of the installed torch. Raises ImportError if it is absent."""
    from importlib import import_module

    return str(import_module("torch").__version__)


def compile(request: CompileRequest) -> Compiled:
    """Write the source as ONNX. Raises NotConvertible."""
    from edgewright.runtimes.torch.compiler import compile_model

    return compile_model(request)
