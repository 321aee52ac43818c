"""A QDQ model in every runtime that supports one: compiled, checked, run, and profiled by layer."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgewright.flows.compile.rounding_reference import take_rounding_reference
from edgewright.flows.demo.flow import get_digits_folder
from edgewright.quantization.checkpoint import Checkpoint
from edgewright.quantization.network import FloatNetwork
from edgewright.quantization.recipe import Recipe, RecipeRule
from edgewright.quantization.search import FidelityTarget
from edgewright.quantization.static.stages import StaticQuantizer
from edgewright.runtimes.table import TABLE, RuntimeInfo
from edgewright.runtimes.wire import Compiled
from tests.cli.calling import QUICK, Call, make_call
from tests.models.qdq_files import write_mobile_qdq
from tests.paths import ROOT
from tests.quantization.mobile_files import make_feeds, make_mobile

SHARED = ROOT.parent / "shared" / "data" / "models"
RUNTIMES = [name for name, info in TABLE.items() if "w8a8" in info.precisions and info.reads]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    return make_call(capfd)


# Those that go through torch import it several times.
@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.slow] if name in ("executorch", "coreml") else []) for name in RUNTIMES
    ]
)
def info(request: pytest.FixtureRequest) -> RuntimeInfo:
    info = TABLE[request.param]
    for name in (*info.needs, *info.compile_needs):
        if find_spec(name) is None:
            pytest.skip(f"{info.title} is not installed: {name}")
    return info


def test_from_compile_to_layers(call: Call, info: RuntimeInfo, tmp_path: Path) -> None:
    model, out = get_digits_folder() / "digits_int8.onnx", tmp_path / "out"
    result = call("compile", model, "--runtime", info.name, "-o", out, "--json")
    assert result.code == 0, result.err
    (cell,) = result.json()["artifacts"]
    assert (cell["state"], cell["precision"]) == ("ok", "w8a8")
    assert cell["numerics"]["sqnr_db"] >= (14 if info.name == "ncnn" else 20)
    assert any("numerical check" in note for note in cell["notes"]) == (info.name == "ncnn")
    assert sorted(path.name for path in out.iterdir() if "twin" in path.name) == []
    with np.load(get_digits_folder() / "heldout.npz", allow_pickle=False) as file:
        image = (file["images"][:1].astype(np.float32) / 16).reshape(1, 1, 8, 8)
    np.savez(tmp_path / "x.npz", image=image)
    for path, to in ((cell["path"], "own.npz"), (model, "source.npz")):
        assert call("invoke", path, "--inputs", tmp_path / "x.npz", "-o", tmp_path / to).code == 0
    with np.load(tmp_path / "own.npz") as own, np.load(tmp_path / "source.npz") as source:
        assert own["logits"].argmax() == source["logits"].argmax()
    result = call("benchmark", cell["path"], *QUICK[:6], "--layer-runs", "5", "--json")
    assert result.code == 0, result.err
    (run,) = result.json()["runs"]
    assert run["precision"] == "w8a8"
    named = {name for layer in run["layers"] for name in layer["source_nodes"]}
    convolutions = {node.name for node in onnx.load(str(model)).graph.node if node.op_type in ("Conv", "Gemm")}
    assert convolutions - {""} <= named | {""}


def test_a_layer_that_was_kept_in_float(call: Call, tmp_path: Path) -> None:
    """ONNX Runtime's optimizer would give all its channels one scale, which the first, that sees zeros alone, ruins."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    rng = np.random.default_rng(0)
    stem, deep = rng.standard_normal((8, 3, 3, 3)), rng.standard_normal((8, 1, 3, 3))
    stem[0], deep[0] = 0, deep[0] * 1000
    bias = np.array([0, 1, 1, 1, 1, 1, 1, 1], np.float32)
    changes = {"stem/w": stem.astype(np.float32), "stem/b": bias, "deep/w": deep.astype(np.float32)}
    network = FloatNetwork(make_mobile(changes=changes))
    recipe = Recipe(
        search=False, rounding="nearest", ranges="minmax", rules=(RecipeRule(nodes="deep", precision="fp32"),)
    )
    quantizer = StaticQuantizer(
        network, make_feeds(8, 1), make_feeds(8, 2), Checkpoint(tmp_path / "memory"), lambda *_: None
    )
    onnx.save(quantizer.quantize(recipe, FidelityTarget(0.0, 1.0)).model, str(tmp_path / "kept.onnx"))
    result = call("compile", tmp_path / "kept.onnx", "--runtime", "litert", "-o", tmp_path / "out", "--json")
    assert result.code == 0, result.err
    (cell,) = result.json()["artifacts"]
    assert cell["numerics"]["sqnr_db"] > 30


def test_the_gate_fails_if_the_rounding_reference_differs(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An artifact that agrees with its source but not with its rounding reference is rejected."""
    pytest.importorskip("ncnn", reason="ncnn is not installed")
    pytest.importorskip("pnnx", reason="pnnx is not installed")
    from edgewright.flows.compile import flow as flow

    def damage(compiled: Compiled, folder: Path, work: Path) -> Path | None:
        reference = take_rounding_reference(compiled, folder, work)
        assert reference is not None
        model = onnx.load(str(reference))
        last = next(one for one in model.graph.initializer if one.name == "w6b" or (one.data_type == 1 and one.dims))
        last.raw_data = np.full(tuple(last.dims), 5.0, np.float32).tobytes()
        onnx.save(model, str(reference))
        return reference

    monkeypatch.setattr(flow, "take_rounding_reference", damage)
    result = call("compile", write_mobile_qdq(tmp_path), "--runtime", "ncnn", "-o", tmp_path / "out", "--json")
    assert result.code == 3
    assert "against the source graph rounded as this runtime rounds" in result.json()["artifacts"][0]["reason"]
    assert not list((tmp_path / "out").glob("*.param"))


@pytest.mark.shared_data
def test_mobilenet(call: Call, info: RuntimeInfo, tmp_path: Path) -> None:
    from tests.models.qdq_files import quantize_network

    if not (SHARED / "mobilenet_v2.onnx").is_file():
        pytest.skip("the evaluation data does not lie beside the checkout")
    if info.name == "executorch":
        pytest.skip("its compiler takes minutes for it")
    random = np.random.default_rng(1)
    feeds = [{"x": random.uniform(-1, 1, (1, 3, 224, 224)).astype(np.float32)} for _ in range(2)]
    model = quantize_network(SHARED / "mobilenet_v2.onnx", tmp_path / "q.onnx", iter(feeds))
    result = call("compile", model, "--runtime", info.name, "-o", tmp_path / "out", "--samples", "2", "--json")
    (cell,) = result.json()["artifacts"]
    assert cell["numerics"]["sqnr_db"] >= 14, cell["reason"]
    assert not any("stays in float32" in note for note in cell["notes"])
