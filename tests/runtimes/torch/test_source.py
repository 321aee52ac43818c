"""From torch sources to ONNX, in a worker."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edgewright.errors import ModelNotConvertible
from edgewright.formats.onnx.reader import OnnxFile
from edgewright.runtimes.wire import Compile, Compiled, CompileRequest
from tests.models.torch_files import build_plain, write_network
from tests.paths import ROOT
from tests.runtimes.workers import start

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns of its own insides


def convert(source: str, shapes: dict[str, tuple[int, ...]], folder: Path, **options: str) -> Compiled:
    """By a worker, as the product does."""
    request = CompileRequest(
        source=source, format="torch", precision="fp32", shapes=shapes, folder=str(folder), stem="m", options=options
    )
    with start("torch", folder.parent, 120) as worker:
        return worker.ask(Compile(request=request), Compiled)


def infer(path: Path, feeds: dict[str, Any]) -> list[Any]:
    return list(onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feeds))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "out"
    made.mkdir()
    return made


def test_a_users_module_becomes_onnx_with_the_names_of_forward(tmp_path: Path, folder: Path) -> None:
    before, network = set(sys.modules), write_network(tmp_path)
    compiled = convert(f"{network}:build", {"image": (1, 3, 16, 16), "scale": (1, 8)}, folder)
    assert [path.name for path in folder.iterdir()] == ["m.onnx"]
    signature = OnnxFile(folder / "m.onnx").signature()
    assert [spec.name for spec in signature.inputs] == ["image", "scale"]
    assert [spec.name for spec in signature.outputs] == ["output"]
    assert compiled.io_map.outputs[0].shape == (1, 5)
    assert "network_of_the_test" not in set(sys.modules) - before


def test_the_numbers_are_torchs(tmp_path: Path, folder: Path) -> None:
    model, feed = build_plain(), np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    torch.export.save(torch.export.export(model, (torch.zeros(1, 3, 8, 8),)), tmp_path / "m.pt2")
    compiled = convert(str(tmp_path / "m.pt2"), {}, folder)
    (made,) = infer(folder / compiled.main, {compiled.io_map.inputs[0].name: feed})
    np.testing.assert_allclose(made, model(torch.from_numpy(feed)).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_torchscript_goes_the_older_way(tmp_path: Path, folder: Path) -> None:
    model = build_plain()
    torch.jit.save(torch.jit.trace(model, torch.zeros(1, 3, 8, 8)), str(tmp_path / "m.pt"))
    compiled = convert(str(tmp_path / "m.pt"), {"input": (1, 3, 8, 8)}, folder)
    feed = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    (made,) = infer(folder / compiled.main, {"input": feed})
    np.testing.assert_allclose(made, model(torch.from_numpy(feed)).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_what_a_users_file_raises_is_reported(tmp_path: Path, folder: Path) -> None:
    network = write_network(tmp_path)
    with pytest.raises(ModelNotConvertible) as reported:
        convert(f"{network}:build_badly", {"image": (1, 3, 16, 16)}, folder)
    assert "no such layer" in reported.value.why


@pytest.mark.shared_data
def test_the_cifar_teacher_keeps_its_numbers(folder: Path) -> None:
    data = ROOT.parent / "shared" / "data" / "models"
    if not data.is_dir():
        pytest.skip("the evaluation data does not lie beside the checkout")
    compiled = convert(
        f"{data / 'cifar10_teacher.py'}:build", {"x": (1, 3, 32, 32)}, folder, weights=str(data / "cifar10_teacher.pt")
    )
    feed = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    (made,) = infer(folder / compiled.main, {"x": feed})
    assert made.shape == (1, 10)
    assert np.abs(made).max() > 1
