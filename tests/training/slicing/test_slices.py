"""Pruned modules: cut weights and the numbers that go with them, and the sources that build them."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgewright.errors import ModelNotConvertible, ModelNotFound, ModelUnreadable
from edgewright.training.job import ModuleSource
from tests.training.module_files import IMAGE, write_nets

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns of its own insides

from edgewright.formats.torch.program import build_module  # noqa: E402
from edgewright.formats.torch.weights import save_weights  # noqa: E402
from edgewright.training.slices import (  # noqa: E402
    Slices,
    apply_slices,
    build_sliced,
    make_slices,
    read_slices,
    slice_weights,
    write_built_module,
    write_slices,
)
from edgewright.training.source import load_module  # noqa: E402

Cuts = dict[str, dict[int, tuple[int, ...]]]
INNER = [place for place in range(32) if place != 5]  # of block 1


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield write_nets(tmp_path)
    for name in ("nets_of_the_test", "small", "smaller"):
        sys.modules.pop(name, None)


def inner_places(kept: list[int], block: int = 1) -> dict[str, dict[int, list[int]]]:
    """Of the channels between the two pointwise convolutions."""
    own = [f"{layer}.{name}" for layer in "14" for name in ("weight", "bias", "running_mean", "running_var")]
    names = ["0.weight", "3.weight", *own]
    return {f"blocks.{block}.body.{name}": {0: kept} for name in names} | {f"blocks.{block}.body.6.weight": {1: kept}}


def mobile(nets: str) -> ModuleSource:
    return ModuleSource(factory=f"{nets}:mobile")


def write_small(nets: str, folder: Path) -> Path:
    """`small.py`, of the mobile network without a channel of its block 1."""
    write_slices(make_slices(mobile(nets), folder, inner_places(INNER), shapes=IMAGE), folder / "s.json")
    return write_built_module(folder, "small", ModuleSource(factory=f"{nets}:mobile", slices=str(folder / "s.json")))


def run(module: Any, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    with torch.no_grad():
        return module.eval()(torch.randn(4, *IMAGE["image"][1:]))


def test_a_cut_module_computes_what_is_left(nets: str, tmp_path: Path) -> None:
    whole = load_module(ModuleSource(factory=f"{nets}:mobile"), 1)
    save_weights(whole, tmp_path / "whole.safetensors")
    write_slices(make_slices(mobile(nets), tmp_path, inner_places(INNER), shapes=IMAGE), tmp_path / "s.json")
    weights, slices = str(tmp_path / "whole.safetensors"), str(tmp_path / "s.json")
    source = ModuleSource(factory=f"{nets}:mobile", weights=weights, slices=slices, whole_weights=True)
    cut = load_module(source, 2)
    with torch.no_grad():
        whole.blocks[1].body[6].weight[:, 5] = 0  # what nobody reads need not be there
    torch.testing.assert_close(run(cut), run(whole))
    depthwise = cut.blocks[1].body[3]
    assert (depthwise.in_channels, depthwise.out_channels, depthwise.groups) == (31, 31, 31)
    assert cut.blocks[1].body[4].num_features == 31
    assert cut.blocks[1].body[6].in_channels == 31


def test_the_weights_of_a_cut_module_fit_it(nets: str, tmp_path: Path) -> None:
    write_slices(make_slices(mobile(nets), tmp_path, inner_places(INNER)), tmp_path / "s.json")
    source = ModuleSource(factory=f"{nets}:mobile", slices=str(tmp_path / "s.json"))
    save_weights(cut := load_module(source, 1), tmp_path / "w.safetensors")
    again = load_module(msgspec.structs.replace(source, weights=str(tmp_path / "w.safetensors")), 2)
    assert torch.equal(run(cut), run(again))


def test_a_written_source_is_an_ordinary_one_and_can_be_cut_again(nets: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    file = write_small(nets, first)
    save_weights(build_module(file, "build", None), first / "small.safetensors")
    source = ModuleSource(factory=f"{file}:build", weights=str(first / "small.safetensors"))
    small = load_module(source, 1)
    assert small.blocks[1].body[0].out_channels == 31
    with torch.no_grad():
        small.blocks[1].body[6].weight[:, :4] = 0
    save_weights(small, first / "small.safetensors")

    places = inner_places(list(range(4, 31)))
    slices = make_slices(source, second, places, shapes=IMAGE)
    assert slices.factory == "../nets_of_the_test.py:mobile"
    assert slices.parameters["blocks.1.body.0.weight"][0] == (4, *range(6, 32))
    write_slices(slices, second / "s.json")
    slice_weights(first / "small.safetensors", places, second / "smaller.safetensors")
    weights = str(second / "smaller.safetensors")
    smaller = load_module(ModuleSource(factory=f"{nets}:mobile", slices=str(second / "s.json"), weights=weights), 1)
    torch.testing.assert_close(run(smaller), run(small))
    again = write_built_module(second, "smaller", ModuleSource(factory=f"{nets}:mobile", slices=str(second / "s.json")))
    assert torch.equal(run(build_module(again, "build", weights)), run(smaller))


def test_written_sources_import_a_stable_name(nets: str, tmp_path: Path) -> None:
    """Files of earlier versions import it too, so it keeps its module and its name."""
    file = write_small(nets, tmp_path)
    assert "from edgewright.training.slices import build_sliced" in file.read_text()
    small = build_module(file, "build", None)
    assert run(build_sliced(file.with_suffix(".slices.json"))).shape == run(small).shape


def test_a_factory_that_changed_or_went_is_reported(nets: str, tmp_path: Path) -> None:
    file = write_small(nets, tmp_path)
    Path(nets).write_text(Path(nets).read_text() + "# one line more\n")
    with pytest.raises(ModelUnreadable, match=r"nets_of_the_test\.py has changed"):
        build_module(file, "build", None)
    Path(nets).unlink()
    with pytest.raises(ModelNotFound, match=r"file does not exist: .*nets_of_the_test\.py"):
        build_module(file, "build", None)


def test_slices_that_changed_or_went_are_reported(nets: str, tmp_path: Path) -> None:
    file = write_small(nets, tmp_path)
    slices = tmp_path / "small.slices.json"
    slices.write_bytes(slices.read_bytes().replace(b"[0,1,", b"[0,2,"))
    with pytest.raises(ModelUnreadable, match="has changed"):
        build_module(file, "build", None)
    slices.write_text("{}")
    with pytest.raises(ModelUnreadable, match="cannot be read"):
        build_module(file, "build", None)
    slices.unlink()
    with pytest.raises(ModelNotFound):
        read_slices(slices)


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"blocks.1.body.9.weight": {0: (1,)}}, "9"),
        ({"blocks.1.body.0.gamma": {0: (1,)}}, "no tensor 'blocks.1.body.0.gamma'"),
        ({"head.weight": {0: (5,)}}, "keeps indices up to 5"),
        ({"head.weight": {2: (0,)}}, "axis 2"),
        ({"head.weight": {0: ()}}, "axis 0"),
    ],
)
def test_slices_of_another_module_are_rejected(nets: str, parameters: Any, why: str) -> None:
    module = load_module(ModuleSource(factory=f"{nets}:mobile"), 1)
    with pytest.raises(ModelUnreadable) as caught:
        apply_slices(module, Slices(factory="x.py:x", parameters=parameters))
    assert why in caught.value.why


def test_a_forward_that_counts_by_constants_names_itself(nets: str) -> None:
    module = load_module(ModuleSource(factory=f"{nets}:stubborn"), 1)
    kept = (0, 1, 2)
    cut: Cuts = {"two.weight": {0: kept}, "two.bias": {0: kept}, "head.weight": {1: tuple(range(192))}}
    with pytest.raises(ModelNotConvertible) as caught:
        apply_slices(module, Slices(factory="x.py:x", parameters=cut, shapes=IMAGE))
    assert "in 'the module itself' (Stubborn), nets_of_the_test.py:" in caught.value.why


def test_a_block_that_is_taken_out_gives_what_it_is_given(nets: str) -> None:
    module = load_module(ModuleSource(factory=f"{nets}:mobile"), 1)
    apply_slices(module, Slices(factory="x.py:x", removed=("blocks.2",), shapes=IMAGE))
    assert isinstance(module.blocks[2], torch.nn.Identity)


def test_numbers_of_layers_follow_their_weights() -> None:
    nn = torch.nn
    layers = nn.ModuleDict(
        {
            "grouped": nn.Conv2d(8, 12, 3, groups=4),
            "turned": nn.ConvTranspose1d(8, 12, 3, groups=2),
            "norm": nn.GroupNorm(4, 8),
            "layer": nn.LayerNorm(8),
            "table": nn.Embedding(9, 6),
            "slopes": nn.PReLU(8),
        }
    )
    first = (0, 1, 2, 9, 10, 11)  # groups 0 and 3
    parameters: Cuts = {
        "grouped.weight": {0: first},
        "grouped.bias": {0: first},
        "turned.weight": {0: (4, 5, 6, 7), 1: (0, 2)},
        "turned.bias": {0: (6, 8)},
        "norm.weight": {0: (2, 3, 4, 5)},
        "norm.bias": {0: (2, 3, 4, 5)},
        "layer.weight": {0: (1, 2)},
        "layer.bias": {0: (1, 2)},
        "table.weight": {1: (3, 4)},
        "slopes.weight": {0: (7,)},
    }
    apply_slices(layers, Slices(factory="x.py:x", parameters=parameters))
    grouped, turned = layers["grouped"], layers["turned"]
    assert (grouped.in_channels, grouped.out_channels, grouped.groups) == (4, 6, 2)
    assert (turned.in_channels, turned.out_channels, turned.groups) == (4, 2, 1)
    assert grouped(torch.zeros(1, 4, 5, 5)).shape == (1, 6, 3, 3)
    assert turned(torch.zeros(1, 4, 5)).shape == (1, 2, 7)
    assert (layers["norm"].num_groups, layers["norm"].num_channels) == (2, 4)
    assert layers["layer"].normalized_shape == (2,)
    assert (layers["table"].num_embeddings, layers["table"].embedding_dim) == (9, 2)
    assert layers["slopes"].num_parameters == 1


def test_groups_of_different_sizes_are_rejected() -> None:
    layer = torch.nn.Sequential(torch.nn.Conv2d(8, 12, 3, groups=4))
    with pytest.raises(ModelNotConvertible, match="'0' cannot be sliced") as caught:
        apply_slices(layer, Slices(factory="x.py:x", parameters={"0.weight": {0: (0, 1, 3)}}))
    assert "must keep equally many" in caught.value.why


def test_attention_of_torch_is_rejected(nets: str) -> None:
    module = load_module(ModuleSource(factory=f"{nets}:attended"), 1)
    cut: Cuts = {"self_attn.out_proj.weight": {1: (0, 1)}}
    with pytest.raises(ModelNotConvertible, match="'self_attn' cannot be sliced"):
        apply_slices(module, Slices(factory="x.py:x", parameters=cut))


def test_tied_weights_stay_tied(nets: str) -> None:
    module = load_module(ModuleSource(factory=f"{nets}:tied"), 1)
    kept = (0, 2, 4, 6)
    cut: Cuts = {"out.weight": {1: kept}, "inner.weight": {1: kept}, "back.weight": {0: kept}, "back.bias": {0: kept}}
    apply_slices(module, Slices(factory="x.py:x", parameters=cut))
    assert module.out.weight is module.embed.weight
    assert module.embed.embedding_dim == module.out.in_features == 4
    assert module(torch.zeros(1, 3, dtype=torch.int64)).shape == (1, 3, 20)


def test_fresh_weights_of_a_cut_layer_keep_the_variance_of_its_sums(nets: str, tmp_path: Path) -> None:
    write_slices(make_slices(mobile(nets), tmp_path, inner_places(list(range(8)))), tmp_path / "s.json")
    source = ModuleSource(factory=f"{nets}:mobile", slices=str(tmp_path / "s.json"), fresh=True)
    whole, cut = load_module(ModuleSource(factory=f"{nets}:mobile"), 1), load_module(source, 1)
    for name, grown in (("0", 1.0), ("6", 2.0)):  # 32 inputs, of which 8 are left
        path = f"blocks.1.body.{name}.weight"
        kept = whole.get_parameter(path)[:8] if name == "0" else whole.get_parameter(path)[:, :8]
        torch.testing.assert_close(cut.get_parameter(path), kept * grown)
