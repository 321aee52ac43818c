"""Compiles small ONNX files for tests of OpenVINO."""

from collections.abc import Mapping
from pathlib import Path

from edgewright.formats.onnx.normalize.source import prepare_onnx
from edgewright.formats.onnx.reader import OnnxFile
from edgewright.runtimes import openvino
from edgewright.runtimes.wire import Compiled, CompileRequest
from edgewright.schema.vocabulary import Precision


def compile_onnx(
    source: Path, precision: Precision = "fp32", shapes: Mapping[str, tuple[int, ...]] | None = None
) -> tuple[Compiled, Path]:
    """Return the compiler's result and its output folder, beside the source; prepared like in the product."""
    sizes = dict(shapes or known_shapes(source))
    folder = source.parent / f"{source.stem}-{precision}"
    folder.mkdir()
    ready = prepare_onnx(source, sizes, source.with_suffix(".ready.onnx"))
    request = CompileRequest(
        source=str(ready), format="onnx", precision=precision, shapes=sizes, folder=str(folder), stem=source.stem
    )
    return openvino.compile(request), folder


def write_openvino(source: Path, precision: Precision = "fp32") -> Path:
    """The artifact's main file."""
    compiled, folder = compile_onnx(source, precision)
    return folder / compiled.main


def known_shapes(source: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all inputs that have a fixed one."""
    inputs = OnnxFile(source).signature().inputs
    fixed = {spec.name: tuple(size for size in spec.shape if isinstance(size, int)) for spec in inputs}
    return {spec.name: fixed[spec.name] for spec in inputs if len(fixed[spec.name]) == len(spec.shape)}
