"""Weights become zero by their size, step by step, and stay zero."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgewright.errors import UsageError
from edgewright.training.job import Settings, SparsitySettings, TrainJob
from tests.training.training_files import make_job, read_report

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("lightning_fabric", reason="lightning-fabric is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns of its own insides
SETTINGS = Settings(epochs=6, batch=16, lr=0.05, precision="fp32", threads=1)
LAYERS = ("stem.weight", "down.weight", "fc.weight")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The network's file leaves no trace, and only workers write ONNX, which takes longer than the training."""
    from edgewright.training import source

    monkeypatch.setattr(source, "export_module", lambda module, shapes, path, outputs: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("training_network", None)


def train(job: TrainJob) -> dict[str, Any]:
    from safetensors.numpy import load_file

    from edgewright.training.loop.train import run_training

    run_training(job, lambda word: None)
    return dict(load_file(Path(job.out) / "weights.safetensors"))


def make_net() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(8, 16, 3), torch.nn.BatchNorm2d(16), torch.nn.Conv2d(16, 4, 1))


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_the_wanted_share_is_zero_in_the_end(tmp_path: Path, scope: Any) -> None:
    job = make_job(tmp_path, SETTINGS, thinning=SparsitySettings(sparsity=0.75, scope=scope))
    weights = train(job)
    report = read_report(job)
    zeros = {name: int((weights[name] == 0).sum()) for name in LAYERS}
    sizes = {name: weights[name].size for name in LAYERS}
    assert (
        sum(zeros.values()) == round(0.75 * sum(sizes.values())) == report.zeros - int((weights["bn.bias"] == 0).sum())
    )
    if scope == "layer":
        assert all(zeros[name] == round(0.75 * sizes[name]) for name in LAYERS)
    rising = next(one.values for one in report.curves if one.name == "sparsity")
    assert list(rising) == sorted(rising)
    assert rising[0] < 0.3
    assert rising[21] == rising[-1] == pytest.approx(0.75, abs=0.01)  # half of 42 steps
    assert report.metric is not None
    assert report.metric > 0.8


def test_the_share_rises_by_the_cube() -> None:
    from edgewright.training.slicing.sparsity import SparsityMasks

    thin = SparsityMasks(make_net(), SparsitySettings(sparsity=0.8, until=1.0), 10)
    shares = []
    for step in range(1, 11):
        thin.apply(step)
        shares.append(thin.sparsity())
    assert shares == pytest.approx([0.8 * (1 - (1 - step / 10) ** 3) for step in range(1, 11)], abs=2e-3)
    assert [thin.is_final(step) for step in (9, 10)] == [False, True]


def test_the_smallest_go_and_stay_away() -> None:
    from edgewright.training.slicing.sparsity import SparsityMasks

    net = make_net()
    sizes = torch.cat([net[0].weight.abs().flatten(), net[2].weight.abs().flatten()])
    thin = SparsityMasks(net, SparsitySettings(sparsity=0.5, until=0.1), 10)
    thin.apply(1)
    left = torch.cat([net[0].weight.flatten(), net[2].weight.flatten()]) != 0
    assert sizes[left].min() >= sizes[~left].max()
    with torch.no_grad():
        net[0].weight += 1.0
    thin.apply(5)
    assert int((net[0].weight == 0).sum()) + int((net[2].weight == 0).sum()) == round(0.5 * len(sizes))


def test_a_pattern_keeps_n_of_each_m_inputs() -> None:
    from edgewright.training.slicing.sparsity import SparsityMasks

    net = make_net()
    whole = net[0].weight.detach().clone()
    thin = SparsityMasks(net, SparsitySettings(pattern="2:4", until=1.0), 4)
    for step in range(1, 5):
        thin.apply(step)
    kept = (net[0].weight != 0).reshape(16, 2, 4, 3, 3)
    assert (kept.sum(dim=2) == 2).all()
    groups = whole.abs().reshape(16, 2, 4, 3, 3)
    assert (torch.where(kept, groups, torch.inf).amin(2) >= torch.where(kept, -torch.inf, groups).amax(2)).all()
    assert thin.sparsity() == pytest.approx(0.5)


def test_layers_that_a_pattern_does_not_divide_are_left_and_reported(tmp_path: Path) -> None:
    job = make_job(tmp_path, SETTINGS, thinning=SparsitySettings(pattern="1:4"))
    weights = train(job)
    assert "stem.weight" in read_report(job).notes[0]
    assert (weights["stem.weight"] != 0).all()
    assert ((weights["down.weight"] != 0).reshape(8, 2, 4, 9).sum(axis=2) == 1).all()


def test_transposed_and_recurrent_weights_are_found_and_tables_are_not() -> None:
    from edgewright.training.slicing.sparsity import find_prunable_weights

    net = torch.nn.ModuleDict(
        {
            "up": torch.nn.ConvTranspose2d(4, 8, 2),
            "gru": torch.nn.GRU(4, 5),
            "table": torch.nn.Embedding(9, 4),
            "attention": torch.nn.MultiheadAttention(8, 2),
        }
    )
    found = {name: axis for name, (_, axis) in find_prunable_weights(net).items()}
    assert found == {
        "up.weight": 0,
        "gru.weight_ih_l0": 1,
        "gru.weight_hh_l0": 1,
        "attention.in_proj_weight": 1,
        "attention.out_proj.weight": 1,
    }


@pytest.mark.parametrize(
    ("thinning", "words"),
    [
        (SparsitySettings(sparsity=0.0), "no weight would become zero"),
        (SparsitySettings(sparsity=1.0), "all weights would become zero"),
        (SparsitySettings(sparsity=-0.1), "no weight would become zero"),
        (SparsitySettings(pattern="4:2"), "N:M keeps N of each M"),
        (SparsitySettings(pattern="0:4"), "N:M keeps N"),
        (SparsitySettings(pattern="half"), "N:M keeps N"),
    ],
)
def test_shares_and_patterns_that_are_not_supported(tmp_path: Path, thinning: SparsitySettings, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        train(make_job(tmp_path, SETTINGS, thinning=thinning))
    assert words in caught.value.why


def test_a_network_without_products_has_nothing_to_thin() -> None:
    from edgewright.training.slicing.sparsity import SparsityMasks

    with pytest.raises(UsageError):
        SparsityMasks(torch.nn.BatchNorm2d(3), SparsitySettings(), 10)
    with pytest.raises(UsageError):
        SparsityMasks(torch.nn.Conv2d(3, 3, 1), SparsitySettings(pattern="2:4"), 10)
