"""Groups of made graphs, operator by operator; and a cut graph computes what the whole one does with zeros instead."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edgewright.pruning.graph_pruner import prune_graph
from edgewright.pruning.groups import PruningGroups, find_groups
from edgewright.quantization.executor import open_session
from tests.pruning.prune_graphs import Net, make_inputs, zero_units

IMAGE = {"x": (1, 3, 8, 8)}
WORDS = {"x": (1, 6, 8)}


def residual() -> Any:
    net = Net()
    stem = net.op("Relu", net.norm(net.conv("x", "stem", 3, 8), "bn", 8))
    inner = net.op("Relu", net.norm(net.conv(stem, "a", 8, 12), "bn_a", 12))
    stem = net.op("Add", net.norm(net.conv(inner, "b", 12, 8), "bn_b", 8), stem)
    down = net.op("Add", net.conv(stem, "c", 8, 16, strides=[2, 2]), net.conv(stem, "short", 8, 16, 1, strides=[2, 2]))
    flat = net.op("Flatten", net.op("GlobalAveragePool", net.op("Relu", down)))
    return net.model(IMAGE, net.linear(flat, "head", 16, 5))


def dense() -> Any:
    net = Net()
    first = net.conv("x", "a", 3, 6)
    second = net.conv(net.op("Relu", net.norm(first, "bn", 6)), "b", 6, 4)
    joined = net.op("Concat", first, second, axis=1)
    third = net.conv(net.op("Relu", net.norm(joined, "bn2", 10)), "c", 10, 4)
    return net.model(IMAGE, net.conv(net.op("Concat", joined, third, axis=-3), "head", 14, 2))


def mobile() -> Any:
    net = Net()
    net.put("low", np.zeros((), np.float32))
    net.put("high", np.full((), 6, np.float32))
    wide = net.op("Clip", net.conv("x", "wide", 3, 16, 1), "low", "high")
    deep = net.op("HardSwish", net.conv(wide, "deep", 16, 16, 3, 16))
    squeezed = net.op("Relu", net.conv(net.op("GlobalAveragePool", deep), "squeeze", 16, 4, 1))
    gate = net.op("HardSigmoid", net.conv(squeezed, "excite", 4, 16, 1))
    return net.model(IMAGE, net.conv(net.op("Mul", deep, gate), "narrow", 16, 4, 1))


def multiplier() -> Any:
    net = Net()
    return net.model(IMAGE, net.conv(net.conv(net.conv("x", "a", 3, 4), "deep", 4, 12, 3, 4), "head", 12, 2))


def grouped() -> Any:
    net = Net()
    many = net.conv(net.conv("x", "a", 3, 16), "many", 16, 16, 3, 8)  # 8 groups of 2: whole groups go
    few = net.conv(many, "few", 16, 12, 3, 2)  # 2 groups of 8: the same place of each
    return net.model(IMAGE, net.conv(few, "head", 12, 2))


def flattened() -> Any:
    net = Net()
    pooled = net.op("MaxPool", net.conv("x", "a", 3, 6), kernel_shape=[2, 2], strides=[2, 2])
    flat = net.op("Reshape", pooled, net.put("shape", [1, 96]))
    hidden = net.op("Gemm", flat, net.weight("b.weight", 10, 96), net.weight("b.bias", 10), transB=1, name="n_b")
    slope = net.weight("slope", 10)
    return net.model(IMAGE, net.op("Gemm", net.op("PRelu", hidden, slope), net.weight("head.weight", 10, 3)))


def attend(net: Net, parts: Sequence[str], heads: int, width: int) -> str:
    """Of query, key and value as [1, heads, words, width]; back as [1, words, heads × width]."""
    query, key, value = parts
    scores = net.op("MatMul", query, net.op("Transpose", key, perm=[0, 1, 3, 2]))
    mixed = net.op("MatMul", net.op("Softmax", scores, axis=-1), value)
    mixed = net.op("Transpose", mixed, perm=[0, 2, 1, 3])
    made: str = net.op("Reshape", mixed, net.put(f"{query}/shape", [0, 0, heads * width]))
    return made


def separate_heads() -> Any:
    net = Net()
    shape = net.put("shape", [1, 6, 4, 3])
    parts = [
        net.op("Transpose", net.op("Reshape", net.linear("x", name, 8, 12), shape), perm=[0, 2, 1, 3])
        for name in ("query", "key", "value")
    ]
    return net.model(WORDS, net.linear(attend(net, parts, 4, 3), "out", 12, 8))


def fused_heads() -> Any:
    """One product for all three, split along its width."""
    net = Net()
    shape = net.put("shape", [1, -1, 4, 3])
    parts = net.op("Split", net.linear("x", "qkv", 8, 36), net.put("sizes", [12, 12, 12]), axis=2, outputs=3)
    parts = [net.op("Transpose", net.op("Reshape", part, shape), perm=[0, 2, 1, 3]) for part in parts]
    return net.model(WORDS, net.linear(attend(net, parts, 4, 3), "out", 12, 8))


def stacked_heads() -> Any:
    """One product for all three, as [3, heads, width] of which each third is picked by its number."""
    net = Net()
    table = net.op("Reshape", net.linear("x", "qkv", 8, 36), net.put("shape", [1, 6, 3, 4, 3]))
    table = net.op("Transpose", table, perm=[2, 0, 3, 1, 4])
    parts = [net.op("Gather", table, net.put(f"third{place}", place), axis=0) for place in range(3)]
    return net.model(WORDS, net.linear(attend(net, parts, 4, 3), "out", 12, 8))


def shared_keys() -> Any:
    """Two heads of queries for each of keys and values."""
    net = Net()
    query = net.op("Reshape", net.linear("x", "query", 8, 24), net.put("shape", [1, 6, 8, 3]))
    parts = [net.op("Transpose", query, perm=[0, 2, 1, 3])]
    for name in ("key", "value"):
        part = net.op("Reshape", net.linear("x", name, 8, 12), net.put("few", [1, 6, 4, 1, 3]))
        part = net.op("Transpose", part, perm=[0, 2, 3, 1, 4])
        part = net.op("Expand", part, net.put("twice", [1, 4, 2, 6, 3]))
        parts.append(net.op("Reshape", part, net.put("all", [1, 8, 6, 3])))
    return net.model(WORDS, net.linear(attend(net, parts, 8, 3), "out", 24, 8))


def upwards() -> Any:
    net = Net()
    skip = net.conv("x", "skip", 3, 6)
    low = net.conv(skip, "low", 6, 8, strides=[2, 2])
    weight = net.weight("up.weight", 8, 5, 2, 2)
    up = net.op("ConvTranspose", low, weight, net.weight("up.bias", 5), strides=[2, 2], kernel_shape=[2, 2])
    large = net.op("Resize", low, "", net.put("scales", np.array([1, 1, 2, 2], np.float32)), mode="nearest")
    sized = net.op("Resize", low, "", "", net.put("sizes", [1, 8, 8, 8]), mode="nearest")
    return net.model(IMAGE, net.conv(net.op("Concat", up, large, skip, sized, axis=1), "head", 27, 2))


def transposed_groups() -> Any:
    net = Net()
    weight = net.weight("deep.weight", 8, 2, 2, 2)
    deep = net.op("ConvTranspose", net.conv("x", "a", 3, 8), weight, group=8, strides=[2, 2], kernel_shape=[2, 2])
    few = net.op("ConvTranspose", deep, net.weight("few.weight", 16, 6, 1, 1), group=2, kernel_shape=[1, 1])
    return net.model(IMAGE, net.conv(few, "head", 12, 2))


def shuffled() -> Any:
    net = Net()
    joined = net.op("Concat", net.conv("x", "a", 3, 6), net.conv("x", "b", 3, 6), axis=1)
    table = net.op("Reshape", joined, net.put("apart", [1, 2, 6, 8, 8]))
    table = net.op("Identity", net.op("Transpose", table, perm=[0, 2, 1, 3, 4]))
    mixed = net.op("Reshape", table, net.put("back", [1, 12, 8, 8]))
    left, right = net.op("Split", mixed, axis=1, num_outputs=2, outputs=2)
    return net.model(IMAGE, net.conv(left, "left", 6, 2), net.conv(right, "right", 6, 2))


def normalized() -> Any:
    net = Net(opset=21)
    x = net.op("InstanceNormalization", net.conv("x", "a", 3, 8), net.weight("s", 8), net.weight("t", 8))
    x = net.op("GroupNormalization", x, net.weight("gs", 8), net.weight("gt", 8), num_groups=4)
    x = net.op("LpNormalization", net.conv(x, "b", 8, 6), axis=1)
    return net.model(IMAGE, net.conv(x, "head", 6, 2))


def groups_by_reshape() -> Any:
    """Return a group normalization as exported by torch."""
    net = Net()
    table = net.op("Reshape", net.conv("x", "a", 3, 8), net.put("rows", [0, 4, -1]))
    ones, zeros = net.put("ones", np.ones(4, np.float32)), net.put("zeros", np.zeros(4, np.float32))
    x = net.op("Reshape", net.op("InstanceNormalization", table, ones, zeros), net.put("back", [1, 8, 8, 8]))
    x = net.op("Mul", x, net.weight("gain", 8, 1, 1))
    return net.model(IMAGE, net.conv(x, "head", 8, 2))


def pieces() -> Any:
    """Slices, padding, rows by number, both halves of a gate."""
    net = Net()
    x = net.conv("x", "a", 3, 12)
    early = net.op("Slice", x, net.put("s", [-12]), net.put("e", [5]), net.put("axis", [1]))
    early = net.op("Pad", early, net.put("pads", [0, 0, 0, 0, 0, 1, 0, 0]))
    late = net.op("Slice", x, net.put("s2", [6]), net.put("e2", [2**40]), net.put("axis2", [1]))
    rows = net.op("Gather", x, net.put("rows", [7, -1, 2]), axis=1)
    left, right = net.op("Split", net.conv(rows, "b", 3, 8), net.put("halves", [4, 4]), axis=1, outputs=2)
    gate = net.conv(net.op("Mul", left, net.op("Sigmoid", right)), "c", 4, 2)
    return net.model(IMAGE, net.op("Concat", *(net.conv(early, "d", 6, 2), net.conv(late, "e", 6, 2), gate), axis=1))


def blocks() -> Any:
    net = Net()
    up = net.op("DepthToSpace", net.conv("x", "a", 3, 16), blocksize=2)
    other = net.op("DepthToSpace", net.conv("x", "b", 3, 12), blocksize=2, mode="CRD")
    down = net.op("SpaceToDepth", net.op("Concat", up, other, axis=1), blocksize=2)
    return net.model(IMAGE, net.conv(down, "head", 28, 2))


def sums() -> Any:
    """Axes that are summed away, counted, squeezed, and an Einsum."""
    net = Net()
    x = net.op("Abs", net.conv("x", "a", 3, 6))
    total = net.op("ReduceSum", x, net.put("one", [1]), keepdims=0)
    mean = net.op("ReduceMean", x, net.put("pixels", [2, 3]), keepdims=1)
    flat = net.op("Squeeze", mean, net.put("last", [2, 3]))
    product = net.op("Einsum", flat, net.weight("e.weight", 6, 5), equation="bi,ij->bj")
    wide = net.op("Unsqueeze", product, net.put("ends", [2, 3]))
    return net.model(IMAGE, net.op("ReduceMax", total, net.put("both", [1, 2])), net.conv(wide, "head", 5, 2, 1))


def embedded() -> Any:
    """Words by number, places added to them, and a residual stream."""
    net = Net()
    x = net.op("Gather", net.weight("words.weight", 5, 8), "ids", name="n_words")
    x = net.op("Add", x, net.weight("places", 1, 6, 8))
    x = net.op("Add", x, net.linear(net.op("Erf", net.linear(x, "up", 8, 16)), "down", 16, 8))
    table = net.op("Transpose", net.weight("table", 8, 4), perm=[1, 0])
    x = net.op("Add", x, net.op("GatherND", table, net.put("rows", np.array([[0], [3], [2], [1], [1], [0]]))))
    x = net.op("Where", net.put("mask", np.array([[[True]]])), x, net.op("Neg", x))
    return net.model({"ids": (1, 6)}, net.linear(x, "head", 8, 3))


def sized_by_shape() -> Any:
    """A bias of as many zeros as the weights have rows, and a Reshape that reads its input's own sizes."""
    net = Net()
    weight = net.weight("a.weight", 6, 3, 3, 3)
    rows = net.op("Gather", net.op("Shape", weight), net.put("first", [0]), axis=0)
    bias = net.op("Expand", net.put("nought", np.zeros(1, np.float32)), rows)
    x = net.op("Conv", "x", weight, bias, name="n_a", pads=[1] * 4)
    x = net.op("Add", x, net.op("ConstantOfShape", net.op("Concat", rows, net.put("tail", [1, 1]), axis=0)))
    channels = net.op("Gather", net.op("Shape", x), net.put("second", [1]), axis=0)
    x = net.op("Reshape", x, net.op("Concat", net.put("lead", [1]), channels, net.put("rest", [-1]), axis=0))
    height = net.op("Slice", net.op("Shape", "x"), net.put("start", [-1]), net.put("end", [2**40]))
    x = net.op("Mul", net.op("Reshape", x, net.put("image", [1, 6, 8, 8])), net.op("Cast", height, to=1))
    parts = net.op("SplitToSequence", net.conv(x, "b", 6, 8), net.put("four", 4), axis=1)
    left, right = (net.op("SequenceAt", parts, net.put(f"at{place}", place)) for place in range(2))
    return net.model(IMAGE, net.conv(net.op("Mul", left, net.op("Tanh", right)), "head", 4, 2))


def recurrent() -> Any:
    net = Net()
    x = net.op("Transpose", "x", perm=[1, 0, 2])
    for kind, gates, inputs in (("LSTM", 4, 8), ("GRU", 3, 12)):
        weights = (net.weight(f"{kind}.w", 2, gates * 6, inputs), net.weight(f"{kind}.r", 2, gates * 6, 6))
        bias = net.weight(f"{kind}.b", 2, gates * 12)
        x = net.op(kind, x, *weights, bias, hidden_size=6, direction="bidirectional", name=f"n_{kind}")
        x = net.op("Reshape", net.op("Transpose", x, perm=[0, 2, 1, 3]), net.put(f"{kind}.shape", [6, 1, 12]))
    return net.model(WORDS, net.linear(x, "head", 12, 2))


def old_operators() -> Any:
    """Axes and sizes as attributes."""
    net = Net(opset=11)
    left, right = net.op("Split", net.conv("x", "a", 3, 8), axis=1, split=[5, 3], outputs=2)
    equal = net.op("Split", net.conv("x", "b", 3, 6), axis=1, outputs=2)
    mean = net.op("ReduceMean", net.op("Concat", left, right, *equal, axis=1), axes=[2, 3], keepdims=1)
    flat = net.op("Squeeze", mean, axes=[2, 3])
    return net.model(IMAGE, net.linear(flat, "head", 14, 3))


Found = dict[str, tuple[str, int]]
CASES: dict[Callable[[], Any], Found] = {
    residual: {"stem": ("channels", 8), "a": ("channels", 12), "c": ("channels", 16)},
    dense: {"a": ("channels", 6), "b": ("channels", 4), "c": ("channels", 4)},
    mobile: {"wide": ("channels", 16), "squeeze": ("channels", 4)},
    multiplier: {"a": ("channels", 4)},
    grouped: {"a": ("channels", 4), "few": ("channels", 6)},
    flattened: {"a": ("channels", 6), "b": ("neurons", 10)},
    separate_heads: {"query": ("heads", 4)},
    fused_heads: {"qkv": ("heads", 4)},
    stacked_heads: {"qkv": ("heads", 4)},
    shared_keys: {"query": ("heads", 4)},
    upwards: {"skip": ("channels", 6), "low": ("channels", 8), "up": ("channels", 5)},
    transposed_groups: {"a": ("channels", 4), "few": ("channels", 6)},
    shuffled: {"a": ("channels", 3), "a#2": ("channels", 3)},
    normalized: {"a": ("channels", 4), "b": ("channels", 6)},
    groups_by_reshape: {"a": ("channels", 4)},
    pieces: {"a": ("channels", 4), "a#2": ("channels", 4), "a#3": ("channels", 2), "b": ("channels", 4)},
    blocks: {"a": ("channels", 4), "b": ("channels", 3)},
    sums: {"a": ("channels", 6), "e": ("channels", 5)},
    embedded: {"words": ("neurons", 8), "up": ("neurons", 16)},
    sized_by_shape: {"a": ("channels", 6), "b": ("channels", 4)},
    recurrent: {"LSTM.w": ("channels", 6), "GRU.w": ("channels", 6)},
    old_operators: {"a": ("channels", 5), "a#2": ("channels", 3), "b": ("channels", 3), "b#2": ("channels", 3)},
}


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_groups_of_an_operator(make: Callable[[], Any]) -> None:
    groups = find_groups(make(), {})
    assert {group.name: (group.kind, group.size) for group in groups.groups} == CASES[make]
    assert all(group.exact for group in groups.groups)


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_cut_graph_computes_what_zeros_compute(make: Callable[[], Any], seed: int) -> None:
    model = make()
    before = model.SerializeToString()
    groups = find_groups(model, {})
    keep = choose_at_random(groups, seed)
    made = prune_graph(model, groups, keep)
    onnx.checker.check_model(made)
    assert model.SerializeToString() == before
    assert count_weights(made) < count_weights(model)
    feeds = make_inputs(model)
    wanted, found = (run(one, feeds) for one in (zero_units(model, groups, keep), made))
    for zeroed, cut in zip(wanted, found, strict=True):
        assert np.abs(zeroed).max() > 1e-3
        np.testing.assert_allclose(cut, zeroed, rtol=1e-4, atol=1e-5 * np.abs(zeroed).max())


def choose_at_random(groups: PruningGroups, seed: int) -> dict[str, NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    sizes = {group.name: int(rng.integers(1, group.size)) for group in groups.groups}
    return {one.name: np.sort(rng.choice(one.size, sizes[one.name], replace=False)) for one in groups.groups}


def run(model: Any, feeds: dict[str, Any]) -> Any:
    return open_session(model.SerializeToString()).run(None, feeds)


def count_weights(model: Any) -> int:
    return sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
