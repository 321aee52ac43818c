"""Rules of a recipe for the nodes and tensors of a network."""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from edgewright.quantization.network import FloatNetwork
from edgewright.quantization.recipe import NodePrecision, Recipe, RecipeRule
from edgewright.quantization.static.ranges import ValueRange


def prepend_float_rules(recipe: Recipe, network: FloatNetwork, names: Collection[str], why: str) -> Recipe:
    """Return the recipe with a rule for each of these nodes, before its own rules."""
    rules = (RecipeRule(nodes=node.name, precision="fp32", why=why) for node in network.nodes if node.name in names)
    return msgspec.structs.replace(recipe, rules=(*rules, *recipe.rules))


def list_float_nodes(network: FloatNetwork, recipe: Recipe) -> set[str]:
    """Return all nodes that the recipe leaves in float, including those without weights."""
    depths = {name: depth for depth, name in enumerate(network.weight_nodes)}
    return {
        node.name
        for node in network.nodes
        if recipe.get_precision(node.name, node.op_type, depths.get(node.name, -1), len(depths)) == "fp32"
    }


def add_rules(recipe: Recipe, names: Sequence[str], precision: NodePrecision) -> Recipe:
    rules = tuple(
        RecipeRule(nodes=name, precision=precision, why="found by search: it caused the largest error")
        for name in names
    )
    return msgspec.structs.replace(recipe, rules=(*recipe.rules, *rules))


def add_range_rules(recipe: Recipe, ranges: Mapping[str, ValueRange]) -> Recipe:
    """Return the recipe with a rule for each tensor whose method was chosen automatically."""
    rules = tuple(
        RecipeRule(tensors=name, ranges=one.method, why="chosen on calibration data")  # type: ignore[arg-type] # a word of METHODS
        for name, one in ranges.items()
        if recipe.get_range_method(name) == "auto"
    )
    return msgspec.structs.replace(recipe, rules=(*recipe.rules, *rules))
