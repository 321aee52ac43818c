"""Two converters to LiteRT whose packages conflict with others: onnx2tf and litert-torch.

Their functions run in a worker of the isolated environment of the same name (`runtimes/environments.py`). Neither
reports the layouts of the file's inputs and outputs; `ports` determines them by running both models.
"""

import shutil
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from pathlib import Path

from edgewright.formats.tflite.reader import read_graph
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.litert.converters.ports import ReferenceIo, match_ports
from edgewright.runtimes.litert.converters.sandbox import enter_sandbox
from edgewright.runtimes.wire import Compiled, CompileRequest

# TensorFlow's kernels and custom ones, which LiteRT does not have.
FOREIGN_OPS = ("Flex", "CUSTOM")
MANY_OPERATORS = 1000


def compile_onnx2tf(request: CompileRequest) -> Compiled:
    """Convert ONNX to TFLite with onnx2tf and TensorFlow. Raises NotConvertible with onnx2tf's reason.

    Images have their channels last, or, with the option `io=source`, the source's layout.
    """
    from edgewright.runtimes.litert.converters.onnx2tf import convert_onnx_file, run_reference

    with enter_sandbox() as folder:
        made = convert_onnx_file(request, folder)
        reference = run_reference(Path(request.source), request.shapes)
        return _finish_conversion(request, made, reference, ("onnx2tf", "tensorflow", "onnx"))


def compile_litert_torch(request: CompileRequest) -> Compiled:
    """Convert a torch program to TFLite with litert-torch. Raises NotConvertible with its reason.

    `request.source` is an exported program (`.pt2`), or `FILE.py:FACTORY` with the option `weights`.
    """
    from edgewright.runtimes.litert.converters.litert_torch import convert_torch_program

    if request.precision != "fp32":
        raise NotConvertible(
            f"litert-torch writes fp32, not {request.precision}", "compile from ONNX with Edgewright's writer"
        )
    with enter_sandbox() as folder:
        made, reference = convert_torch_program(request, folder)
        return _finish_conversion(request, made, reference, ("litert-torch", "litert-converter", "torch"))


def _finish_conversion(request: CompileRequest, made: Path, reference: ReferenceIo, tools: Sequence[str]) -> Compiled:
    """Return the renamed file with its inputs and outputs matched. Raises NotConvertible for operators that LiteRT
    lacks."""
    operators = [node.op for node in read_graph(made)]
    reject_foreign_ops(operators)
    main = f"{request.stem}.tflite"
    shutil.copyfile(made, Path(request.folder) / main)
    io_map, notes = match_ports(Path(request.folder) / main, reference)
    if len(operators) > MANY_OPERATORS:
        notes = (*notes, (f"the file has {len(operators)} operators: unrolled loops make it slow to load"))
    return Compiled(main=main, io_map=io_map, tools={name: installed_version(name) for name in tools}, notes=notes)


def reject_foreign_ops(operators: Sequence[str]) -> None:
    if foreign := sorted({op for op in operators if op.startswith(FOREIGN_OPS)}):
        raise NotConvertible(
            "\n".join(f"{op}: LiteRT has no kernel for it" for op in foreign),
            "export the model without these operators",
        )
