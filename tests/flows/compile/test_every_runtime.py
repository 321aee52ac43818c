"""A user's steps with every installed runtime: compile, invoke, benchmark, layers."""

from importlib.util import find_spec
from pathlib import Path
from platform import system

import numpy as np
import pytest

from edgewright.runtimes.table import TABLE, RuntimeInfo
from tests.cli.calling import QUICK, Call, make_call
from tests.models.onnx_files import write_conv_net
from tests.paths import ROOT

SHARED = ROOT.parent / "shared" / "data" / "models"
RUNTIMES = [name for name, info in TABLE.items() if info.writes and info.reads and name != "pretend"]


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


def can_run(info: RuntimeInfo) -> bool:
    return not info.systems or system() in info.systems


def artifact(call: Call, info: RuntimeInfo, model: Path, out: Path, *words: str) -> Path:
    result = call("compile", model, "--runtime", info.name, "-o", out, "--json", *words)
    assert result.code == 0, result.err
    (cell,) = result.json()["artifacts"]
    assert cell["state"] == "ok"
    if can_run(info):
        assert cell["numerics"]["cosine"] >= 0.9999
        assert cell["numerics"]["sqnr_db"] >= 60
    else:
        assert "runs only on" in cell["reason"]
    assert not list(out.glob(".*"))
    return Path(cell["path"])


def test_from_compile_to_layers(call: Call, info: RuntimeInfo, tmp_path: Path) -> None:
    model = write_conv_net(tmp_path / "m.onnx")
    path = artifact(call, info, model, tmp_path / "out")
    x = np.random.default_rng(3).standard_normal((1, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    result = call("invoke", path, "--inputs", tmp_path / "x.npz", "-o", tmp_path / "y.npz")
    if not can_run(info):
        assert result.code == 4
        assert call("benchmark", path, *QUICK[:6]).code == 4
        return
    assert result.code == 0, result.err
    assert call("invoke", model, "--inputs", tmp_path / "x.npz", "-o", tmp_path / "z.npz").code == 0
    with np.load(tmp_path / "y.npz") as own, np.load(tmp_path / "z.npz") as source:
        np.testing.assert_allclose(own["y"], source["y"], rtol=1e-3, atol=1e-4)
    result = call("benchmark", path, *QUICK[:6], "--layer-runs", "30", "--json")
    assert result.code == 0, result.err
    (run,) = result.json()["runs"]
    assert all(one["low_us"] <= one["median_us"] <= one["high_us"] for one in run["layers"])
    assert run["runtime"] == info.name
    named = {name for layer in run["layers"] for name in layer["source_nodes"]}
    assert named <= {"conv", "relu", "pool", "flatten", "gemm"}
    assert {"conv", "gemm"} <= named
    assert {layer["unit"] for layer in run["layers"]} == {"CPU"}


@pytest.mark.shared_data
def test_mobilenet(call: Call, info: RuntimeInfo, tmp_path: Path) -> None:
    model = SHARED / "mobilenet_v2.onnx"
    if not model.is_file():
        pytest.skip("the evaluation data does not lie beside the checkout")
    path = artifact(call, info, model, tmp_path / "out", "--shape", "x=1,3,224,224", "--samples", "2")
    assert path.name.startswith(f"mobilenet_v2-{info.name}-fp32")
