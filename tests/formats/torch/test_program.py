"""Torch sources: a user's file with its weights, .pt2, TorchScript; and what of them cannot be used."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.errors import InputError, ModelNotConvertible, ModelNotFound, ModelUnreadable
from edgewright.formats.torch.explain import explain_error
from edgewright.formats.torch.program import (
    RANDOM_WEIGHTS,
    LoadedProgram,
    build_module,
    describe_program,
    load_source,
    load_torch,
    map_ports,
)
from edgewright.formats.torch_files import find_torch_kind
from tests.models.torch_files import build_plain, write_network

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns of its own insides
SHAPES = {"image": (2, 3, 16, 16)}


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield write_network(tmp_path)
    for name in ("network_of_the_test", "helper_of_the_test"):
        sys.modules.pop(name, None)


def run(loaded: LoadedProgram, seed: int = 0) -> list[Any]:
    torch.manual_seed(seed)
    feeds = [torch.randn(one.shape) for one in loaded.inputs]
    with torch.no_grad():
        made = loaded.callable()(*feeds)
    return [tensor.numpy() for tensor in (made if isinstance(made, tuple | list) else (made,))]


def test_a_factory_is_called_from_its_own_folder(network: Path) -> None:
    loaded = load_torch(f"{network}:build", SHAPES)
    assert not loaded.program.training
    assert [tuple(one) for one in loaded.inputs] == [("image", (2, 3, 16, 16), "float32")]
    assert [tuple(one) for one in loaded.outputs] == [("output", (2, 5), "float32")]


def test_inputs_keep_the_order_of_forward(network: Path) -> None:
    loaded = load_torch(f"{network}:build", {"scale": (2, 8), "image": (2, 3, 16, 16)})
    assert [one.name for one in loaded.inputs] == ["image", "scale"]
    assert [port.source for port in map_ports(loaded).inputs] == ["image", "scale"]


def test_weights_are_loaded_from_their_own_file(network: Path, tmp_path: Path) -> None:
    plain = load_torch(f"{network}:build", SHAPES)
    torch.save({"state_dict": plain.program.state_dict()}, tmp_path / "w.pt")
    again = load_torch(f"{network}:build", SHAPES, weights=str(tmp_path / "w.pt"))
    np.testing.assert_array_equal(run(plain)[0], run(again)[0])
    assert not np.array_equal(run(plain)[0], run(load_torch(f"{network}:build", SHAPES))[0])


def test_weights_cannot_run_code(network: Path, tmp_path: Path) -> None:
    torch.save({"conv.weight": Path(tmp_path)}, tmp_path / "w.pt")  # any object but a tensor
    with pytest.raises(ModelUnreadable):
        load_torch(f"{network}:build", SHAPES, weights=str(tmp_path / "w.pt"))


def test_other_weights_are_rejected(network: Path, tmp_path: Path) -> None:
    torch.save(build_plain().state_dict(), tmp_path / "w.pt")
    with pytest.raises(ModelUnreadable, match="weights"):
        load_torch(f"{network}:build", SHAPES, weights=str(tmp_path / "w.pt"))


@pytest.mark.parametrize(("factory", "why"), [("build_nothing", "int"), ("build_badly", "no such layer"), ("x", "'x'")])
def test_a_factory_that_gives_no_module_is_reported(network: Path, factory: str, why: str) -> None:
    with pytest.raises(ModelUnreadable) as reported:
        load_torch(f"{network}:{factory}", SHAPES)
    assert why in reported.value.why


def test_unknown_inputs_name_the_known_ones(network: Path) -> None:
    with pytest.raises(InputError) as reported:
        load_torch(f"{network}:build", {"picture": (1, 3, 16, 16)})
    assert "image, scale" in reported.value.why


def test_an_exported_program_has_its_own_shapes(tmp_path: Path) -> None:
    model = build_plain()
    torch.export.save(torch.export.export(model, (torch.zeros(1, 3, 8, 8),)), tmp_path / "m.pt2")
    loaded = load_torch(str(tmp_path / "m.pt2"), {})
    assert loaded.inputs[0].shape == (1, 3, 8, 8)
    torch.manual_seed(0)
    np.testing.assert_allclose(
        run(loaded)[0], model(torch.manual_seed(0) and torch.randn(1, 3, 8, 8)).detach(), rtol=1e-5
    )
    with pytest.raises(InputError):
        load_torch(str(tmp_path / "m.pt2"), {loaded.inputs[0].name: (2, 3, 8, 8)})


def test_a_torchscript_file_runs_and_is_not_exported(tmp_path: Path) -> None:
    path = str(tmp_path / "m.pt")
    torch.jit.save(torch.jit.trace(build_plain(), torch.zeros(1, 3, 8, 8)), path)
    loaded = load_torch(path, {load_torch_name(path): (1, 3, 8, 8)})
    assert run(loaded)[0].shape == (1, 5)
    with pytest.raises(ModelNotConvertible):
        loaded.export()


def load_torch_name(path: str) -> str:
    """Return the name of the input, from the rejection."""
    with pytest.raises(InputError) as reported:
        load_torch(path, {})
    return reported.value.why.removeprefix("forward takes ")


def test_half_precision_keeps_the_types_outside(network: Path) -> None:
    torch.manual_seed(1)
    loaded = load_source(f"{network}:build", "torch", SHAPES, half=True)
    (made,) = run(loaded)
    assert made.dtype == np.float32
    assert loaded.program.inner.fc.weight.dtype == torch.float16


def test_integer_inputs_are_found_by_trying(tmp_path: Path) -> None:
    path = tmp_path / "words_of_the_test.py"
    path.write_text(
        "from torch import nn\n\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.words = nn.Embedding(9, 4)\n\n    def forward(self, ids, weight):\n"
        "        return self.words(ids) * weight\n"
    )
    loaded = load_torch(f"{path}:Net", {"ids": (2, 3), "weight": (1,)})
    assert [one.dtype for one in loaded.inputs] == ["int64", "float32"]
    with pytest.raises(InputError):
        load_torch(f"{path}:Net", {"ids": (2, 3), "weight": (7,)})


@pytest.mark.parametrize("name", ["absent.pt2", "absent.py:build"])
def test_an_absent_file_is_reported(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelNotFound):
        load_torch(str(tmp_path / name), {})


def test_a_damaged_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "m.pt2").write_bytes(b"nothing")
    with pytest.raises(ModelUnreadable):
        load_torch(str(tmp_path / "m.pt2"), {})


@pytest.mark.parametrize("suffix", [".jit", ".torchscript", ""])
def test_a_torchscript_file_is_found_by_its_content(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    torch.jit.save(torch.jit.trace(build_plain(), torch.zeros(1, 3, 8, 8)), str(path))
    assert load_torch(str(path), {"input": (1, 3, 8, 8)}).kind == "script"


def test_a_program_of_export_is_found_by_its_content(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(build_plain(), (torch.zeros(1, 3, 8, 8),)), tmp_path / "m.bin")
    assert load_torch(str(tmp_path / "m.bin"), {}).kind == "exported"


def test_what_torch_save_writes_is_told_apart(tmp_path: Path) -> None:
    model = build_plain()
    torch.save(model.state_dict(), tmp_path / "state.pt")
    torch.save({"model": model.state_dict(), "epoch": 3}, tmp_path / "checkpoint.bin")
    torch.save(model.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save(model, tmp_path / "module.pt")
    torch.save(model, tmp_path / "later.pt", pickle_protocol=4)
    kinds = {path.name: find_torch_kind(path) for path in tmp_path.iterdir()}
    assert kinds == {
        "state.pt": "weights",
        "checkpoint.bin": "weights",
        "old.pth": "weights",
        "module.pt": "module",
        "later.pt": "module",
    }


def test_a_number_among_the_inputs_is_named(tmp_path: Path) -> None:
    class Scaled(torch.nn.Module):  # type: ignore[misc]  # torch's types are not read by mypy
        def forward(self, x: Any, rate: int) -> Any:
            return x * rate

    with pytest.raises(InputError, match="'rate' of the module has no shape") as caught:
        describe_program(Scaled(), "module", {"x": (1, 4)})
    assert "returns self.inner(x, 16000)" in caught.value.try_this


def test_random_weights_are_noted(network: Path, tmp_path: Path) -> None:
    plain = load_torch(f"{network}:build", SHAPES)
    assert plain.notes == (RANDOM_WEIGHTS,)
    torch.save(plain.program.state_dict(), tmp_path / "w.pt")
    assert load_torch(f"{network}:build", SHAPES, weights=str(tmp_path / "w.pt")).notes == ()


def test_an_export_error_has_its_cause_and_the_users_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "branching_of_the_test.py"
    path.write_text(
        "import torch\nclass M(torch.nn.Module):\n    def forward(self, x):\n        return x if x.sum() > 0 else -x\n"
        "    def fail(self, x):\n        raise RuntimeError('\x1b[96mabsent\x1b[0m')\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    module = build_module(path, "M", None)
    sys.modules.pop("branching_of_the_test")
    with pytest.raises(Exception, match="data-dependent") as caught:
        torch.export.export(module, (torch.zeros(2),))
    found = explain_error(caught.value)
    assert "Could not guard on data-dependent expression" in found
    assert "return x if x.sum() > 0 else -x" in found
    assert "TORCH_LOGS" not in found
    with pytest.raises(RuntimeError, match="absent") as plain:
        module.fail(None)
    assert explain_error(plain.value).startswith("RuntimeError: absent\n")
    assert 'File "branching_of_the_test.py", line 6, in fail: raise RuntimeError' in explain_error(plain.value)
