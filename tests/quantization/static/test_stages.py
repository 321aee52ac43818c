"""A network through all stations: the graph is valid, means what it says, and comes out the same again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgewright.errors import ModelNotConvertible
from edgewright.quantization.checkpoint import Checkpoint
from edgewright.quantization.executor import open_session
from edgewright.quantization.job import LeaveOut
from edgewright.quantization.network import FloatNetwork
from edgewright.quantization.observe import NotFinite
from edgewright.quantization.probe import find_compared_outputs
from edgewright.quantization.recipe import NodePrecision, Recipe, RecipeRule, parse_recipe, write_recipe
from edgewright.quantization.search import FidelityTarget
from edgewright.quantization.static import timing
from edgewright.quantization.static.reconstruct import QuantizedWeights, RoundingSettings, reconstruct
from edgewright.quantization.static.stages import UPGRADED_PRECISION, Feeds, QuantizedNetwork, StaticQuantizer
from edgewright.schema.arrays import Array
from tests.quantization.mobile_files import make_feeds, make_mobile

FIT, CHECK = make_feeds(16, 1), make_feeds(8, 2)
LOW, NEVER = FidelityTarget(0.0, 1.0), FidelityTarget(300.0, 0.0)


def quantize(
    folder: Path,
    recipe: Recipe,
    target: FidelityTarget = LOW,
    model: Any = None,
    fit: Sequence[Feeds] = FIT,
    heard: list[tuple[str, int, int]] | None = None,
    leave_out: LeaveOut = "",
) -> QuantizedNetwork:
    progress = (lambda *words: heard.append(words)) if heard is not None else lambda *words: None
    network = FloatNetwork(make_mobile() if model is None else model)
    return StaticQuantizer(network, fit, CHECK, Checkpoint(folder), progress).quantize(recipe, target, leave_out)


def run(model: Any, *, optimize: bool, feeds: Sequence[Feeds] = CHECK) -> Array:
    session = open_session(model.SerializeToString(), optimize=optimize)
    return np.stack([session.run(["y"], dict(one))[0] for one in feeds])


def noise_db(exact: Array, given: Array) -> float:
    return float(10 * np.log10(np.mean(exact**2) / max(np.mean((exact - given) ** 2), 1e-30)))


def constants_of(model: Any) -> dict[str, Array]:
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


@pytest.mark.parametrize(
    ("precision", "opset", "least"),
    [("w8a8", 18, 24), ("w8a16", 21, 34), ("w8", 18, 34), ("w4a8", 18, 8), ("w4", 18, 8)],
)
def test_every_precision_is_a_valid_graph_close_to_the_source(
    tmp_path: Path, precision: NodePrecision, opset: int, least: float
) -> None:
    outcome = quantize(tmp_path, Recipe(precision=precision, search=False), model=make_mobile(opset))
    onnx.checker.check_model(outcome.model, full_check=True)
    exact = run(make_mobile(opset), optimize=False)
    for optimize in (False, True):
        assert noise_db(exact, run(outcome.model, optimize=optimize)) > least
    assert set(outcome.precisions.values()) == {precision}
    assert outcome.fidelity.loss.sqnr_db == outcome.first.loss.sqnr_db


def test_the_graph_means_what_numpy_makes_of_its_numbers(tmp_path: Path) -> None:
    """Of the last product: (stored − zero) × scale on both sides, and a bias with the scale of their product."""
    outcome = quantize(tmp_path, Recipe(search=False))
    values = constants_of(outcome.model)
    model = onnx.ModelProto()
    model.CopyFrom(outcome.model)
    model.graph.output.append(helper.make_tensor_value_info("flat/q", onnx.TensorProto.UINT8, None))
    session = open_session(model.SerializeToString())
    y, stored = session.run(["y", "flat/q"], dict(CHECK[0]))
    x = (stored.astype(np.int64) - int(values["flat/zero"])) * np.float64(values["flat/scale"])
    w = values["head/weights/q"].astype(np.float64) * values["head/weights/scale"][:, None]
    assert values["head/weights/q"].dtype == np.int8
    assert values["head/bias/q"].dtype == np.int32
    assert np.allclose(values["head/bias/scale"], values["flat/scale"] * values["head/weights/scale"], rtol=1e-6)
    bias = values["head/bias/q"] * np.float64(values["head/bias/scale"])

    def pair(name: str, x: Array) -> Array:
        scale, zero = np.float64(values[f"{name}/scale"]), int(values[f"{name}/zero"])
        result: Array = (np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale
        return result

    shift = (values["shift/q"].astype(np.int64) - int(values["shift/zero"])) * np.float64(values["shift/scale"])
    expected = pair("y", pair("logits", x @ w.T + bias) + shift)
    assert np.abs(expected - y).max() <= float(values["y/scale"]) * 1.001  # one step, where a tie is rounded


def test_adaptive_rounding_is_better_than_the_nearest(tmp_path: Path) -> None:
    exact = run(make_mobile(), optimize=False)
    found = {
        how: noise_db(
            exact,
            run(
                quantize(
                    tmp_path / how, parse_recipe(f'precision = "w4"\nrounding = "{how}"\nsearch = false', "it")
                ).model,
                optimize=True,
            ),
        )
        for how in ("adaptive", "nearest")
    }
    assert found["adaptive"] > found["nearest"] + 1


def test_the_same_again_gives_the_same_bytes(tmp_path: Path) -> None:
    """Where the search weighs bytes. In w8a8 it weighs measured time, and two searches may differ."""
    plain = quantize(tmp_path / "plain", Recipe(precision="w4", search=False))
    target = FidelityTarget(plain.first.loss.sqnr_db + 1, 1.0)
    first, again = (quantize(tmp_path / name, Recipe(precision="w4"), target) for name in "ab")
    assert first.model.SerializeToString() == again.model.SerializeToString()
    assert first.recipe == again.recipe


@pytest.mark.parametrize("precision", ["w8a8", "w4a8"])
def test_its_own_recipe_gives_the_same_bytes_without_a_search(tmp_path: Path, precision: NodePrecision) -> None:
    plain = quantize(tmp_path / "plain", Recipe(precision=precision, search=False))
    target = FidelityTarget(plain.first.loss.sqnr_db + 1, 1.0)
    first = quantize(tmp_path / "a", Recipe(precision=precision), target)
    assert any(rule.precision for rule in first.recipe.rules)  # something was kept
    assert not first.recipe.search
    text = write_recipe(first.recipe)
    heard: list[tuple[str, int, int]] = []
    applied = quantize(tmp_path / "c", parse_recipe(text, "it"), NEVER, heard=heard)
    assert applied.model.SerializeToString() == first.model.SerializeToString()
    assert write_recipe(applied.recipe) == text
    assert {"searching", "choosing ranges"}.isdisjoint(stage for stage, _, _ in heard)


def test_a_search_keeps_the_operator_that_harms_most(tmp_path: Path) -> None:
    plain = quantize(tmp_path / "a", Recipe(precision="w4", search=False))
    target = FidelityTarget(plain.first.loss.sqnr_db + 2, 1.0)
    found = quantize(tmp_path / "b", Recipe(precision="w4"), target)
    kept = [name for name, precision in found.precisions.items() if precision != "w4"]
    assert kept
    assert {found.precisions[name] for name in kept} == {UPGRADED_PRECISION["w4"]}
    assert found.fidelity.loss.sqnr_db > found.first.loss.sqnr_db
    assert found.first.loss.sqnr_db == plain.first.loss.sqnr_db
    rules = [rule for rule in found.recipe.rules if rule.precision]
    assert [rule.nodes for rule in rules] == sorted(kept, key=[rule.nodes for rule in rules].index)
    assert all("search" in rule.why for rule in rules)


def test_a_kept_operator_computes_floats(tmp_path: Path) -> None:
    recipe = Recipe(
        search=False, rules=(RecipeRule(nodes="deep", precision="fp32"), RecipeRule(nodes="deep/*", precision="fp32"))
    )
    outcome = quantize(tmp_path, recipe)
    assert outcome.precisions["deep"] == "fp32"
    values = constants_of(outcome.model)
    assert np.array_equal(values["deep/w"], constants_of(make_mobile())["deep/w"])
    assert "deep/weights/q" not in values
    onnx.checker.check_model(outcome.model, full_check=True)


def make_hard_swish() -> Any:
    """make_mobile with a HardSwish instead of the Clip, whose output an Add reads too."""
    model = make_mobile()
    node = next(one for one in model.graph.node if one.name == "stem/clip")
    node.op_type = "HardSwish"
    del node.input[1:]
    return model


def test_what_has_no_integer_kernel_is_left_out_with_its_neighbors(tmp_path: Path) -> None:
    outcome = quantize(tmp_path, Recipe(search=False), model=make_hard_swish(), leave_out="no-kernel")
    rules = {rule.nodes: rule.why for rule in outcome.recipe.rules if rule.precision == "fp32"}
    assert list(rules) == ["stem/clip", "sum"]
    assert set(outcome.precisions.values()) == {"w8a8"}
    assert not {"stem/clip", "sum"} & outcome.operators
    assert {"stem", "deep", "point", "head", "shifted"} <= outcome.operators
    again = quantize(tmp_path / "again", outcome.recipe, model=make_hard_swish())
    assert again.model.SerializeToString() == outcome.model.SerializeToString()


def make_gelu() -> Any:
    """conv → GELU by tanh in its steps, on values up to 100 → conv → mean → y."""
    rng, node = np.random.default_rng(0), helper.make_node
    constants: dict[str, Any] = {
        "w1": (rng.standard_normal((8, 3, 3, 3)) * np.exp(rng.standard_normal((8, 1, 1, 1))) * 4).astype(np.float32),
        "w2": (rng.standard_normal((6, 8, 3, 3)) * 0.1).astype(np.float32),
        "k": np.float32(0.044715), "s": np.float32(0.7978846), "one": np.float32(1), "half": np.float32(0.5),
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "w1"], ["b"], name="conv1"),
        node("Mul", ["b", "b"], ["b2"], name="g/square"),
        node("Mul", ["b2", "b"], ["b3"], name="g/cube"),
        node("Mul", ["k", "b3"], ["m"], name="g/scale"),
        node("Add", ["b", "m"], ["a"], name="g/add"),
        node("Mul", ["s", "a"], ["t"], name="g/factor"),
        node("Tanh", ["t"], ["h"], name="g/tanh"),
        node("Add", ["one", "h"], ["p"], name="g/one"),
        node("Mul", ["half", "p"], ["q"], name="g/half"),
        node("Mul", ["b", "q"], ["e"], name="g/gate"),
        node("Conv", ["e", "w2"], ["c"], name="conv2"),
        node("GlobalAveragePool", ["c"], ["y"], name="mean"),
    ]
    graph = helper.make_graph(
        nodes,
        "gelu",
        [helper.make_tensor_value_info("x", 1, [1, 3, 12, 12])],
        [helper.make_tensor_value_info("y", 1, [1, 6, 1, 1])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_the_steps_of_a_function_are_kept_in_float_where_that_helps(tmp_path: Path) -> None:
    outcome = quantize(tmp_path, Recipe(), FidelityTarget(30.0, 1.0), model=make_gelu())
    rules = {rule.nodes: rule.why for rule in outcome.recipe.rules if rule.precision == "fp32"}
    assert {"g/square", "g/cube", "g/scale", "g/add", "g/factor"} <= set(rules)
    assert not {"conv1", "conv2", "mean"} & set(rules)
    assert all("steps of a function" in why for why in rules.values())
    assert outcome.first.loss.sqnr_db < 30 < outcome.fidelity.loss.sqnr_db
    again = quantize(tmp_path / "again", outcome.recipe, model=make_gelu())
    assert again.model.SerializeToString() == outcome.model.SerializeToString()


def test_no_group_is_kept_in_float_that_does_not_help(tmp_path: Path) -> None:
    outcome = quantize(tmp_path, Recipe(), NEVER)
    assert [rule for rule in outcome.recipe.rules if rule.precision and "without weights" in rule.why] == []


def test_a_search_uses_again_what_is_rounded_before_the_first_change(tmp_path: Path) -> None:
    quantize(tmp_path, Recipe(search=False))
    before = {path.name for path in tmp_path.glob("site-*")}
    recipe = Recipe(search=False, rules=(RecipeRule(nodes="point", precision="fp32"),))
    quantize(tmp_path, recipe)
    assert len(before) == 4
    assert len({path.name for path in tmp_path.glob("site-*")} - before) == 1


def test_what_is_not_faster_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"Gemm": np.array([2.0, 1.0]), "Conv": np.array([1.0, 0.95])}
    monkeypatch.setattr(timing, "_measure", lambda alone, weight_node, *_: seconds[weight_node.op])
    outcome = quantize(tmp_path, Recipe(search=False), leave_out="not-faster")
    assert {name for name, one in outcome.precisions.items() if one == "w8a8"} == {"head"}
    seconds["Gemm"] = np.array([1.0, 1.0])
    with pytest.raises(ModelNotConvertible, match="nothing to quantize"):
        quantize(tmp_path, Recipe(search=False), leave_out="not-faster")


def test_a_node_is_timed_with_its_activation() -> None:
    network = FloatNetwork(make_hard_swish())
    stored = quantize_to_nearest(network)
    inputs = {"stem": FIT[0]["x"], "head": np.ones((1, 8), np.float32)}
    assert set(timing.find_slow_nodes(network, stored, inputs)) <= {"stem", "head"}
    alone = timing._extract_node(network, network.weight_nodes["stem"], FIT[0]["x"])
    assert [one.op_type for one in alone.network.nodes] == ["Conv", "HardSwish"]


def quantize_to_nearest(network: FloatNetwork) -> dict[str, QuantizedWeights]:
    treatments = {name: RoundingSettings(8, adaptive=False) for name in network.weight_nodes}
    return reconstruct(network, {}, treatments, FIT, lambda node: None, lambda node, stored: None)


def test_rules_for_ranges_and_rounding_are_obeyed(tmp_path: Path) -> None:
    recipe = Recipe(
        search=False,
        ranges="minmax",
        rounding="nearest",
        rules=(RecipeRule(tensors="sum", ranges="percentile"), RecipeRule(depth=(-1, -1), precision="fp32")),
    )
    outcome = quantize(tmp_path, recipe)
    methods = {name: one.method for name, one in outcome.ranges.items()}
    assert methods.pop("sum") == "percentile"
    assert set(methods.values()) == {"minmax"}
    assert [name for name, one in outcome.precisions.items() if one == "fp32"] == ["head"]
    weights = constants_of(make_mobile())["stem/w"]
    scale = np.abs(weights).reshape(8, -1).max(axis=1) / 127
    assert np.array_equal(outcome.stored["stem"].values, np.rint(weights / scale[:, None, None, None]).astype(np.int8))


def test_a_channel_of_weights_next_to_zero_keeps_its_bias(tmp_path: Path) -> None:
    """Its bias would not fit into an int32 with the scale that such weights ask for."""
    weights, bias = constants_of(make_mobile())["deep/w"].copy(), constants_of(make_mobile())["deep/b"].copy()
    weights[2], bias[2] = 1e-12, 3.0
    weights[5], bias[5] = 0.0, -2.0
    model = make_mobile(changes={"deep/w": weights, "deep/b": bias})
    outcome = quantize(tmp_path, Recipe(search=False), model=model)
    values = constants_of(outcome.model)
    kept = values["deep/bias/q"] * values["deep/bias/scale"].astype(np.float64)
    assert np.allclose(kept[[2, 5]], [3.0, -2.0], rtol=1e-4)
    assert noise_db(run(model, optimize=False), run(outcome.model, optimize=True)) > 20


def test_four_bits_are_packed_in_pairs(tmp_path: Path) -> None:
    outcome = quantize(tmp_path, Recipe(precision="w4", search=False))
    packed = {one.name: one for one in outcome.model.graph.initializer if one.data_type == onnx.TensorProto.INT4}
    assert set(packed) == {f"{name}/weights/q" for name in ("stem", "deep", "point", "head")}
    for name, stored in outcome.stored.items():
        one = packed[f"{name}/weights/q"]
        assert len(one.raw_data) == (stored.values.size + 1) // 2
        assert np.array_equal(numpy_helper.to_array(one).astype(np.int8), stored.values)
        assert stored.values.min() >= -7


def test_activations_that_never_change(tmp_path: Path) -> None:
    model = make_mobile(changes={"stem/w": np.zeros((8, 3, 3, 3), np.float32)})
    outcome = quantize(tmp_path, Recipe(), model=model)
    given = run(outcome.model, optimize=True)
    assert np.isfinite(given).all()
    assert noise_db(run(model, optimize=False), given) > 25


def test_not_a_number_is_reported_with_its_tensor_and_sample(tmp_path: Path) -> None:
    fit = [*make_feeds(5, 1)]
    fit[3]["x"].reshape(-1)[0] = np.nan
    with pytest.raises(NotFinite) as caught:
        quantize(tmp_path, Recipe(), fit=fit)
    assert (caught.value.tensor, caught.value.sample) == ("x", 3)


def test_a_second_try_uses_what_the_first_one_found(tmp_path: Path) -> None:
    whole = quantize(tmp_path / "whole", Recipe(search=False))

    class Stop(Exception):
        """Somebody pulled the plug."""

    def pull(stage: str, done: int, of: int) -> None:
        if (stage, done) == ("rounding weights", 3):
            raise Stop

    network = FloatNetwork(make_mobile())
    with pytest.raises(Stop):
        StaticQuantizer(network, FIT, CHECK, Checkpoint(tmp_path / "cut"), pull).quantize(Recipe(search=False), LOW)
    left = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cut").iterdir()}
    assert len([name for name in left if name.startswith("site-")]) == 3
    heard: list[tuple[str, int, int]] = []
    again = quantize(tmp_path / "cut", Recipe(search=False), heard=heard)
    assert again.model.SerializeToString() == whole.model.SerializeToString()
    assert "choosing ranges" not in {stage for stage, _, _ in heard}
    now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cut").iterdir()}
    assert {name: now[name] for name in left if name.startswith("ranges")} == {
        name: moment for name, moment in left.items() if name.startswith("ranges")
    }


def test_a_damaged_checkpoint_is_found_anew(tmp_path: Path) -> None:
    first = quantize(tmp_path, Recipe(search=False))
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:20])
    again = quantize(tmp_path, Recipe(search=False))
    assert again.model.SerializeToString() == first.model.SerializeToString()


def test_a_checkpoint_gives_back_what_it_got(tmp_path: Path) -> None:
    store = Checkpoint(tmp_path / "new")
    stored = quantize(tmp_path / "q", Recipe(search=False)).stored["deep"]
    store.put("one", stored)
    store.put("two", {"a": [1, 2.5]})
    back = store.get("one")
    assert back._replace(values=0, scale=0, bias=0) == stored._replace(values=0, scale=0, bias=0)  # type: ignore[arg-type]
    for name in ("values", "scale", "bias"):
        assert np.array_equal(getattr(back, name), getattr(stored, name))
    assert store.get("two") == {"a": [1, 2.5]}
    assert store.get("three") is None
    assert msgspec.json.decode((tmp_path / "new/two.json").read_bytes()) == {"a": [1, 2.5]}


def make_detector(scale: float) -> Any:
    """Two heads, joined at the output behind a transposition: values up to `scale`, and scores from 0 to 1."""
    x = list(FIT[0]["x"].shape)
    rng = np.random.default_rng(3)
    weights = {name: rng.normal(size=(2, x[1], 1, 1)).astype(np.float32) for name in ("wb", "ws")}
    nodes = [
        helper.make_node("Conv", ["x", "wb"], ["b"], name="box"),
        helper.make_node("Clip", ["b", "low", "high"], ["c"], name="limit"),
        helper.make_node("Mul", ["c", "scale"], ["boxes"], name="pixels"),
        helper.make_node("Conv", ["x", "ws"], ["s"], name="score"),
        helper.make_node("Sigmoid", ["s"], ["scores"], name="sigmoid"),
        helper.make_node("Concat", ["boxes", "scores"], ["all"], name="join", axis=1),
        helper.make_node("Transpose", ["all"], ["y"], name="turn", perm=[0, 2, 3, 1]),
    ]
    constants = {**weights, **{name: np.array(value, np.float32) for name, value in (("low", 0), ("high", 1))}}
    constants["scale"] = np.array(scale, np.float32)
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_scores_beside_boxes_are_compared_by_themselves() -> None:
    outputs = find_compared_outputs(FloatNetwork(make_detector(300.0)))
    (cut,) = outputs.cuts
    assert cut is not None
    exact = [[one] for one in run(make_detector(300.0), optimize=False)]
    axis, ends = cut
    dead = []
    for (one,) in exact:
        boxes, scores = np.split(one, ends[:-1], axis=axis)
        dead.append([np.concatenate([boxes, np.zeros_like(scores)], axis=axis)])
    assert outputs.compare(exact, exact).noise == 0.0
    assert outputs.compare(exact, dead).noise == pytest.approx(0.5)


def test_every_output_is_compared() -> None:
    model = make_mobile()
    model.graph.output.append(helper.make_tensor_value_info("mean", 1, [1, 8, 1, 1]))
    outputs = find_compared_outputs(FloatNetwork(model))
    assert outputs.names == ("y", "mean")
    exact = [[np.ones((1, 6)), np.ones((1, 8, 1, 1))]]
    assert outputs.compare(exact, [[exact[0][0], exact[0][1] * 0]]).noise == pytest.approx(0.5)


@pytest.mark.parametrize(("scale", "kept"), [(300.0, ["join"]), (2.0, [])])
def test_an_output_whose_parts_have_unlike_ranges_is_joined_in_float(
    tmp_path: Path, scale: float, kept: list[str]
) -> None:
    model = make_detector(scale)
    exact = run(model, optimize=False)[..., 2:]
    outcome = quantize(tmp_path, Recipe(), model=model)
    assert [rule.nodes for rule in outcome.recipe.rules if rule.precision == "fp32"] == kept
    assert ("join" in outcome.operators) == (not kept)
    assert noise_db(exact, run(outcome.model, optimize=True)[..., 2:]) > 30
    again = quantize(tmp_path / "again", outcome.recipe, model=make_detector(scale))
    assert again.model.SerializeToString() == outcome.model.SerializeToString()


def test_a_recipe_that_is_followed_joins_on_integers(tmp_path: Path) -> None:
    outcome = quantize(tmp_path, Recipe(search=False), model=make_detector(300.0))
    assert "join" in outcome.operators
