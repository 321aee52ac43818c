"""ncnn keeps the contract of runtimes."""

from pathlib import Path
from typing import Any

import pytest

from edgewright.schema.model import GraphNode
from tests.contracts.runtime_contract import Feeds, RuntimeCase, RuntimeContract
from tests.models.ncnn_files import write_convnet
from tests.models.onnx_files import normal_feed

ncnn: Any = pytest.importorskip("ncnn", reason="ncnn is not installed")

GRAPH = (
    GraphNode(name="conv", op="Conv", inputs=("x",), outputs=("c",)),
    GraphNode(name="relu", op="Relu", inputs=("c",), outputs=("r",)),
    GraphNode(name="pool", op="GlobalAveragePool", inputs=("r",), outputs=("p",)),
    GraphNode(name="gemm", op="Gemm", inputs=("p",), outputs=("y",)),
)


class TestNcnn(RuntimeContract):
    @pytest.fixture
    def case(self, tmp_path: Path) -> RuntimeCase:
        model, bad = write_convnet(tmp_path / "m.param"), tmp_path / "bad.param"
        bad.write_bytes(model.read_bytes()[:60])

        def compute(feeds: Feeds) -> Feeds:
            net = ncnn.Net()
            net.opt.num_threads = 1
            net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
            net.load_param(str(model))
            net.load_model(str(model.with_suffix(".bin")))
            extractor = net.create_extractor()
            extractor.input("x", ncnn.Mat(feeds["x"]).clone())
            return {"y": extractor.extract("y")[1].numpy().copy()}

        return RuntimeCase("ncnn", model, {"x": normal_feed(4, 8, 8)}, bad, compute=compute, graph=GRAPH)
