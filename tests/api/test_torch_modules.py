"""Torch modules in memory. Slow: torch is imported, and the modules are exported."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgewright
from edgewright.errors import ModelNotConvertible
from tests.api.conftest import DIGITS
from tests.api.test_cancel import MODEL, TASK, cancel_at

NETWORK = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.last = torch.nn.Linear(64, 10)

    def forward(self, image):
        return self.last(image.flatten(1))

build = Net
"""


def test_a_module_is_checked_on_drawn_inputs_as_a_file(folder: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU())
    result = edgewright.compile(module, inputs=torch.zeros(1, 1, 8, 8), runtime="onnxruntime", output="c")
    checked = result.rows[0].numerics
    assert checked is not None
    assert (checked.samples > 1, checked.seed) == (True, 0)  # the single example would be without a seed


@pytest.mark.parametrize("call", ["compile", "analyze"])
def test_a_forward_that_exits_is_an_error(folder: Path, call: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")

    class Leaving(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            raise SystemExit(3)

    with pytest.raises(ModelNotConvertible, match="the module Leaving cannot be exported"):
        getattr(edgewright, call)(Leaving(), inputs=torch.zeros(1, 2))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_cancelled_training_is_recorded_as_such(folder: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    Path("n.py").write_text(NETWORK, encoding="utf-8")
    with np.load(DIGITS / "heldout.npz") as arrays:
        np.savez("train.npz", **{name: array[:200] for name, array in arrays.items()})
        np.savez("val.npz", **{name: array[200:] for name, array in arrays.items()})
    data: dict[str, Any] = {"data": "train.npz", "val": "val.npz", "epochs": 3000, "allow_code": True}
    cancel_at("student: ", lambda **own: edgewright.distill(teacher=MODEL, student="n.py:build", **data, **TASK, **own))
    (run,) = edgewright.list_runs(kind="distil").rows
    assert run.state == "cancelled"
