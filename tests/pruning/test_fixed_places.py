"""What pruning does not change and why, what it rejects, and its notes on inexact groups."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from edgewright.errors import InputError, UsageError
from edgewright.pruning.graph_pruner import find_kept_indices, prune_graph
from edgewright.pruning.groups import find_groups
from edgewright.quantization.executor import open_session
from tests.paths import ROOT
from tests.pruning.prune_graphs import Net, make_inputs, zero_units
from tests.pruning.test_groups import IMAGE, WORDS, choose_at_random, residual, run

MODELS = ROOT.parent / "shared" / "data" / "models"
DIGITS = ROOT / "src" / "edgewright" / "flows" / "digits" / "digits.onnx"


def why(net: Net, head: str, layer: str = "a") -> str:
    groups = find_groups(net.model(IMAGE, head), {})
    assert layer not in {group.name for group in groups.groups}
    return groups.fixed[layer]


def test_the_last_layer_stays() -> None:
    assert find_groups(residual(), {}).fixed == {"head": "'add16/y0' is an output of the model"}


def test_what_is_added_to_an_input_stays() -> None:
    net = Net()
    assert why(net, net.op("Add", net.conv("x", "a", 3, 3), "x", name="sum")) == (
        "'sum' (Add) combines them with units that must be kept"
    )


def test_an_operator_that_is_not_followed() -> None:
    net = Net()
    x = net.op("LRN", net.conv("x", "a", 3, 8), size=3, name="lrn")
    assert why(net, net.conv(x, "head", 8, 2)) == "'lrn' (LRN): pruning does not support LRN"


def test_an_operator_of_another_domain() -> None:
    net = Net()
    net.conv("x", "a", 3, 8)
    net.op("Abs", "n_a/y0", name="own")
    model = net.model(IMAGE, "own/y0")
    model.graph.node[1].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    assert find_groups(model, {}).fixed == {"a": "'own' (Abs): pruning does not support Abs"}


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [("Softmax", {"axis": 1}), ("ArgMax", {"axis": 1}), ("ReduceMax", {})],
)
def test_an_axis_that_is_needed_whole(kind: str, attributes: dict[str, Any]) -> None:
    net = Net()
    inputs = [net.put("one", [1])] if kind == "ReduceMax" else []
    x = net.op("Cast", net.op(kind, net.conv("x", "a", 3, 8), *inputs, name="all", **attributes), to=1)
    assert why(net, x) == f"'all' ({kind}) requires all of them"


def test_slices_with_steps_and_single_places() -> None:
    net = Net()
    x = net.conv("x", "a", 3, 8)
    numbers = [net.put(name, [value]) for name, value in (("s", 0), ("e", 8), ("axis", 1), ("step", 2))]
    assert why(net, net.conv(net.op("Slice", x, *numbers, name="even"), "head", 4, 2)) == (
        "'even' (Slice) requires all of them"
    )


def test_a_size_that_is_calculated_with() -> None:
    net = Net()
    x = net.conv("x", "a", 3, 8)
    channels = net.op("Gather", net.op("Shape", x), net.put("at", 1), axis=0)
    scaled = net.op("Div", x, net.op("Cast", channels, to=1), name="by_width")
    assert why(net, net.conv(scaled, "head", 8, 2)) == "'by_width' (Div) requires all of them"


def test_values_that_an_inner_graph_reads() -> None:
    net = Net()
    net.conv("x", "a", 3, 8)
    made = helper.make_tensor_value_info("inner", 1, [1, 8, 8, 8])
    inner = helper.make_graph([helper.make_node("Identity", ["n_a/y0"], ["inner"])], "inner", [], [made])
    x = net.op("If", net.put("yes", np.array(True)), name="if", then_branch=inner, else_branch=inner)
    assert why(net, x) == "'if' (If): pruning does not support If"


def test_units_that_all_differ() -> None:
    net = Net()
    x = net.conv("x", "a", 3, 2)
    left, right = net.op("Split", x, net.put("each", [1, 1]), axis=1, outputs=2)
    model = net.model(IMAGE, net.conv(left, "b", 1, 1), net.conv(right, "c", 1, 2))
    groups = find_groups(model, {})
    assert not groups.groups
    assert groups.fixed["b"] == "it has only one unit"
    assert "an axis to one element" in groups.fixed["a"]


def test_an_unknown_shape_is_reported() -> None:
    net = Net()
    rows = net.op("NonZero", net.conv("x", "a", 3, 8), name="where")
    picked = net.op("Cast", net.op("Transpose", rows), to=1)
    fixed = find_groups(net.model(IMAGE, net.linear(picked, "b", 4, 3)), {}).fixed
    assert fixed["a"] == "'where' (NonZero): pruning does not support NonZero"
    assert fixed["b"] == "'n_b' (MatMul): the shape of 'cast3/y0' is unknown"


def test_layer_normalization_is_reported_as_inexact() -> None:
    net = Net()
    x = net.op("LayerNormalization", net.linear("x", "a", 8, 12), net.weight("s", 12), net.weight("t", 12))
    model = net.model(WORDS, net.linear(net.op("Relu", net.linear(x, "b", 12, 6)), "head", 6, 3))
    groups = find_groups(model, {})
    assert {group.name: group.exact for group in groups.groups} == {"a": False, "b": True}
    keep = choose_at_random(groups, 1)
    made = prune_graph(model, groups, keep)
    feeds = make_inputs(model)
    zeroed, found = run(zero_units(model, groups, keep), feeds)[0], run(made, feeds)[0]
    assert found.shape == zeroed.shape
    assert not np.allclose(found, zeroed, rtol=1e-3)


def test_a_free_batch_stays_free() -> None:
    net = Net()
    x = net.op("Reshape", net.conv("x", "a", 3, 8), net.put("shape", [-1, 8 * 64]))
    model = net.model(IMAGE, net.linear(x, "head", 512, 2))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    groups = find_groups(model, {"x": (1, 3, 8, 8)})
    made = prune_graph(model, groups, {"a": np.arange(3)})
    found = open_session(made.SerializeToString()).run(None, {"x": np.ones((5, 3, 8, 8), np.float32)})[0]
    assert found.shape == (5, 2)


def test_initializers_that_are_inputs_too() -> None:
    model = residual()
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    made = prune_graph(model, find_groups(model, {}), {"a": np.arange(5)})
    listed = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in made.graph.input}
    assert listed["a.weight"] == [5, 8, 3, 3]
    assert run(made, {"x": np.ones((1, 3, 8, 8), np.float32)})[0].shape == (1, 5)


def test_sparse_constants_stay() -> None:
    net = Net()
    model = net.model(IMAGE, net.conv(net.op("Mul", net.conv("x", "a", 3, 8), net.weight("s", 8, 1, 1)), "b", 8, 2))
    dense = next(tensor for tensor in model.graph.initializer if tensor.name == "s")
    places = helper.make_tensor("s_places", onnx.TensorProto.INT64, [8], range(8))
    values = helper.make_tensor("s", onnx.TensorProto.FLOAT, [8], np.arange(8.0))
    model.graph.initializer.remove(dense)
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [8, 1, 1]))
    assert find_groups(model, {}).fixed["a"] == "'mul1' (Mul) combines them with units that must be kept"


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="no such input"):
        find_groups(residual(), {"y": (1, 3, 8, 8)})


def test_places_for_the_modules_own_parameters() -> None:
    groups = find_groups(residual(), {})
    kept = find_kept_indices(groups, {"a": np.array([0, 3, 11])})
    norm = {f"bn_a.{part}" for part in ("weight", "bias", "mean", "var")}
    assert set(kept) == {"a.weight", "a.bias", "b.weight"} | norm
    assert kept["a.weight"][0].tolist() == kept["b.weight"][1].tolist() == [0, 3, 11]
    assert find_kept_indices(groups, {"a": np.arange(12)}) == {}


@pytest.mark.parametrize(
    ("keep", "what"),
    [({"q": [0]}, "no group 'q'"), ({"a": []}, "all units of 'a' would be removed"), ({"a": [3, 3]}, "units 0 to 11"),
     ({"a": [0, 12]}, "units 0 to 11")],
)  # fmt: skip
def test_a_choice_that_does_not_fit(keep: dict[str, list[int]], what: str) -> None:
    model = residual()
    with pytest.raises(UsageError, match=what):
        prune_graph(model, find_groups(model, {}), {name: np.array(units, np.int64) for name, units in keep.items()})


def test_nothing_taken_out_changes_nothing() -> None:
    model = residual()
    groups = find_groups(model, {})
    keep = {group.name: np.arange(group.size) for group in groups.groups}
    assert prune_graph(model, groups, keep).SerializeToString() == model.SerializeToString()


def test_the_digits_of_the_demo() -> None:
    check_file(DIGITS)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet8_cifar10", "dscnn_kws"])
def test_trained_models(name: str) -> None:
    if not MODELS.is_dir():
        pytest.skip(f"no shared data at {MODELS}")
    check_file(MODELS / f"{name}.onnx")


def check_file(path: Path) -> None:
    model = onnx.load(path)
    groups = find_groups(model, {})
    assert groups.groups
    assert all(group.exact for group in groups.groups)
    keep = choose_at_random(groups, 5)
    feeds = {}
    for value in model.graph.input:
        shape = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
        feeds[value.name] = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    zeroed = run(zero_units(model, groups, keep), feeds)[0]
    found = run(prune_graph(model, groups, keep), feeds)[0]
    np.testing.assert_allclose(found, zeroed, rtol=1e-3, atol=1e-5 * np.abs(zeroed).max())
