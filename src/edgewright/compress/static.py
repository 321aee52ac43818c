"""Static quantisation, station by station: observe → ranges → reconstruct → judge → better treatment → write."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgewright.compress.network import Network, Site
from edgewright.compress.observe import Values, observe
from edgewright.compress.probe import compare
from edgewright.compress.qdq import Steps, real_steps
from edgewright.compress.ranges import METHODS, Range
from edgewright.compress.recipe import Recipe, Rule, Treated, treat
from edgewright.compress.reconstruct import Stored, Treatment, reconstruct
from edgewright.compress.regions import Regions, find_regions
from edgewright.compress.search import Aim, Judgement, expect_flips, find_better
from edgewright.compress.sensitivity import Sensitivity, choose_ranges, measure_sites
from edgewright.compress.timing import time_gains
from edgewright.compress.walk import Walk, run_model
from edgewright.compress.write import guard_floats, write_qdq

Array = NDArray[Any]
Feeds = Mapping[str, Array]
Progress = Callable[[str, int, int], None]

FEW = 4  # samples that decide between ranges
SOME = 8  # samples that sensitivity is measured on, and the reach of channels
WEIGHT_BITS: dict[Treated, int] = {"w8a8": 8, "w8a16": 8, "w8": 8, "w4a8": 4, "w4": 4}
ACTIVATIONS: dict[Treated, np.dtype[Any]] = {
    "w8a8": np.dtype(np.uint8),
    "w4a8": np.dtype(np.uint8),
    "w8a16": np.dtype(np.int16),
}
MOST_SHARE: dict[Treated, float] = {"fp32": 0.3, "w8a8": 0.6, "w8": 0.6}
BETTER: dict[Treated, Treated] = {"w8a8": "fp32", "w8a16": "fp32", "w8": "fp32", "w4a8": "w8a8", "w4": "w8"}


class Memory(Protocol):
    """What an interrupted try has left; see `checkpoint.py`."""

    def get(self, name: str) -> Any: ...

    def put(self, name: str, value: Any) -> None: ...


class Outcome(NamedTuple):
    """A quantised network.

    Attributes:
        model: the QDQ graph.
        recipe: what was asked, with a rule for each decision that was taken.
        judgement: of the graph in ONNX Runtime, on samples that took no part in the fitting.
        first: the same before any site was treated better; equal to `judgement` where none was.
        ranges, values: of each tensor with a pair.
        sensitivity: of each site that runs on integers.
        stored: its weights.
        treated: precision of each site.
        steps: of each tensor with a pair.
        operators: names of the nodes that run on integers.
    """

    model: Any
    recipe: Recipe
    judgement: Judgement
    first: Judgement
    ranges: dict[str, Range]
    values: dict[str, Values]
    sensitivity: dict[str, Sensitivity]
    stored: dict[str, Stored]
    treated: dict[str, Treated]
    steps: dict[str, Steps]
    operators: frozenset[str]


class Fitted(NamedTuple):
    """One treatment of all sites, carried through."""

    regions: Regions
    ranges: dict[str, Range]
    values: dict[str, Values]
    steps: dict[str, Steps]
    operands: dict[str, Steps]
    stored: dict[str, Stored]


class Static:
    """A network that is being quantised.

    Args:
        fit: feeds that everything is fitted to.
        check: feeds that decide whether it is good enough.
    """

    def __init__(
        self, network: Network, fit: Sequence[Feeds], check: Sequence[Feeds], memory: Memory, tell: Progress
    ) -> None:
        self._network, self._fit, self._check = network, fit, check
        self._memory, self._tell = memory, tell
        self._exact = run_model(network.model, network.outputs[0], check)
        self._seen: dict[str, Values] = {}

    def quantize(self, recipe: Recipe, aim: Aim) -> Outcome:
        """Carry the recipe out; where it allows a search, treat sites better until the aim is met."""
        fitted = self._fit_to(recipe)
        first = judgement = self._judge(write(self._network, fitted))
        sensitivity = self._measure(fitted)
        if recipe.search and not first.meets(aim):
            better, _ = self._search(recipe, fitted, sensitivity, aim)
            recipe = with_rules(recipe, better, BETTER[recipe.precision])
            fitted = self._fit_to(recipe)
            judgement = self._judge(write(self._network, fitted))
        recipe = with_ranges(msgspec.structs.replace(recipe, search=False), fitted.ranges)
        return Outcome(
            model=write(self._network, fitted),
            recipe=recipe,
            judgement=judgement,
            first=first,
            ranges=fitted.ranges,
            values=fitted.values,
            sensitivity=sensitivity,
            stored=fitted.stored,
            treated=treat(self._network.sites, recipe),
            steps=fitted.steps,
            operators=fitted.regions.operators,
        )

    # Stations

    def _fit_to(self, recipe: Recipe) -> Fitted:
        network = self._network
        treated = treat(network.sites, recipe)
        dtype = ACTIVATIONS.get(recipe.precision)
        regions = find_regions(network, in_float(network, recipe)) if dtype else Regions(frozenset(), (), {}, (), {})
        values = self._observe(regions.tensors)
        ranges = self._choose(recipe, values, dtype) if dtype else {}
        steps = {name: steps_of(one, dtype) for name, one in ranges.items()} if dtype else {}
        for name, source in regions.same.items():
            steps[name] = steps[source]
        operands = {name: operand_steps(network.constants[name], dtype) for name in regions.constants} if dtype else {}
        treatments = {
            name: Treatment(WEIGHT_BITS[precision], self._is_adaptive(recipe, name))
            for name, precision in treated.items()
            if precision != "fp32"
        }
        stored = self._reconstruct(steps, treatments)
        return Fitted(regions, ranges, values, steps, operands, stored)

    def _is_adaptive(self, recipe: Recipe, name: str) -> bool:
        site = self._network.sites[name]
        depth, count = list(self._network.sites).index(name), len(self._network.sites)
        return site.op != "ConvTranspose" and recipe.rounding_of(name, site.op, depth, count) == "adaptive"

    def _observe(self, tensors: Sequence[str]) -> dict[str, Values]:
        missing = [name for name in tensors if name not in self._seen]
        if missing:
            self._seen |= observe(self._network, missing, self._fit, lambda n, of: self._tell("observing", n, of))
        return {name: self._seen[name] for name in tensors}

    def _choose(self, recipe: Recipe, values: Mapping[str, Values], dtype: np.dtype[Any]) -> dict[str, Range]:
        methods = {name: recipe.ranges_of(name) for name in values}
        fixed = {name: METHODS[method](values[name], dtype) for name, method in methods.items() if method != "auto"}
        open_ones = {name: one for name, one in values.items() if methods[name] == "auto"}
        key = f"ranges-{len(open_ones)}-{dtype}"
        found = self._memory.get(key)
        if found is None or set(found) != set(open_ones):
            found = choose_ranges(
                self._network, open_ones, dtype, self._fit[:FEW], lambda n, of: self._tell("choosing ranges", n, of)
            )
            self._memory.put(key, {name: tuple(one) for name, one in found.items()})
        fixed |= {name: Range(*one) for name, one in found.items()}
        return {name: fixed[name] for name in values}

    def _reconstruct(self, steps: Mapping[str, Steps], treatments: Mapping[str, Treatment]) -> dict[str, Stored]:
        count = 0
        prefix = f"sites-{fingerprint(steps, treatments)}-"

        def done(site: Site, stored: Stored) -> None:
            nonlocal count
            count += 1
            self._memory.put(f"{prefix}{count}", stored)
            self._tell("rounding weights", count, len(treatments))

        def known(site: Site) -> Stored | None:
            found: Stored | None = self._memory.get(f"{prefix}{count + 1}")
            return found

        return reconstruct(self._network, steps, treatments, self._fit, known, done)

    def _judge(self, model: Any) -> Judgement:
        outputs = run_model(guard_floats(model) or model, self._network.outputs[0], self._check)
        return Judgement(compare(self._exact, outputs), expect_flips(self._exact, outputs))

    def _measure(self, fitted: Fitted) -> dict[str, Sensitivity]:
        return measure_sites(
            self._network, fitted.steps, fitted.stored, self._fit[:SOME],
            lambda n, of: self._tell("measuring sensitivity", n, of),
        )  # fmt: skip

    def _search(
        self, recipe: Recipe, fitted: Fitted, sensitivity: Mapping[str, Sensitivity], aim: Aim
    ) -> tuple[list[str], Judgement]:
        """Sites to be treated better, by their harm for what better treatment costs."""
        better = BETTER[recipe.precision]
        spare = fitted.stored
        if better == "fp32":
            prices = time_gains(self._network, fitted.steps, fitted.stored, self._site_inputs(fitted.stored))
        else:
            treatments = {name: Treatment(8, self._is_adaptive(recipe, name)) for name in fitted.stored}
            spare = self._reconstruct(fitted.steps, treatments)
            prices = {name: float(one.values.size) for name, one in fitted.stored.items()}
        harms = {name: one.both.noise for name, one in sensitivity.items()}
        trials = 0

        def judge(names: Sequence[str]) -> Judgement:
            nonlocal trials
            trials += 1
            self._tell("searching", trials, 0)
            return self._judge(write(self._network, self._mix(recipe, fitted, spare, names, better)))

        return find_better(harms, prices, judge, aim, MOST_SHARE[better])

    def _mix(
        self, recipe: Recipe, fitted: Fitted, spare: Mapping[str, Stored], names: Sequence[str], better: Treated
    ) -> Fitted:
        """The fitted network with these sites treated better, all others as they were rounded."""
        if better != "fp32":
            return fitted._replace(stored={**fitted.stored, **{name: spare[name] for name in names}})
        regions = find_regions(self._network, in_float(self._network, with_rules(recipe, names, better)))
        return fitted._replace(
            steps={name: one for name, one in fitted.steps.items() if name in regions.tensors},
            stored={name: one for name, one in fitted.stored.items() if name not in names},
        )

    def _site_inputs(self, names: Sequence[str] | Mapping[str, Any]) -> dict[str, Array]:
        network = self._network
        walk = Walk(network.nodes, network.constants, self._fit[:1], network.types, opset=network.opset)
        found = {}
        for name in network.sites:
            if name in names:
                walk.reach(network.sites[name].input)
                found[name] = walk.live[0][network.sites[name].input]
        return found


def write(network: Network, fitted: Fitted) -> Any:
    return write_qdq(network, fitted.steps, fitted.stored, fitted.operands)


def in_float(network: Network, recipe: Recipe) -> set[str]:
    """All nodes that the recipe leaves in float, those without weights too."""
    depths = {name: depth for depth, name in enumerate(network.sites)}
    return {
        node.name
        for node in network.nodes
        if recipe.precision_of(node.name, node.op_type, depths.get(node.name, -1), len(depths)) == "fp32"
    }


def steps_of(one: Range, dtype: np.dtype[Any]) -> Steps:
    """16-bit steps have no zero point, as LiteRT's kernels want them."""
    return real_steps(one.low, one.high, dtype, symmetric=dtype.itemsize > 1)


def operand_steps(array: Array, dtype: np.dtype[Any]) -> Steps:
    low, high = float(array.min(initial=0.0)), float(array.max(initial=0.0))
    return real_steps(low, high, dtype, symmetric=dtype.itemsize > 1)


def with_rules(recipe: Recipe, names: Sequence[str], precision: Treated) -> Recipe:
    rules = tuple(Rule(nodes=name, precision=precision, why="found by search: it harmed most") for name in names)
    return msgspec.structs.replace(recipe, rules=(*recipe.rules, *rules))


def with_ranges(recipe: Recipe, ranges: Mapping[str, Range]) -> Recipe:
    """The recipe with the method of each tensor as a rule, where it was left to be chosen."""
    rules = tuple(
        Rule(tensors=name, ranges=one.method, why="chosen on calibration data")  # type: ignore[arg-type] # a word of METHODS
        for name, one in ranges.items()
        if recipe.ranges_of(name) == "auto"
    )
    return msgspec.structs.replace(recipe, rules=(*recipe.rules, *rules))


def fingerprint(steps: Mapping[str, Steps], treatments: Mapping[str, Treatment]) -> str:
    from hashlib import sha256

    text = repr([(name, float(one.scale), int(one.zero)) for name, one in steps.items()]) + repr(dict(treatments))
    return sha256(text.encode()).hexdigest()[:16]
