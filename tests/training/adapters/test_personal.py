"""Adapters: what they train, that they merge into the same outputs, and that they fit only their base."""

import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgewright.errors import EdgewrightError, ModelUnreadable, UsageError
from edgewright.schema.vocabulary import AdapterMethod
from edgewright.training.job import AdapterSettings, CachedDataset, ModuleSource, PersonalJob, PersonalReport, Settings
from tests.flows.experiment.quadrants import NETWORK, TASK

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns of its own insides


def build(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    space: dict[str, Any] = {}
    exec(NETWORK, space)
    return space["build"]().eval()


def adapt(module: Any, method: AdapterMethod) -> dict[str, Any]:
    from edgewright.training.adapters.layers import insert_adapter, list_adapted

    insert_adapter(module, method, 2, {"x": torch.zeros(2, 1, 8, 8)})
    return list_adapted(module)


EXPECTED = {
    "lora": {"first.weight_update.up", "first.weight_update.down", "second.weight_update.up",
             "second.weight_update.down", "out.weight", "out.bias"},
    "head": {"out.weight", "out.bias"},
    "bias": {"norm.weight", "norm.bias", "second.bias", "out.bias"},
    "full": {"first.weight", "norm.weight", "norm.bias", "second.weight", "second.bias", "out.weight", "out.bias"},
}  # fmt: skip


@pytest.mark.parametrize("method", EXPECTED)
def test_what_is_trained(method: AdapterMethod) -> None:
    module, images = build(), torch.rand(3, 1, 8, 8)
    before = module(images)
    assert set(adapt(module, method)) == EXPECTED[method]
    assert torch.equal(module(images), before)
    assert not module.train().norm.training


@pytest.mark.parametrize("method", EXPECTED)
def test_an_adapter_gives_the_same_outputs_when_it_is_merged_or_applied(tmp_path: Path, method: AdapterMethod) -> None:
    from edgewright.training.adapters.file import AdapterRecord, apply_adapter, read_record, write_adapter
    from edgewright.training.adapters.layers import merge_adapter
    from edgewright.training.loop.checkpoint import digest_module

    module, images = build(), torch.rand(3, 1, 8, 8)
    base, before = digest_module(module), module(images)
    with torch.no_grad():
        for one in adapt(module, method).values():
            one += torch.randn_like(one) * 0.1
    adapted = module(images)
    assert not torch.allclose(adapted, before, atol=1e-3)
    record = AdapterRecord(base=base, method=method, rank=2, seed=0, shapes={"x": (1, 1, 8, 8)})
    write_adapter(module, tmp_path / "a.safetensors", record)
    merge_adapter(module)
    assert torch.allclose(module(images), adapted, atol=1e-5)
    assert set(module.state_dict()) == set(build().state_dict())
    fresh = build()
    assert apply_adapter(fresh, tmp_path / "a.safetensors") == record == read_record(tmp_path / "a.safetensors")
    assert torch.allclose(fresh(images), adapted, atol=1e-5)


def test_an_adapter_fits_only_its_base(tmp_path: Path) -> None:
    from edgewright.training.adapters.file import AdapterRecord, apply_adapter, write_adapter
    from edgewright.training.loop.checkpoint import digest_module

    module = build()
    record = AdapterRecord(base=digest_module(module), method="head", rank=2, seed=0, shapes={})
    adapt(module, "head")
    write_adapter(module, tmp_path / "a.safetensors", record)
    with pytest.raises(UsageError, match="not an adapter for this model"):
        apply_adapter(build(seed=1), tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelUnreadable, match="not an adapter"):
        apply_adapter(build(), tmp_path / "b.safetensors")


def test_a_module_without_layers_has_nothing_to_adapt() -> None:
    from edgewright.training.adapters.layers import insert_adapter

    for method in ("lora", "head", "bias", "full"):
        with pytest.raises(UsageError):
            insert_adapter(torch.nn.Flatten(), method, 2, {"input": torch.zeros(1, 2)})


def draw(folder: Path, name: str, seed: int, *, upside_down: bool) -> CachedDataset:
    """Pictures of which one quarter is bright, for a user upside down, with the label of the quarter."""
    random, count = np.random.default_rng(seed), 64
    labels = random.integers(4, size=count)
    images = random.normal(0, 0.1, (count, 1, 8, 8)).astype(np.float32)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1
    if upside_down:
        images = images[:, :, ::-1].copy()
    np.save(folder / f"{name}-x.npy", images)
    np.save(folder / f"{name}-y.npy", labels)
    half = tuple(range(count // 2)), tuple(range(count // 2, count))
    return CachedDataset(
        inputs={"x": str(folder / f"{name}-x.npy")}, labels=str(folder / f"{name}-y.npy"), fit=half[0], held_out=half[1]
    )


def test_a_user_gains_and_the_public_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightning_fabric", reason="lightning-fabric is not installed")
    from edgewright.training.adapters.personal import run_personal

    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "net.py").write_text(NETWORK)
    public, user = draw(tmp_path, "public", 1, upside_down=False), draw(tmp_path, "user", 2, upside_down=True)
    job = PersonalJob(
        module=ModuleSource(factory=f"{tmp_path / 'net.py'}:build"),
        shapes={"x": (1, 1, 8, 8)},
        task=msgspec.json.encode(TASK).decode(),
        data=user,
        val=draw(tmp_path, "val", 3, upside_down=True),
        replay=public,
        public=public,
        adapter=AdapterSettings(method="full", replay=1),
        settings=Settings(epochs=12, batch=16, lr=0.02, optimizer="adamw", precision="fp32", threads=1),
        out=str(tmp_path / "out"),
    )
    (tmp_path / "out").mkdir()
    run_personal(job, lambda message: None)
    report = msgspec.json.decode((tmp_path / "out" / "report.json").read_bytes(), type=PersonalReport)
    assert report.user_after > report.user_before + 0.3
    assert report.trained == report.parameters
    assert {one.name for one in report.curves} >= {"loss.labels", "loss.replay"}
    assert {"adapter.safetensors", "weights.safetensors", "model.onnx"} <= {
        one.name for one in (tmp_path / "out").iterdir()
    }


def test_labels_that_do_not_fit_are_an_error(tmp_path: Path) -> None:
    from edgewright.training.adapters.personal import run_personal

    user = draw(tmp_path, "user", 2, upside_down=True)
    (tmp_path / "net.py").write_text(NETWORK)
    job = PersonalJob(
        module=ModuleSource(factory=f"{tmp_path / 'net.py'}:three_classes"), shapes={"x": (1, 1, 8, 8)},
        task=msgspec.json.encode(TASK).decode(), data=user, val=user, replay=user, public=user,
        adapter=AdapterSettings(), settings=Settings(batch=16, threads=1), out=str(tmp_path),
    )  # fmt: skip
    with pytest.raises(EdgewrightError, match="do not fit the module"):
        run_personal(job, lambda message: None)
