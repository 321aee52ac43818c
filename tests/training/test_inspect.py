"""What a search is told of a module: its graph by the names of its parameters, and what they matter."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from edgewright.training.job import InspectJob, Source
from tests.training.module_files import IMAGE, write_nets

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns of its own insides

from edgewright.training.inspect import export_named, run_inspect  # noqa: E402
from edgewright.training.source import load_module  # noqa: E402


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield write_nets(tmp_path)
    sys.modules.pop("nets_of_the_test", None)


@pytest.mark.parametrize("factory", ["mobile", "vision"])
def test_the_graph_has_the_parameters_by_their_names(nets: str, tmp_path: Path, factory: str) -> None:
    job = InspectJob(module=Source(factory=f"{nets}:{factory}"), shapes=IMAGE, task="", out=str(tmp_path))
    words: list[Any] = []
    run_inspect(job, words.append)
    told = json.loads((tmp_path / "inspected.json").read_bytes())
    model = onnx.load(tmp_path / "named.onnx")
    onnx.checker.check_model(model, full_check=True)
    module = load_module(job.module, 0)
    stored = {one.name: tuple(one.dims) for one in model.graph.initializer}
    for name, value in module.named_parameters():
        assert stored[name] == tuple(value.shape) == tuple(told["shapes"][name])
    assert told["parameters"] == sum(one.numel() for one in module.parameters())
    assert told["macs"] > 0
    assert told["outputs"] == {"output": [1, 5]}
    assert words[-1].done == words[-1].of
    image = np.random.default_rng(0).standard_normal(IMAGE["image"]).astype(np.float32)
    session = onnxruntime.InferenceSession(str(tmp_path / "named.onnx"), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        wanted = module.eval()(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(session.run(None, {"image": image})[0], wanted, rtol=1e-3, atol=1e-4)


def test_normalisation_stays_apart_and_sizes_are_folded(nets: str, tmp_path: Path) -> None:
    module = load_module(Source(factory=f"{nets}:mobile"), 0)
    export_named(module, IMAGE, tmp_path / "m.onnx")
    assert module.training
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert Counter(node.op_type for node in graph.node) == {
        "Conv": 13, "BatchNormalization": 13, "Relu": 9, "Add": 4, "ReduceMean": 1, "Gemm": 1,
    }  # fmt: skip
    assert all(len(node.input) == 2 for node in graph.node if node.op_type == "Conv")
    assert {"stem.0", "blocks.3.body.4", "head"} <= {node.name for node in graph.node}


def test_tied_weights_are_one_initializer(nets: str, tmp_path: Path) -> None:
    export_named(load_module(Source(factory=f"{nets}:tied"), 0), {"ids": (1, 3)}, tmp_path / "m.onnx")
    stored = [one.name for one in onnx.load(tmp_path / "m.onnx").graph.initializer]
    assert len({"embed.weight", "out.weight"} & set(stored)) == 1
