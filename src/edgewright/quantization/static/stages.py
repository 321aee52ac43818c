"""Stages of static quantization: observe → ranges → reconstruct → evaluate → better precision → write."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np

from edgewright.errors import ModelNotConvertible
from edgewright.formats.onnx.normalize.weights import WeightNode
from edgewright.quantization.executor import IncrementalExecutor, run_model
from edgewright.quantization.job import LeaveOut
from edgewright.quantization.network import FloatNetwork
from edgewright.quantization.observe import TensorValues, observe
from edgewright.quantization.probe import find_compared_outputs
from edgewright.quantization.recipe import NodePrecision, Recipe, RecipeRule, assign_precisions
from edgewright.quantization.search import Fidelity, FidelityTarget, estimate_flips, search_upgrades
from edgewright.quantization.static.groups import FLOAT_KERNEL_OPS, list_expanded, list_unweighted
from edgewright.quantization.static.qdq import TensorQuantParams, compute_quant_params
from edgewright.quantization.static.ranges import ValueRange, compute_range
from edgewright.quantization.static.reconstruct import (
    QuantizedWeights,
    RoundingSettings,
    compute_site_keys,
    reconstruct,
)
from edgewright.quantization.static.rules import add_range_rules, add_rules, list_float_nodes, prepend_float_rules
from edgewright.quantization.static.scope import QuantizationScope, find_output_concats, find_quantization_scope
from edgewright.quantization.static.sensitivity import Sensitivity, choose_ranges, measure_sensitivity
from edgewright.quantization.static.timing import estimate_work, find_slow_nodes
from edgewright.quantization.static.write import protect_float_layers, write_qdq
from edgewright.schema.arrays import Array

Feeds = Mapping[str, Array]
ProgressCallback = Callable[[str, int, int], None]

MIN_PART_STEPS = 16  # a part of a Concat whose range is less than this share of the largest has too few steps
RANGE_SAMPLES = 4  # samples that ranges are compared on
MIN_GROUP_GAIN_DB = 1.0  # that keeping a group of operators in float must bring
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
        report: whether sensitivities are measured even if the search does not need them.
    """

    def __init__(
        self,
        network: FloatNetwork,
        fit: Sequence[Feeds],
        check: Sequence[Feeds],
        store: ValueStore,
        progress: ProgressCallback,
        *,
        report: bool = True,
    ) -> None:
        self._network, self._fit, self._check = network, fit, check
        self._store, self._progress, self._report = store, progress, report
        self._outputs = find_compared_outputs(network)
        self._exact = run_model(network.graph.to_message(), self._outputs.names, check)
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
        sensitivity: dict[str, Sensitivity] = {}
        if recipe.search and not first.meets(target):
            better, partly, fidelity = self._keep_groups(recipe, fitted, first, target)
            if not fidelity.meets(target):
                sensitivity = self._measure(partly)
                names, _ = self._search(better, partly, sensitivity, target)
                better = add_rules(better, names, UPGRADED_PRECISION[recipe.precision])
            recipe, fitted = better, self._fit_network(better)
            fidelity = self._measure_fidelity(_write(self._network, fitted))
        if self._report and not sensitivity:
            sensitivity = self._measure(fitted)
        recipe = add_range_rules(msgspec.structs.replace(recipe, search=False), fitted.ranges)
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
        scope = find_quantization_scope(network, list_float_nodes(network, recipe))
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
        scope = find_quantization_scope(network, list_float_nodes(network, recipe))
        if leave_out == "no-kernel":
            found = list_expanded(network, scope, FLOAT_KERNEL_OPS)
            return prepend_float_rules(recipe, network, found, "it has no integer kernel, or a neighbor without one")
        self._progress("timing operators", 0, 0)
        treatments = {name: RoundingSettings(8, adaptive=False) for name in network.weight_nodes}
        stored = self._reconstruct({}, treatments)
        slow = set(find_slow_nodes(network, stored, self._node_inputs(stored)))
        if slow == network.weight_nodes.keys():
            why = "no operator is faster in integers on this machine"
            raise ModelNotConvertible("there is nothing to quantize", why, "use --precision w8")
        recipe = prepend_float_rules(recipe, network, slow, "it is not faster in integers")
        return prepend_float_rules(recipe, network, list_unweighted(network, scope), "it is between float operators")

    def _keep_groups(
        self, recipe: Recipe, fitted: FittedNetwork, first: Fidelity, target: FidelityTarget
    ) -> tuple[Recipe, FittedNetwork, Fidelity]:
        """Keep operators without weights in float if that is seen to help: expanded functions first, then all.

        Each rounds its output, and the sensitivity of weight nodes does not show what that costs.
        """
        best = recipe, fitted, first
        if recipe.precision not in ACTIVATION_DTYPES:
            return best
        network, scope = self._network, fitted.scope
        expanded, unweighted = list_expanded(network, scope), list_unweighted(network, scope)
        for names, why in ((expanded, "the steps of a function"), (unweighted, "an operator without weights")):
            if not names or (names == expanded and names is not expanded):
                continue
            tried = prepend_float_rules(recipe, network, names, f"rounding {why} caused most of the error")
            partly = self._restrict(tried, fitted)
            fidelity = self._measure_fidelity(_write(network, partly))
            if fidelity.loss.sqnr_db >= best[2].loss.sqnr_db + MIN_GROUP_GAIN_DB:
                best = tried, partly, fidelity
            if best[2].meets(target):
                break
        return best

    def _restrict(self, recipe: Recipe, fitted: FittedNetwork) -> FittedNetwork:
        """Return the fitted network with what the recipe keeps in float, and all else as it is."""
        scope = find_quantization_scope(self._network, list_float_nodes(self._network, recipe))
        return fitted._replace(
            scope=scope,
            tensor_params={name: one for name, one in fitted.tensor_params.items() if name in scope.tensors},
            operands={name: one for name, one in fitted.operands.items() if name in scope.constants},
        )

    def _fit_network(self, recipe: Recipe) -> FittedNetwork:
        network = self._network
        precisions = assign_precisions(network.weight_nodes, recipe)
        dtype = ACTIVATION_DTYPES.get(recipe.precision)
        scope = (
            find_quantization_scope(network, list_float_nodes(network, recipe))
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
        fixed = {
            name: compute_range(self._network, name, values[name], method, dtype)
            for name, method in methods.items()
            if method != "auto"
        }
        open_ones = {name: one for name, one in values.items() if methods[name] == "auto"}
        found = {name: ValueRange(*one) for name, one in (self._store.get(f"ranges-{dtype}") or {}).items()}
        missing = {name: one for name, one in open_ones.items() if name not in found}
        if missing:
            found |= choose_ranges(
                self._network,
                missing,
                dtype,
                self._fit[:RANGE_SAMPLES],
                lambda n, of: self._progress("choosing ranges", n, of),
            )
            self._store.put(f"ranges-{dtype}", {name: tuple(one) for name, one in found.items()})
        fixed |= {name: found[name] for name in open_ones}
        return {name: fixed[name] for name in values}

    def _reconstruct(
        self, tensor_params: Mapping[str, TensorQuantParams], treatments: Mapping[str, RoundingSettings]
    ) -> dict[str, QuantizedWeights]:
        count = 0
        keys = compute_site_keys(self._network, tensor_params, treatments)

        def done(weight_node: WeightNode, stored: QuantizedWeights) -> None:
            nonlocal count
            count += 1
            self._store.put(keys[weight_node.node], stored)
            self._progress("rounding weights", count, len(treatments))

        def known(weight_node: WeightNode) -> QuantizedWeights | None:
            found: QuantizedWeights | None = self._store.get(keys[weight_node.node])
            return found

        return reconstruct(self._network, tensor_params, treatments, self._fit, known, done)

    def _measure_fidelity(self, model: Any) -> Fidelity:
        given = run_model(protect_float_layers(model) or model, self._outputs.names, self._check)
        flips = estimate_flips([one[0] for one in self._exact], [one[0] for one in given])
        return Fidelity(self._outputs.compare(self._exact, given), flips)

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
            cost_by_node = {name: estimate_work(self._network, name) for name in fitted.stored}
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
        return self._restrict(add_rules(recipe, names, better), fitted)._replace(
            stored={name: one for name, one in fitted.stored.items() if name not in names}
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


def _write(network: FloatNetwork, fitted: FittedNetwork) -> Any:
    return write_qdq(network, fitted.tensor_params, fitted.stored, fitted.operands)


def _compute_range_params(one: ValueRange, dtype: np.dtype[Any]) -> TensorQuantParams:
    """Return the parameters of a range; in 16 bits without a zero point, as LiteRT's kernels require."""
    return compute_quant_params(one.low, one.high, dtype, symmetric=dtype.itemsize > 1)


def _compute_operand_params(array: Array, dtype: np.dtype[Any]) -> TensorQuantParams:
    low, high = float(array.min(initial=0.0)), float(array.max(initial=0.0))
    return compute_quant_params(low, high, dtype, symmetric=dtype.itemsize > 1)
