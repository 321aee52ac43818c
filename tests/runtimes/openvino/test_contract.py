"""OpenVINO keeps the contract of runtimes."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from edgewright.formats.onnx.reader import OnnxFile
from edgewright.runtimes.openvino.library import make_core
from tests.contracts.runtime_contract import Feeds, RuntimeCase, RuntimeContract
from tests.models.onnx_files import normal_feed, write_control_flow, write_conv_net, write_qdq_net, write_residual_net
from tests.models.openvino_files import write_openvino

# Not importorskip: a plain `import openvino` would send telemetry.
pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")


def compute(model: Path) -> Callable[[Feeds], Feeds]:
    """The library alone, as its own documentation calls it, in the precision and on the threads of the session."""

    def run(feeds: Feeds) -> Feeds:
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
        compiled = make_core().compile_model(str(model), "CPU", settings)
        results = compiled(dict(feeds))
        return {port.get_any_name(): np.asarray(results[port]) for port in compiled.outputs}

    return run


class TestOpenvino(RuntimeContract):
    @pytest.fixture(
        params=[
            (write_conv_net, {"x": normal_feed(1, 3, 8, 8)}),
            (write_residual_net, {"x": normal_feed(1, 16, 8, 8)}),
            (write_qdq_net, {"x": normal_feed(1, 8, 8, 8)}),
            (write_control_flow, {"x": normal_feed(2, 4)}),
        ],
        ids=["conv", "residual", "qdq", "control_flow"],
    )
    def case(self, request: pytest.FixtureRequest, tmp_path: Path) -> RuntimeCase:
        write, feeds = request.param
        source, bad = write(tmp_path / "m.onnx"), tmp_path / "bad.xml"
        model = write_openvino(source)
        bad.write_bytes(model.read_bytes()[:500])
        return RuntimeCase("openvino", model, feeds, bad, compute=compute(model), graph=OnnxFile(source).nodes())
