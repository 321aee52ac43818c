"""Writes ExecuTorch programs for tests, by our own compiler; each is compiled once in a session of pytest."""

import shutil
from atexit import register
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from edgewright.formats.onnx.reader import OnnxFile
from edgewright.runtimes.wire import Compiled, CompileRequest
from edgewright.schema.vocabulary import Precision


def compile_program(source: Path, folder: Path, precision: Precision = "fp32") -> Compiled:
    """The program of an ONNX file with fixed shapes, as `m.pte` in the folder."""
    from edgewright.runtimes import executorch

    shapes = {
        spec.name: tuple(size for size in spec.shape if isinstance(size, int))
        for spec in OnnxFile(source).signature().inputs
    }
    return executorch.compile(
        CompileRequest(
            source=str(source),
            format="onnx",
            precision=precision,
            shapes=shapes,
            folder=str(folder),
            stem="m",
        )
    )


@cache
def _compiled(source: bytes) -> Path:
    folder = Path(mkdtemp(prefix="edgewright-test-"))
    register(shutil.rmtree, folder)
    (folder / "m.onnx").write_bytes(source)
    compile_program(folder / "m.onnx", folder)
    return folder / "m.pte"


def write_program(source: Path, to: Path) -> Path:
    """A copy of the program of this ONNX file."""
    shutil.copyfile(_compiled(source.read_bytes()), to)
    return to
