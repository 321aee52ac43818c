"""ExecuTorch's compiler: the outputs of ONNX Runtime, names, notes, and rejections."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edgewright.formats.onnx.reader import OnnxFile
from edgewright.runtimes import executorch
from edgewright.runtimes.contract import Mismatch, NotConvertible
from edgewright.runtimes.wire import CompileRequest, SessionRequest
from tests.contracts.runtime_contract import Feeds
from tests.models.executorch_files import compile_program, write_program
from tests.models.onnx_files import constant, node, normal_feed, value, weights, write_conv_net, write_onnx
from tests.models.torch_files import write_network
from tests.runtimes.executorch.test_contract import write_mixed_net

pytest.importorskip("executorch.exir", reason="executorch is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns of its own insides


def write_audio_net(path: Path) -> Path:
    """x float32[1,3,20] → a convolution, a pool and a GRU of one dimension."""
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1]),
        node("MaxPool", ["c"], ["p"], "pool", kernel_shape=[2], strides=[2]),
        node("Transpose", ["p"], ["t"], "turn", perm=[2, 0, 1]),
        node("GRU", ["t", "gw", "gr", "gb"], ["y", "h"], "gru", hidden_size=4, linear_before_reset=1),
    ]
    constants = [weights("w", 6, 3, 3), weights("gw", 1, 12, 6), weights("gr", 1, 12, 4), weights("gb", 1, 24)]
    outputs = [value("y", [10, 1, 1, 4]), value("h", [1, 1, 4])]
    return write_onnx(path, nodes, [value("x", [1, 3, 20])], outputs, constants)


def write_odd_names(path: Path) -> Path:
    """Two inputs of one and two axes under names that no identifier has."""
    nodes = [node("Mul", ["a/b:0", "2"], ["out.1"]), node("Sub", ["2", "a/b:0"], ["out.0"])]
    inputs = [value("a/b:0", [4]), value("2", [3, 4])]
    return write_onnx(path, nodes, inputs, [value("out.1", [3, 4]), value("out.0", [3, 4])])


def run(model: Path, feeds: Feeds) -> dict[str, Any]:
    session = executorch.open_session(SessionRequest(model=str(model)))
    session.bind(feeds)
    for _ in range(2):  # the first inference must not write over what is bound
        session.run()
    return session.fetch()


def reference(source: Path, feeds: Feeds) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    return dict(zip([one.name for one in session.get_outputs()], session.run(None, dict(feeds)), strict=True))


@pytest.mark.parametrize(
    ("write", "feeds"),
    [
        (write_conv_net, {"x": normal_feed(1, 3, 8, 8)}),
        (write_mixed_net, {"ids": np.array([[1, 2, 3], [4, -5, 8]]), "x": normal_feed(2, 3, 4)}),
        (write_audio_net, {"x": normal_feed(1, 3, 20)}),
        (write_odd_names, {"a/b:0": normal_feed(4), "2": normal_feed(3, 4)}),
    ],
    ids=["conv", "mixed", "audio", "names"],
)
def test_the_numbers_are_onnx_runtimes(write: Callable[[Path], Path], feeds: Feeds, tmp_path: Path) -> None:
    source = write(tmp_path / "m.onnx")
    made = run(write_program(source, tmp_path / "m.pte"), feeds)
    wanted = reference(source, feeds)
    assert list(made) == list(wanted)
    for name, want in wanted.items():
        np.testing.assert_allclose(made[name], want, rtol=1e-4, atol=1e-5)


def test_only_the_program_is_left_and_its_ports_are_the_sources(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    compiled = compile_program(write_mixed_net(tmp_path / "m.onnx"), folder)
    assert [path.name for path in folder.iterdir()] == [compiled.main] == ["m.pte"]
    assert [(port.source, port.shape, port.dtype) for port in compiled.io_map.inputs] == [
        ("ids", (2, 3), "int64"),
        ("x", (2, 3, 4), "float32"),
    ]
    assert set(compiled.tools) == {"onnx", "torch", "executorch"}


def test_operators_that_xnnpack_does_not_take_are_reported(tmp_path: Path) -> None:
    model = write_program(write_mixed_net(tmp_path / "m.onnx"), tmp_path / "m.pte")
    (note,) = executorch.open_session(SessionRequest(model=str(model))).notes
    assert "native_layer_norm.out x1" in note
    assert "embedding.out x1" in note
    whole = write_program(write_conv_net(tmp_path / "w.onnx"), tmp_path / "w.pte")
    assert executorch.open_session(SessionRequest(model=str(whole))).notes == ()


def test_layers_report_the_backend_and_the_source(tmp_path: Path) -> None:
    source = write_mixed_net(tmp_path / "m.onnx")
    model, folder = write_program(source, tmp_path / "m.pte"), tmp_path / "trace"
    folder.mkdir()
    feeds = {"ids": np.array([[1, 2, 3], [4, 5, 8]]), "x": normal_feed(2, 3, 4)}
    executorch.profile(SessionRequest(model=str(model)), feeds, 4, folder)
    assert [path.name for path in folder.iterdir()] == ["trace.json"]
    report = executorch.layers(folder, OnnxFile(source).nodes())
    where = {layer.source_nodes: layer.backend for layer in report.layers}
    assert where[("norm",)] == "portable"
    assert where[("product",)] == "XNNPACK"
    assert report.via == "etdump"
    assert {layer.op for layer in report.fallbacks()} >= {"native_layer_norm.out", "embedding.out"}


def test_half_precision_keeps_the_types_outside(tmp_path: Path) -> None:
    source = write_mixed_net(tmp_path / "m.onnx")
    compiled = compile_program(source, tmp_path, "fp16")
    feeds = {"ids": np.array([[1, 2, 3], [4, 5, 8]]), "x": normal_feed(2, 3, 4)}
    assert [port.dtype for port in compiled.io_map.outputs] == ["float32", "float32"]
    made, wanted = run(tmp_path / "m.pte", feeds), reference(source, feeds)
    assert 0 < max(np.abs(made[name] - wanted[name]).max() for name in wanted) < 2e-2


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    source = write_onnx(
        tmp_path / "m.onnx", [node("NonZero", ["x"], ["y"], "places")], [value("x", [4])], [value("y", None, "INT64")]
    )
    with pytest.raises(NotConvertible, match=r"NonZero \('places'\)"):
        compile_program(source, tmp_path)


def test_other_shapes_than_the_programs_are_a_mismatch(tmp_path: Path) -> None:
    model = write_program(write_conv_net(tmp_path / "m.onnx"), tmp_path / "m.pte")
    with pytest.raises(Mismatch, match="'x'"):
        executorch.open_session(SessionRequest(model=str(model), shapes={"x": (2, 3, 8, 8)}))


def test_a_torch_source_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(sys, "path", list(sys.path))
    network = write_network(tmp_path)
    request = CompileRequest(
        source=f"{network}:build",
        format="torch",
        precision="fp32",
        shapes={"image": (1, 3, 16, 16)},
        folder=str(tmp_path),
        stem="m",
    )
    compiled = executorch.compile(request)
    for name in ("network_of_the_test", "helper_of_the_test"):
        sys.modules.pop(name, None)
    assert [port.name for port in compiled.io_map.inputs] == ["image"]
    made = run(tmp_path / compiled.main, {"image": normal_feed(1, 3, 16, 16)})
    assert made["output"].shape == (1, 5)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_thread_pool_has_the_size_asked_for(threads: int, tmp_path: Path) -> None:
    from edgewright.runtimes.executorch.session import native

    model = write_program(write_conv_net(tmp_path / "m.onnx"), tmp_path / "m.pte")
    executorch.open_session(SessionRequest(model=str(model), threads=threads)).close()
    assert native()._threadpool_get_thread_count() == threads


def test_a_program_of_someone_else_gets_names_by_position(tmp_path: Path) -> None:
    import torch
    from executorch.exir import to_edge

    class Plus(torch.nn.Module):  # type: ignore[misc]  # torch's types are not read by mypy
        def forward(self, x: Any, y: Any) -> Any:
            return torch.exp(x) + y, x * y

    made = to_edge(torch.export.export(Plus(), (torch.zeros(3), torch.zeros(3)))).to_executorch()
    (tmp_path / "m.pte").write_bytes(made.buffer)
    feeds = {"input0": normal_feed(3), "input1": normal_feed(3, seed=1)}
    outputs = run(tmp_path / "m.pte", feeds)
    np.testing.assert_allclose(outputs["output0"], np.exp(feeds["input0"]) + feeds["input1"], rtol=1e-5)
    np.testing.assert_allclose(outputs["output1"], feeds["input0"] * feeds["input1"], rtol=1e-5)


def test_constants_do_not_leak_into_the_inputs(tmp_path: Path) -> None:
    nodes = [node("Add", ["x", "k"], ["y"])]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [2])], [value("y", [2])], [constant("k", [1.0, 2.0])])
    made = run(write_program(path, tmp_path / "m.pte"), {"x": np.ones(2, np.float32)})
    np.testing.assert_allclose(made["y"], [2.0, 3.0])
