"""Stages of static quantization: observe → ranges → reconstruct → evaluate → better precision → write."""

from collections.abc import Callable, Collection, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgewright.errors import ModelNotConvertible
from edgewright.formats.onnx.attributes import read_attributes
from edgewright.quantization.executor import IncrementalExecutor, run_model
from edgewright.quantization.job import LeaveOut
from edgewright.quantization.network import FloatNetwork, WeightNode
from edgewright.quantization.observe import TensorValues, observe
from edgewright.quantization.probe import compare
from edgewright.quantization.recipe import NodePrecision, Recipe, RecipeRule, assign_precisions
from edgewright.quantization.search import Fidelity, FidelityTarget, estimate_flips, search_upgrades
from edgewright.quantization.static.groups import FLOAT_KERNEL_OPS, list_expanded, list_unweighted
from edgewright.quantization.static.qdq import TensorQuantParams, compute_quant_params
from edgewright.quantization.static.ranges import METHODS, ValueRange
from edgewright.quantization.static.reconstruct import QuantizedWeights, RoundingSettings, reconstruct
from edgewright.quantization.static.scope import QuantizationScope, find_output_concats, find_quantization_scope
from edgewright.quantization.static.sensitivity import Sensitivity, choose_ranges, measure_sensitivity
from edgewright.quantization.static.timing import find_slow_nodes
from edgewright.quantization.static.write import protect_float_layers, write_qdq

Array = NDArray[Any]
Feeds = Mapping[str, Array]
ProgressCallback = Callable[[str, int, int], None]

MIN_PART_STEPS = 16  # a part of a Concat whose range is less than this share of the largest has too few steps
RANGE_SAMPLES = 4  # samples that ranges are compared on
WORK_PER_VALUE = 16  # multiplications that take as long as reading and writing a value
SENSITIVITY_SAMPLES = 8  # samples for sensitivity and for the ranges of channels
WEIGHT_BITS: dict[NodePrecision, int] = {"w8a8": 8, "w8a16": 8, "w8": 8, "w4a8": 4, "w4": 4}
ACTIVATION_DTYPES: dict[NodePrecision, np.dtype[Any]] = {
    "w8a8": np.dtype(np.uint8),
    "w4a8": np.dtype(np.uint8),
    "w8a16": np.dtype(np.int16),
}
MAX_UPGRADE_SHARE: dict[NodePrecision, float] = {"fp32": 0.3, "w8a8": 0.6, "w8": 0.6}
UPGRADED_PRECISION: dict[NodePrecision, NodePrecision] = {
    "w8a8": "fp32",
    "w8a16": "fp32",
    "w8": "fp32",
    "w4a8": "w8a8",
    "w4": "w8",
}


class ValueStore(Protocol):
    """Results of an interrupted attempt; see `checkpoint.py`."""

    def get(self, name: str) -> Any: ...

    def put(self, name: str, value: Any) -> None: ...


class QuantizedNetwork(NamedTuple):
    """A quantized network.

    Attributes:
        model: the QDQ graph.
        recipe: the requested recipe, with a rule for each decision.
        fidelity: figures of the graph in ONNX Runtime, on samples that were not used for fitting.
        first: the same before any site got a higher precision; equal to `fidelity` if none did.
        ranges, values: of each tensor with a pair.
        sensitivity: of each site that runs in integer arithmetic.
        stored: its weights.
        precisions: of each site.
        tensor_params: of each tensor with a pair.
        operators: names of the nodes that run in integer arithmetic.
    """

    model: Any
    recipe: Recipe
    fidelity: Fidelity
    first: Fidelity
    ranges: dict[str, ValueRange]
    values: dict[str, TensorValues]
    sensitivity: dict[str, Sensitivity]
    stored: dict[str, QuantizedWeights]
    precisions: dict[str, NodePrecision]
    tensor_params: dict[str, TensorQuantParams]
    operators: frozenset[str]


class FittedNetwork(NamedTuple):
    """The result of one choice of precisions for all sites."""

    scope: QuantizationScope
    ranges: dict[str, ValueRange]
    values: dict[str, TensorValues]
    tensor_params: dict[str, TensorQuantParams]
    operands: dict[str, TensorQuantParams]
    stored: dict[str, QuantizedWeights]


class StaticQuantizer:
    """A network that is being quantized.

    Args:
        fit: feeds for fitting.
        check: feeds for evaluation.
    """

    def __init__(
        self,
        network: FloatNetwork,
        fit: Sequence[Feeds],
        check: Sequence[Feeds],
        store: ValueStore,
        progress: ProgressCallback,
    ) -> None:
        self._network, self._fit, self._check = network, fit, check
        self._store, self._progress = store, progress
        self._exact = run_model(network.model, network.outputs[0], check)
        self._seen: dict[str, TensorValues] = {}

    def quantize(self, recipe: Recipe, target: FidelityTarget, leave_out: LeaveOut = "") -> QuantizedNetwork:
        """Apply the recipe; if it allows a search, raise the precision of sites until the goal is met.

        Args:
            leave_out: see `job.QuantizationJob`.
        """
        if recipe.search:
            recipe = self._keep_uneven_concats(recipe)
        if leave_out:
            recipe = self._leave_out_slow(recipe, leave_out)
        fitted = self._fit_network(recipe)
        first = fidelity = self._measure_fidelity(_write(self._network, fitted))
        sensitivity = self._measure(fitted)
        if recipe.search and not first.meets(target):
            better, _ = self._search(recipe, fitted, sensitivity, target)
            recipe = _add_rules(recipe, better, UPGRADED_PRECISION[recipe.precision])
            fitted = self._fit_network(recipe)
            fidelity = self._measure_fidelity(_write(self._network, fitted))
        recipe = _add_range_rules(msgspec.structs.replace(recipe, search=False), fitted.ranges)
        return QuantizedNetwork(
            model=_write(self._network, fitted),
            recipe=recipe,
            fidelity=fidelity,
            first=first,
            ranges=fitted.ranges,
            values=fitted.values,
            sensitivity=sensitivity,
            stored=fitted.stored,
            precisions=assign_precisions(self._network.weight_nodes, recipe),
            tensor_params=fitted.tensor_params,
            operators=fitted.scope.operators,
        )

    # Stages

    def _keep_uneven_concats(self, recipe: Recipe) -> Recipe:
        """Leave a Concat at an output in float if one part would have too few steps of the common range.

        Detectors join boxes in pixels with scores from 0 to 1: on one range every score becomes 0.
        """
        network = self._network
        if recipe.precision not in ACTIVATION_DTYPES or ACTIVATION_DTYPES[recipe.precision].itemsize > 1:
            return recipe
        scope = find_quantization_scope(network, _list_float_nodes(network, recipe))
        found = []
        for node in find_output_concats(network, scope.operators):
            parts = [name for name in node.input if name and name not in network.constants]
            spans = [span for one in self._observe(parts).values() if (span := max(abs(one.low), abs(one.high)))]
            if spans and min(spans) * MIN_PART_STEPS < max(spans):
                found.append(node.name)
        why = "its parts have ranges that are too different for one scale"
        rules = (RecipeRule(nodes=name, precision="fp32", why=why) for name in found)
        return msgspec.structs.replace(recipe, rules=(*rules, *recipe.rules))

    def _leave_out_slow(self, recipe: Recipe, leave_out: LeaveOut) -> Recipe:
        """Keep in float what has no integer kernel, with its neighbors, or what ONNX Runtime is not faster at."""
        network = self._network
        scope = find_quantization_scope(network, _list_float_nodes(network, recipe))
        if leave_out == "no-kernel":
            found = list_expanded(network, scope, FLOAT_KERNEL_OPS)
            return _prepend_float_rules(recipe, network, found, "it has no integer kernel, or a neighbor without one")
        self._progress("timing operators", 0, 0)
        treatments = {name: RoundingSettings(8, adaptive=False) for name in network.weight_nodes}
        stored = self._reconstruct({}, treatments)
        slow = set(find_slow_nodes(network, stored, self._node_inputs(stored)))
        if slow == network.weight_nodes.keys():
            why = "no operator is faster in integers on this machine"
            raise ModelNotConvertible("there is nothing to quantize", why, "use --precision w8")
        recipe = _prepend_float_rules(recipe, network, slow, "it is not faster in integers")
        return _prepend_float_rules(recipe, network, list_unweighted(network, scope), "it is between float operators")

    def _fit_network(self, recipe: Recipe) -> FittedNetwork:
        network = self._network
        precisions = assign_precisions(network.weight_nodes, recipe)
        dtype = ACTIVATION_DTYPES.get(recipe.precision)
        scope = (
            find_quantization_scope(network, _list_float_nodes(network, recipe))
            if dtype
            else QuantizationScope(frozenset(), (), {}, (), {})
        )
        values = self._observe(scope.tensors)
        ranges = self._choose(recipe, values, dtype) if dtype else {}
        tensor_params = {name: _compute_range_params(one, dtype) for name, one in ranges.items()} if dtype else {}
        for name, source in scope.shared_params.items():
            tensor_params[name] = tensor_params[source]
        operands = (
            {name: _compute_operand_params(network.constants[name], dtype) for name in scope.constants} if dtype else {}
        )
        treatments = {
            name: RoundingSettings(WEIGHT_BITS[precision], self._is_adaptive(recipe, name))
            for name, precision in precisions.items()
            if precision != "fp32"
        }
        stored = self._reconstruct(tensor_params, treatments)
        return FittedNetwork(scope, ranges, values, tensor_params, operands, stored)

    def _is_adaptive(self, recipe: Recipe, name: str) -> bool:
        weight_node = self._network.weight_nodes[name]
        depth, count = list(self._network.weight_nodes).index(name), len(self._network.weight_nodes)
        return (
            weight_node.op != "ConvTranspose" and recipe.get_rounding(name, weight_node.op, depth, count) == "adaptive"
        )

    def _observe(self, tensors: Sequence[str]) -> dict[str, TensorValues]:
        missing = [name for name in tensors if name not in self._seen]
        if missing:
            self._seen |= observe(self._network, missing, self._fit, lambda n, of: self._progress("observing", n, of))
        return {name: self._seen[name] for name in tensors}

    def _choose(
        self, recipe: Recipe, values: Mapping[str, TensorValues], dtype: np.dtype[Any]
    ) -> dict[str, ValueRange]:
        methods = {name: recipe.get_range_method(name) for name in values}
        fixed = {name: METHODS[method](values[name], dtype) for name, method in methods.items() if method != "auto"}
        open_ones = {name: one for name, one in values.items() if methods[name] == "auto"}
        key = f"ranges-{len(open_ones)}-{dtype}"
        found = self._store.get(key)
        if found is None or set(found) != set(open_ones):
            found = choose_ranges(
                self._network,
                open_ones,
                dtype,
                self._fit[:RANGE_SAMPLES],
                lambda n, of: self._progress("choosing ranges", n, of),
            )
            self._store.put(key, {name: tuple(one) for name, one in found.items()})
        fixed |= {name: ValueRange(*one) for name, one in found.items()}
        return {name: fixed[name] for name in values}

    def _reconstruct(
        self, tensor_params: Mapping[str, TensorQuantParams], treatments: Mapping[str, RoundingSettings]
    ) -> dict[str, QuantizedWeights]:
        count = 0
        prefix = f"sites-{_compute_fingerprint(tensor_params, treatments)}-"

        def done(weight_node: WeightNode, stored: QuantizedWeights) -> None:
            nonlocal count
            count += 1
            self._store.put(f"{prefix}{count}", stored)
            self._progress("rounding weights", count, len(treatments))

        def known(weight_node: WeightNode) -> QuantizedWeights | None:
            found: QuantizedWeights | None = self._store.get(f"{prefix}{count + 1}")
            return found

        return reconstruct(self._network, tensor_params, treatments, self._fit, known, done)

    def _measure_fidelity(self, model: Any) -> Fidelity:
        outputs = run_model(protect_float_layers(model) or model, self._network.outputs[0], self._check)
        return Fidelity(compare(self._exact, outputs), estimate_flips(self._exact, outputs))

    def _measure(self, fitted: FittedNetwork) -> dict[str, Sensitivity]:
        return measure_sensitivity(
            self._network, fitted.tensor_params, fitted.stored, self._fit[:SENSITIVITY_SAMPLES],
            lambda n, of: self._progress("measuring sensitivity", n, of),
        )  # fmt: skip

    def _search(
        self, recipe: Recipe, fitted: FittedNetwork, sensitivity: Mapping[str, Sensitivity], target: FidelityTarget
    ) -> tuple[list[str], Fidelity]:
        """Return the sites whose precision to raise, ordered by their error per cost of a higher precision."""
        better = UPGRADED_PRECISION[recipe.precision]
        upgraded = fitted.stored
        if better == "fp32":
            inputs = self._node_inputs(fitted.stored)
            cost_by_node = {name: _estimate_work(self._network, name, x) for name, x in inputs.items()}
        else:
            treatments = {name: RoundingSettings(8, self._is_adaptive(recipe, name)) for name in fitted.stored}
            upgraded = self._reconstruct(fitted.tensor_params, treatments)
            cost_by_node = {name: float(one.values.size) for name, one in fitted.stored.items()}
        noise_by_node = {name: one.both.noise for name, one in sensitivity.items()}
        trials = 0

        def evaluate(names: Sequence[str]) -> Fidelity:
            nonlocal trials
            trials += 1
            self._progress("searching", trials, 0)
            return self._measure_fidelity(
                _write(self._network, self._apply_upgrades(recipe, fitted, upgraded, names, better))
            )

        return search_upgrades(noise_by_node, cost_by_node, evaluate, target, MAX_UPGRADE_SHARE[better])

    def _apply_upgrades(
        self,
        recipe: Recipe,
        fitted: FittedNetwork,
        upgraded: Mapping[str, QuantizedWeights],
        names: Sequence[str],
        better: NodePrecision,
    ) -> FittedNetwork:
        """Return the fitted network with these sites at higher precision and all others as rounded."""
        if better != "fp32":
            return fitted._replace(stored={**fitted.stored, **{name: upgraded[name] for name in names}})
        scope = find_quantization_scope(
            self._network, _list_float_nodes(self._network, _add_rules(recipe, names, better))
        )
        return fitted._replace(
            tensor_params={name: one for name, one in fitted.tensor_params.items() if name in scope.tensors},
            stored={name: one for name, one in fitted.stored.items() if name not in names},
        )

    def _node_inputs(self, names: Sequence[str] | Mapping[str, Any]) -> dict[str, Array]:
        network = self._network
        executor = IncrementalExecutor(
            network.nodes, network.constants, self._fit[:1], network.types, opset=network.opset
        )
        found = {}
        for name in network.weight_nodes:
            if name in names:
                executor.reach(network.weight_nodes[name].input)
                found[name] = executor.live[0][network.weight_nodes[name].input]
        return found


def _prepend_float_rules(recipe: Recipe, network: FloatNetwork, names: Collection[str], why: str) -> Recipe:
    """Return the recipe with a rule for each of these nodes, before its own rules."""
    rules = (RecipeRule(nodes=node.name, precision="fp32", why=why) for node in network.nodes if node.name in names)
    return msgspec.structs.replace(recipe, rules=(*rules, *recipe.rules))


def _estimate_work(network: FloatNetwork, name: str, x: Array) -> float:
    """Return what integers save of a node's work, in multiplications; a measured time would differ in each run."""
    weight_node, node = network.weight_nodes[name], network.node(name)
    channels = x.shape[1] if weight_node.op.startswith("Conv") else x.shape[-1]
    steps = prod(read_attributes(node).get("strides", ())) if weight_node.op == "Conv" else 1
    return float(network.constants[weight_node.weight].size * x.size / (channels * steps) + WORK_PER_VALUE * x.size)


def _write(network: FloatNetwork, fitted: FittedNetwork) -> Any:
    return write_qdq(network, fitted.tensor_params, fitted.stored, fitted.operands)


def _list_float_nodes(network: FloatNetwork, recipe: Recipe) -> set[str]:
    """Return all nodes that the recipe leaves in float, including those without weights."""
    depths = {name: depth for depth, name in enumerate(network.weight_nodes)}
    return {
        node.name
        for node in network.nodes
        if recipe.get_precision(node.name, node.op_type, depths.get(node.name, -1), len(depths)) == "fp32"
    }


def _compute_range_params(one: ValueRange, dtype: np.dtype[Any]) -> TensorQuantParams:
    """Return the parameters of a range; in 16 bits without a zero point, as LiteRT's kernels require."""
    return compute_quant_params(one.low, one.high, dtype, symmetric=dtype.itemsize > 1)


def _compute_operand_params(array: Array, dtype: np.dtype[Any]) -> TensorQuantParams:
    low, high = float(array.min(initial=0.0)), float(array.max(initial=0.0))
    return compute_quant_params(low, high, dtype, symmetric=dtype.itemsize > 1)


def _add_rules(recipe: Recipe, names: Sequence[str], precision: NodePrecision) -> Recipe:
    rules = tuple(
        RecipeRule(nodes=name, precision=precision, why="found by search: it caused the largest error")
        for name in names
    )
    return msgspec.structs.replace(recipe, rules=(*recipe.rules, *rules))


def _add_range_rules(recipe: Recipe, ranges: Mapping[str, ValueRange]) -> Recipe:
    """Return the recipe with a rule for each tensor whose method was chosen automatically."""
    rules = tuple(
        RecipeRule(tensors=name, ranges=one.method, why="chosen on calibration data")  # type: ignore[arg-type] # a word of METHODS
        for name, one in ranges.items()
        if recipe.get_range_method(name) == "auto"
    )
    return msgspec.structs.replace(recipe, rules=(*recipe.rules, *rules))


def _compute_fingerprint(
    tensor_params: Mapping[str, TensorQuantParams], treatments: Mapping[str, RoundingSettings]
) -> str:
    from hashlib import sha256

    text = repr([(name, float(one.scale), int(one.zero)) for name, one in tensor_params.items()]) + repr(
        dict(treatments)
    )
    return sha256(text.encode()).hexdigest()[:16]
