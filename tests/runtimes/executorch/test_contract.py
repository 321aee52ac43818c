"""ExecuTorch keeps the contract of runtimes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.formats.onnx.reader import OnnxFile
from tests.contracts.runtime_contract import Feeds, RuntimeCase, RuntimeContract
from tests.models.executorch_files import write_program
from tests.models.onnx_files import node, normal_feed, value, weights, write_conv_net, write_onnx

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("executorch.exir", reason="executorch is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns of its own insides


def write_mixed_net(path: Path) -> Path:
    """ids int64[2,3] and x float32[2,3,4] → an embedding and a normalization outside of XNNPACK, a product inside."""
    nodes = [
        node("Gather", ["table", "ids"], ["e"], "words"),
        node("Add", ["e", "x"], ["s"], "sum"),
        node("LayerNormalization", ["s", "g"], ["n"], "norm", axis=-1),
        node("MatMul", ["n", "w"], ["y"], "product"),
    ]
    inputs = [value("ids", [2, 3], "INT64"), value("x", [2, 3, 4])]
    constants = [weights("table", 9, 4), weights("g", 4, seed=1), weights("w", 4, 5, seed=2)]
    return write_onnx(path, nodes, inputs, [value("y", [2, 3, 5]), value("s", [2, 3, 4])], constants)


def compute(model: Path, feeds: Feeds, names: list[str]) -> Feeds:
    """The library alone, as its own documentation calls it."""
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(model).load_method("forward")
    assert method is not None
    outputs = method.execute([torch.from_numpy(np.ascontiguousarray(array)) for array in feeds.values()])
    return {name: tensor.numpy() for name, tensor in zip(names, outputs, strict=True)}


def computing(model: Path, names: list[str]) -> Callable[[Feeds], Feeds]:
    return lambda feeds: compute(model, feeds, names)


class TestExecutorch(RuntimeContract):
    @pytest.fixture(
        params=[
            (write_conv_net, {"x": normal_feed(1, 3, 8, 8)}),
            (write_mixed_net, {"ids": np.array([[1, 2, 3], [4, 5, 8]]), "x": normal_feed(2, 3, 4)}),
        ],
        ids=["conv", "mixed"],
    )
    def case(self, request: pytest.FixtureRequest, tmp_path: Path) -> RuntimeCase:
        write, feeds = request.param
        source, bad = write(tmp_path / "m.onnx"), tmp_path / "bad.pte"
        model = write_program(source, tmp_path / "m.pte")
        bad.write_bytes(model.read_bytes()[:300])
        file = OnnxFile(source)
        names = [spec.name for spec in file.signature().outputs]
        return RuntimeCase("executorch", model, feeds, bad, compute=computing(model, names), graph=file.nodes())
