"""QDQ graphs in ExecuTorch: XNNPACK's integer kernels, with the numbers of ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from edgewright.formats.onnx.reader import OnnxFile
from edgewright.runtimes import executorch
from edgewright.runtimes.executorch.session import load_method
from edgewright.runtimes.wire import SessionRequest
from tests.models.executorch_files import compile_program
from tests.models.onnx_files import (
    constant,
    node,
    normal_feed,
    quantize,
    quantized_constant,
    value,
    write_onnx,
    write_qdq_net,
)
from tests.models.qdq_files import images, write_mobile_qdq

pytest.importorskip("executorch.exir", reason="executorch is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns of its own insides


def run(model: Path, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
    session = executorch.open_session(SessionRequest(model=str(model)))
    session.bind(feeds)
    session.run()
    return next(iter(session.fetch().values()))


def run_onnx(path: Path, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feeds)[0])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mobile_qdq(tmp_path_factory.mktemp("qdq"))


@pytest.fixture(scope="module")
def program(source: Path) -> Path:
    compiled = compile_program(source, source.parent, "w8a8")
    assert compiled.notes == ()  # XNNPACK took all of it
    return source.parent / compiled.main


def test_it_is_one_partition_of_integers_with_onnx_runtimes_numbers(source: Path, program: Path) -> None:
    description = load_method(program).description
    assert description is not None
    assert [call.delegate for call in description.calls] == ["XnnpackBackend"]
    for feeds in images(4, seed=6):
        np.testing.assert_allclose(run(program, feeds), run_onnx(source, feeds), atol=0.01)  # three steps


def test_the_kernels_compute_with_integers(source: Path, program: Path, tmp_path: Path) -> None:
    executorch.profile(SessionRequest(model=str(program)), next(images(1)), 3, tmp_path)
    report = executorch.layers(tmp_path, OnnxFile(source).nodes())
    heavy = [layer.op for layer in report.layers if layer.op.startswith(("Convolution", "Fully Connected"))]
    assert len(heavy) == 7
    assert all("QC8" in op for op in heavy)
    named = {name for layer in report.layers for name in layer.source_nodes}
    assert {"stem_conv", "wide_conv", "deep_conv", "narrow_conv", "sum", "gemm"} <= named


def test_a_product_with_one_scale_for_all_weights(tmp_path: Path) -> None:
    source = write_qdq_net(tmp_path / "m.onnx")
    compiled = compile_program(source, tmp_path, "w8a8")
    feeds = {"x": normal_feed(1, 8, 8, 8)}
    np.testing.assert_allclose(run(tmp_path / compiled.main, feeds), run_onnx(source, feeds), atol=0.02)


def test_integers_that_something_else_reads_are_computed_as_they_stand(tmp_path: Path) -> None:
    constants = [constant("x_scale", 0.1), constant("x_zero", 128, np.uint8)]
    nodes = [quantize("x")[0], node("Cast", ["x_q"], ["y"], "cast", to=1)]
    source = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 4])], [value("y", [1, 4])], constants)
    compiled = compile_program(source, tmp_path, "w8a8")
    feeds = {"x": normal_feed(1, 4)}
    np.testing.assert_array_equal(run(tmp_path / compiled.main, feeds), run_onnx(source, feeds))


@pytest.mark.parametrize("behind", ["Tanh", "Clip"])
def test_a_layer_that_gives_floats_is_computed_in_floats(behind: str, tmp_path: Path) -> None:
    """XNNPACK takes no integer convolution whose output is not rounded; one behind a Clip that is rounded it does."""
    parts, constants = quantized_constant("w", 8, 8, 1, 1)
    nodes = [*parts, *quantize("x"), node("Conv", ["x_dq", "w_dq"], ["c"], "conv")]
    nodes += (
        [node("Tanh", ["c"], ["y"], "tanh")]
        if behind == "Tanh"
        else [node("Clip", ["c", "low", "high"], ["t"], "clip"), *quantize("t"), node("Neg", ["t_dq"], ["y"], "neg")]
    )
    for name in ("x", "t"):
        constants += [constant(f"{name}_scale", 0.03), constant(f"{name}_zero", 128, np.uint8)]
    constants += [constant("low", 0.0), constant("high", 6.0)]
    outputs = [value("y", [1, 8, 4, 4])]
    source = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 8, 4, 4])], outputs, constants)
    compiled = compile_program(source, tmp_path, "w8a8")
    assert compiled.notes == ()
    feeds = {"x": normal_feed(1, 8, 4, 4)}
    np.testing.assert_allclose(run(tmp_path / compiled.main, feeds), run_onnx(source, feeds), atol=0.04)
