"""TFLite files as sources: copied for LiteRT, and converted to ONNX for the other runtimes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgewright.devices.local import LocalDevice
from edgewright.errors import EdgewrightError, ModelNotConvertible
from edgewright.flows.compile.flow import CompileReport, compile_all
from edgewright.flows.workspace import Workspace
from edgewright.formats.artifacts import find_record
from edgewright.formats.files import read_model
from edgewright.schema.plan import CompileCell, CompilePlan
from edgewright.store.store import Store, open_store
from tests.models.tflite_files import Node, Tensor, alter_tflite, write_convnet, write_int8_convnet, write_tflite

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    device = LocalDevice()
    store: Store
    with open_store(tmp_path / "home") as store:
        yield Workspace(device, store, lambda text: None)
    device.close()


def compile_here(
    source: Path, workspace: Workspace, *cells: tuple[str, str], shapes: dict[str, tuple[int, ...]] | None = None
) -> tuple[CompileReport, EdgewrightError | None]:
    plan = CompilePlan(
        source=str(source),
        cells=tuple(CompileCell(runtime=name, precision=precision) for name, precision in cells),  # type: ignore[arg-type]
        shapes=shapes or {},
        samples=2,
        timeout_s=120.0,
    )
    return compile_all(plan, source.parent / "out", workspace)


def test_a_float_file(tmp_path: Path, workspace: Workspace) -> None:
    """Artifacts keep the user's layout; LiteRT's in another precision is written from the ONNX form."""
    source = write_convnet(tmp_path / "m.tflite")
    report, error = compile_here(source, workspace, ("onnxruntime", "fp32"), ("litert", "fp16"))
    assert error is None
    exact, half = report.artifacts
    assert exact.numerics is not None
    assert exact.numerics.sqnr_db > 100
    assert exact.io_map is not None
    assert [(port.source, port.shape, port.axes) for port in exact.io_map.inputs] == [("x", (1, 8, 8, 3), (0, 1, 2, 3))]
    assert half.io_map is not None
    assert half.io_map.inputs[0].shape == (1, 8, 8, 3)
    assert Path(half.path or "").read_bytes() != source.read_bytes()
    record = find_record(Path(exact.path or ""))
    assert record is not None
    assert (record.source.format, record.source.sha256) == ("tflite", read_model(source).sha256)
    assert "CONV_2D#0" in [node.name for node in record.source.graph]


def test_an_int8_file(tmp_path: Path, workspace: Workspace) -> None:
    """Its integers stay the inputs and outputs, LiteRT keeps the bytes, and the figures are those of the integers."""
    source = write_int8_convnet(tmp_path / "m.tflite")
    report, error = compile_here(source, workspace, ("onnxruntime", "w8a8"), ("litert", "w8a8"))
    assert error is None
    exact, same = report.artifacts
    assert exact.io_map is not None
    assert (exact.io_map.inputs[0].dtype, exact.io_map.outputs[0].dtype) == ("int8", "int8")
    assert exact.numerics is not None
    assert exact.numerics.max_abs <= 1
    assert Path(same.path or "").read_bytes() == source.read_bytes()


def test_a_copy_with_free_sizes_is_checked_with_those_given(tmp_path: Path, workspace: Workspace) -> None:
    source = write_convnet(tmp_path / "m.tflite")

    def free(model: Any) -> None:
        tensor = model.subgraphs[0].tensors[0]
        tensor.shapeSignature, tensor.shape = [1, -1, -1, 3], [1, 1, 1, 3]

    alter_tflite(source, free)
    report, error = compile_here(source, workspace, ("litert", "fp32"), shapes={"x": (1, 8, 8, 3)})
    assert error is None
    assert report.artifacts[0].numerics is not None
    assert report.artifacts[0].numerics.sqnr_db == 200


def test_an_operator_without_a_form_is_named(tmp_path: Path, workspace: Workspace) -> None:
    tensors = [Tensor(name, (2, 3)) for name in "xay"]
    nodes = [Node("RELU", ("x",), ("a",)), Node("RFFT2D", ("a",), ("y",))]
    source = write_tflite(tmp_path / "m.tflite", tensors, nodes, ["x"], ["y"])
    plan = CompilePlan(source=str(source), cells=(CompileCell(runtime="onnxruntime", precision="fp32"),), check=False)
    report, error = compile_all(plan, tmp_path / "out", workspace)
    assert isinstance(error, ModelNotConvertible)
    assert report.artifacts[0].state == "unsupported"
    assert "RFFT2D#1: Edgewright does not convert this operator" in report.artifacts[0].reason
