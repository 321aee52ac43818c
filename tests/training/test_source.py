"""Modules for training: matching and mismatched weights, new ones, and the export to ONNX."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edgewright.errors import EdgewrightError, ModelNotFound, ModelUnreadable
from edgewright.training.job import ModuleSource
from tests.training.module_files import IMAGE, write_nets

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns of its own insides

from edgewright.formats.torch.weights import save_weights  # noqa: E402
from edgewright.training.source import export_module, load_module, reinitialize_weights  # noqa: E402


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield write_nets(tmp_path)
    sys.modules.pop("nets_of_the_test", None)


def same(one: Any, other: Any) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_seed_decides_what_a_factory_draws(nets: str) -> None:
    before = torch.random.get_rng_state()
    one, again, other = (load_module(ModuleSource(factory=f"{nets}:mobile"), seed) for seed in (1, 1, 2))
    assert same(one, again)
    assert not same(one, other)
    assert one.training
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_are_loaded(nets: str, tmp_path: Path, suffix: str) -> None:
    module, path = load_module(ModuleSource(factory=f"{nets}:mobile"), 1), tmp_path / f"w{suffix}"
    if suffix == ".pt":
        state = {f"module.{name}": value for name, value in module.state_dict().items()}
        torch.save({"epoch": 3, "model": state}, path)
    else:
        save_weights(module, path)
    assert same(module, load_module(ModuleSource(factory=f"{nets}:mobile", weights=str(path)), 2))


def test_tied_weights_are_written_once(nets: str, tmp_path: Path) -> None:
    module = load_module(ModuleSource(factory=f"{nets}:tied"), 1)
    save_weights(module, tmp_path / "w.safetensors")
    again = load_module(ModuleSource(factory=f"{nets}:tied", weights=str(tmp_path / "w.safetensors")), 2)
    assert same(module, again)
    assert again.out.weight is again.embed.weight


def test_keys_that_do_not_fit_are_listed(nets: str, tmp_path: Path) -> None:
    state = load_module(ModuleSource(factory=f"{nets}:mobile"), 1).state_dict()
    del state["head.bias"]
    state["head.weight"] = torch.zeros(7, 16)
    state |= {f"extra.{i}": torch.zeros(1) for i in range(12)}
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ModelUnreadable) as caught:
        load_module(ModuleSource(factory=f"{nets}:mobile", weights=str(tmp_path / "w.pt")), 1)
    missing, unexpected, shapes = caught.value.why.splitlines()
    assert missing == "1 missing: head.bias"
    assert unexpected.startswith("12 unexpected: extra.0, ")
    assert unexpected.endswith("extra.9 and 2 more")
    assert shapes == "1 with other shapes: head.weight ([5, 16] in the module, [7, 16] in the file)"


def test_pickled_code_is_rejected_in_words(nets: str, tmp_path: Path) -> None:
    torch.save(load_module(ModuleSource(factory=f"{nets}:mobile"), 1), tmp_path / "w.pt")
    with pytest.raises(ModelUnreadable, match="pickled code") as caught:
        load_module(ModuleSource(factory=f"{nets}:mobile", weights=str(tmp_path / "w.pt")), 1)
    assert "safetensors" in caught.value.try_this


@pytest.mark.parametrize(
    ("factory", "kind", "why"),
    [
        ("absent", ModelUnreadable, "no function 'absent', but"),
        ("raises", ModelUnreadable, "ValueError: no such width"),
        ("nothing", ModelUnreadable, "it returns int"),
    ],
)
def test_a_factory_that_builds_no_module_is_reported(
    nets: str, factory: str, kind: type[EdgewrightError], why: str
) -> None:
    with pytest.raises(kind) as caught:
        load_module(ModuleSource(factory=f"{nets}:{factory}"), 1)
    assert why in caught.value.why


def test_files_that_are_not_there_are_reported(nets: str, tmp_path: Path) -> None:
    for source in (
        ModuleSource(factory=str(tmp_path / "none.py:build")),
        ModuleSource(factory=str(tmp_path / "none.onnx")),
        ModuleSource(factory=f"{nets}:mobile", weights=str(tmp_path / "none.pt")),
    ):
        with pytest.raises(ModelNotFound):
            load_module(source, 1)


def test_damaged_weights_are_reported(nets: str, tmp_path: Path) -> None:
    for name, content in (("w.pt", b"PK\x03\x04 and no more"), ("w.safetensors", b"\x08\0\0\0\0\0\0\0not json")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelUnreadable):
            load_module(ModuleSource(factory=f"{nets}:mobile", weights=str(tmp_path / name)), 1)


def test_fresh_weights_are_drawn_even_where_the_factory_loads_some(nets: str) -> None:
    one, other = (load_module(ModuleSource(factory=f"{nets}:loaded", fresh=True), seed) for seed in (1, 2))
    assert not torch.equal(one.layer.weight, other.layer.weight)
    assert not torch.equal(one.layer.weight, torch.eye(4))
    whole = load_module(ModuleSource(factory=f"{nets}:loaded"), 1)
    assert reinitialize_weights(whole, load_module(ModuleSource(factory=f"{nets}:loaded"), 2), 1) == ["table"]


def test_an_export_computes_the_same_and_leaves_the_modes(nets: str, tmp_path: Path) -> None:
    module = load_module(ModuleSource(factory=f"{nets}:mobile"), 1)
    module.stem.eval()
    export_module(module.to(memory_format=torch.channels_last), IMAGE, tmp_path / "m.onnx")
    assert module.training
    assert module.blocks.training
    assert not module.stem.training
    assert b"stack_trace" not in (tmp_path / "m.onnx").read_bytes()  # with the paths of this machine
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).standard_normal(IMAGE["image"]).astype(np.float32)
    with torch.no_grad():
        wanted = module.eval()(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(session.run(None, {"image": image})[0], wanted, rtol=1e-4, atol=1e-5)
