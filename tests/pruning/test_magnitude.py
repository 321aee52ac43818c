"""Single weights at zero: the smallest over all layers, in each, or in a pattern; and what a package saves by it."""

import zlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgewright.errors import UsageError
from edgewright.pruning.magnitude import measure_packed_bytes, sparsify_graph
from edgewright.quantization.executor import open_session
from tests.pruning.prune_graphs import Array, Net, make_inputs
from tests.pruning.test_groups import IMAGE, mobile, residual


def weights(model: onnx.ModelProto) -> dict[str, Array]:
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def test_the_smallest_of_all_layers() -> None:
    model = residual()
    thinned = sparsify_graph(model, 0.8)
    before, after = weights(model), weights(thinned.model)
    names = {"stem.weight", "a.weight", "b.weight", "c.weight", "short.weight", "head.weight"}
    assert set(thinned.zeros) == names
    kept = [np.abs(before[name][after[name] != 0]) for name in names]
    gone = [np.abs(before[name][after[name] == 0]) for name in names]
    total = sum(before[name].size for name in names)
    assert sum(zeros for zeros, _ in thinned.zeros.values()) == sum(one.size for one in gone) == round(0.8 * total)
    assert max(one.max() for one in gone if one.size) <= min(one.min() for one in kept if one.size)
    for name in before.keys() - names:
        np.testing.assert_array_equal(after[name], before[name])
    assert open_session(thinned.model.SerializeToString()).run(None, make_inputs(model))[0].shape == (1, 5)


def test_the_smallest_of_each_layer() -> None:
    model = residual()
    thinned = sparsify_graph(model, 0.5, scope="layer")
    before, after = weights(model), weights(thinned.model)
    for name, (zeros, size) in thinned.zeros.items():
        assert zeros == round(0.5 * size) == (after[name] == 0).sum()
        assert np.abs(before[name][after[name] == 0]).max() <= np.abs(before[name][after[name] != 0]).min()


def test_two_of_four_along_the_input_channels() -> None:
    model = mobile()
    thinned = sparsify_graph(model, 0.5, pattern="2:4")
    assert "deep.weight" not in thinned.zeros  # one input channel
    assert "wide.weight" not in thinned.zeros  # three
    before, after = weights(model)["narrow.weight"], weights(thinned.model)["narrow.weight"]
    blocks = after.reshape(4, 4, 4)
    assert ((blocks != 0).sum(-1) == 2).all()
    largest = np.sort(np.abs(before.reshape(4, 4, 4)), -1)[..., 2:]
    np.testing.assert_array_equal(np.sort(np.abs(blocks), -1)[..., 2:], largest)


def test_either_matrix_of_a_product_counts_along_the_axis_that_is_summed() -> None:
    """A vector and integers are no weights."""
    net = Net()
    product = net.op("MatMul", net.op("MatMul", net.weight("left", 8, 4), "x"), net.weight("right", 4, 8))
    product = net.op("MatMul", product, net.weight("vector", 8))
    net.op("MatMul", net.put("integers", np.ones((4, 4), np.int64)), "integers")
    net.op("Gemm", "x", net.weight("dense", 4, 8))
    thinned = sparsify_graph(net.model({"x": (4, 4)}, product), 0.5, pattern="2:4")
    assert set(thinned.zeros) == {"left", "right", "dense"}
    after = weights(thinned.model)
    assert ((after["dense"] != 0).sum(0) == 2).all()
    assert ((after["left"] != 0).sum(1) == 2).all()
    assert ((after["right"] != 0).sum(0) == 2).all()


def test_a_rest_that_is_no_whole_block_stays() -> None:
    net = Net()
    model = net.model({"x": (1, 10)}, net.op("MatMul", "x", net.weight("w", 10, 3)))
    after = weights(sparsify_graph(model, 0.5, pattern="1:4").model)["w"]
    assert ((after[:8].reshape(2, 4, 3) != 0).sum(1) == 1).all()
    assert (after[8:] != 0).all()


@pytest.mark.parametrize(
    ("sparsity", "why"),
    [(0.0, "no weight"), (1.0, "all weights would become zero"), (1.5, "all weights would become zero")],
)
def test_shares_that_are_none(sparsity: float, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        sparsify_graph(residual(), sparsity)


@pytest.mark.parametrize("pattern", ["4:2", "0:4", "2-4", "a:b"])
def test_patterns_that_are_none(pattern: str) -> None:
    with pytest.raises(UsageError, match="keeps N of each M"):
        sparsify_graph(residual(), 0.5, pattern=pattern)


def test_a_model_without_weights() -> None:
    net = Net()
    with pytest.raises(UsageError, match="no weights to prune"):
        sparsify_graph(net.model(IMAGE, net.op("Relu", "x")), 0.5)


def test_zeros_pack_well(tmp_path: Path) -> None:
    model = residual()
    sizes = []
    for share in (0.1, 0.9):
        onnx.save(sparsify_graph(model, share).model, tmp_path / "thin.onnx")
        sizes.append(measure_packed_bytes(tmp_path / "thin.onnx"))
    data = (tmp_path / "thin.onnx").read_bytes()
    packer = zlib.compressobj(9, wbits=-15)
    assert sizes[1] == len(packer.compress(data) + packer.flush())
    assert sizes[1] < 0.5 * sizes[0] < (tmp_path / "thin.onnx").stat().st_size
