"""LiteRT keeps the contract of runtimes."""

from pathlib import Path
from typing import Any

import pytest

from edgewright.formats.tflite.reader import read_graph
from tests.contracts.runtime_contract import Feeds, RuntimeCase, RuntimeContract
from tests.models.onnx_files import normal_feed
from tests.models.tflite_files import write_convnet

interpreter_module: Any = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed")


class TestLitert(RuntimeContract):
    @pytest.fixture
    def case(self, tmp_path: Path) -> RuntimeCase:
        model, bad = write_convnet(tmp_path / "m.tflite"), tmp_path / "bad.tflite"
        bad.write_bytes(model.read_bytes()[:200])

        def compute(feeds: Feeds) -> Feeds:
            interpreter = interpreter_module.Interpreter(model_path=str(model), num_threads=1)
            interpreter.allocate_tensors()
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], feeds["x"])
            interpreter.invoke()
            return {"y": interpreter.get_tensor(interpreter.get_output_details()[0]["index"])}

        feeds = {"x": normal_feed(1, 8, 8, 3)}
        return RuntimeCase("litert", model, feeds, bad, compute=compute, graph=tuple(read_graph(model)))
