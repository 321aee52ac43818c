"""MNN keeps the contract of runtimes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.formats.onnx.reader import OnnxFile
from edgewright.runtimes.mnn.library import load_library
from tests.contracts.runtime_contract import Feeds, RuntimeCase, RuntimeContract
from tests.models.mnn_files import compile_file, write_two_ways
from tests.models.onnx_files import normal_feed, write_residual_net

pytest.importorskip("MNN", reason="MNN is not installed")
IMAGE = (1, 3, 8, 8)
CASES = [
    (write_residual_net, {"x": normal_feed(1, 16, 8, 8)}),
    (write_two_ways, {"b": normal_feed(*IMAGE), "a": normal_feed(*IMAGE, seed=1)}),
]


def run_alone(path: Path, feeds: Feeds, outputs: list[str]) -> Feeds:
    """The `nn` module interface, the other one of MNN's two."""
    library: Any = load_library()
    settings = {"backend": "CPU", "numThread": 1, "precision": "high"}
    manager = library.nn.create_runtime_manager((settings,))
    module = library.nn.load_module_from_file(str(path), list(feeds), outputs, runtime_manager=manager)
    variables = []
    for array in feeds.values():
        variables.append(library.expr.placeholder(list(array.shape), library.expr.NCHW, library.expr.float))
        variables[-1].write(np.ascontiguousarray(array))
    results = [library.expr.convert(one, library.expr.NCHW) for one in module.forward(variables)]
    return {name: np.array(one.read()) for name, one in zip(outputs, results, strict=True)}


@pytest.fixture(params=CASES, ids=["residual", "two-ways"], scope="module")
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RuntimeCase:
    """Compiled once for all tests, which only read it."""
    write, feeds = request.param
    folder = tmp_path_factory.mktemp("mnn")
    source = write(folder / "m.onnx")
    compiled = compile_file(source, folder / "out")
    model, bad = folder / "out" / compiled.main, folder / "bad.mnn"
    bad.write_bytes(model.read_bytes()[:200])
    outputs = [port.name for port in compiled.io_map.outputs]
    graph = OnnxFile(source).nodes()
    return RuntimeCase("mnn", model, feeds, bad, compute=lambda given: run_alone(model, given, outputs), graph=graph)


class TestMnn(RuntimeContract):
    @pytest.fixture
    def case(self, built: RuntimeCase) -> RuntimeCase:
        return built
