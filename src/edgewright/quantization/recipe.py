"""Recipes: ordered rules for operators and tensors in a TOML file; the last matching rule wins."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from edgewright.errors import ConfigError
from edgewright.formats.onnx.normalize.weights import WeightNode
from edgewright.formats.toml import TomlError, parse_toml, read_toml

SCHEMA = "edgewright.recipe/1"
DOCS_HINT = "docs/quantize.md lists all keys"

NodePrecision = Literal["fp32", "w8a8", "w8a8-dynamic", "w8a16", "w4a8", "w8", "w4"]
# Precisions that rules may set: other weights or float; all activations have the same integer type.
ALLOWED_RULE_PRECISIONS: dict[NodePrecision, tuple[NodePrecision, ...]] = {
    "w8a8": ("fp32", "w4a8"),
    "w4a8": ("fp32", "w8a8"),
    "w8a16": ("fp32",),
    "w8": ("fp32", "w4"),
    "w4": ("fp32", "w8"),
    "w8a8-dynamic": ("fp32",),
}
Method = Literal["auto", "mse", "minmax", "percentile", "entropy", "activation"]
Rounding = Literal["adaptive", "nearest"]


class RecipeRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule; keys that it does not set do not change.

    Attributes:
        nodes: pattern of node names, with `*` and `?`.
        ops: operators; empty matches all.
        depth: first and last index among the weight nodes, from 0; negative from the end.
        tensors: pattern of tensor names, for `ranges`; such a rule applies only to tensors.
        precision: of the operators' weights and activations.
        rounding: of their weights.
        ranges: method for the ranges of tensors.
        why: reason to show.
    """

    nodes: str = "*"
    ops: tuple[str, ...] = ()
    depth: tuple[int, int] | None = None
    tensors: str = ""
    precision: NodePrecision | None = None
    rounding: Rounding | None = None
    ranges: Method | None = None
    why: str = ""


class Recipe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of a quantization.

    Attributes:
        precision: of all operators without a matching rule.
        rounding: of weights.
        ranges: of tensors.
        equalize: whether channels are first scaled to similar ranges, where the network's output does not change.
        search: whether operators with a large loss are searched for and get a higher precision. A recipe from
            Edgewright has the result in its rules and does not search again.
        rules: in order; the last matching rule wins.
    """

    schema: str = SCHEMA
    precision: NodePrecision = "w8a8"
    rounding: Rounding = "adaptive"
    ranges: Method = "auto"
    equalize: bool = False
    search: bool = True
    rules: tuple[RecipeRule, ...] = ()

    def get_precision(self, node: str, op: str, depth: int, count: int) -> NodePrecision:
        found = self.precision
        for rule in self.rules:
            if rule.precision is not None and applies_to_node(rule, node, op, depth, count):
                found = rule.precision
        return found

    def get_rounding(self, node: str, op: str, depth: int, count: int) -> Rounding:
        found = self.rounding
        for rule in self.rules:
            if rule.rounding is not None and applies_to_node(rule, node, op, depth, count):
                found = rule.rounding
        return found

    def get_range_method(self, tensor: str) -> Method:
        found = self.ranges
        for rule in self.rules:
            if rule.ranges is not None and _matches_name(rule.tensors or "*", tensor):
                found = rule.ranges
        return found


def _matches_name(pattern: str, name: str) -> bool:
    """Return whether a pattern matches a name; a pattern with brackets or stars also matches itself."""
    return pattern == name or fnmatchcase(name, pattern)


def applies_to_node(rule: RecipeRule, node: str, op: str, depth: int, count: int) -> bool:
    """Return whether a rule applies to an operator; `depth` is -1 for one without weights."""
    if rule.tensors or (rule.ops and op not in rule.ops) or not _matches_name(rule.nodes, node):
        return False
    if rule.depth is None:
        return True
    first, last = (place + count if place < 0 else place for place in rule.depth)
    return first <= depth <= last


def assign_precisions(weight_nodes: Mapping[str, WeightNode], recipe: Recipe) -> dict[str, NodePrecision]:
    """Return the precision of each weight node of a network."""
    return {
        name: recipe.get_precision(name, weight_node.op, depth, len(weight_nodes))
        for depth, (name, weight_node) in enumerate(weight_nodes.items())
    }


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file. Raises ConfigError if it is not valid."""
    try:
        table, _ = read_toml(path)
    except FileNotFoundError:
        raise ConfigError(f"recipe file does not exist: {path}", "", "omit --recipe to create a recipe") from None
    except TomlError as error:
        raise ConfigError(f"{path} is not a valid recipe", str(error), DOCS_HINT) from None
    if not table:
        raise ConfigError(f"{path} is not a valid recipe", "it is empty", "omit --recipe to create a recipe")
    return _convert_recipe(table, str(path))


def parse_recipe(text: str, title: str) -> Recipe:
    """Parse a recipe. Raises ConfigError with `title` as the recipe's name."""
    try:
        table = parse_toml(text)
    except TomlError as error:
        raise ConfigError(f"{title} is not a valid recipe", str(error), DOCS_HINT) from None
    return _convert_recipe(table, title)


def _convert_recipe(table: Mapping[str, Any], title: str) -> Recipe:
    """Convert TOML tables to a recipe. Raises ConfigError with `title` as the recipe's name."""
    try:
        recipe = msgspec.convert(table, Recipe)
    except msgspec.ValidationError as error:
        kind = RecipeRule if "$.rules" in str(error) else Recipe
        known = f"; the keys are {', '.join(kind.__struct_fields__)}" if "unknown field" in str(error) else ""
        raise ConfigError(f"{title} is not a valid recipe", f"{error}{known}", DOCS_HINT) from None
    if recipe.schema != SCHEMA:
        raise ConfigError(f"{title} has schema {recipe.schema}", f"this Edgewright supports {SCHEMA}", DOCS_HINT)
    beside = (recipe.precision, *ALLOWED_RULE_PRECISIONS.get(recipe.precision, ()))
    for rule in recipe.rules:
        if rule.precision is not None and rule.precision not in beside:
            known = ", ".join(beside)
            why = f"with {recipe.precision} a rule may set {known}, because all activations have the same integer type"
            raise ConfigError(f"{title} sets {rule.precision} in a rule", why, DOCS_HINT)
    return recipe


def write_recipe(recipe: Recipe) -> str:
    """Return the recipe as TOML; `read_recipe` returns the same recipe."""
    plain = msgspec.to_builtins(recipe)
    lines = [f"{key} = {_format_toml_value(value)}" for key, value in plain.items() if key != "rules"]
    for rule in plain["rules"]:
        fields = {
            key: value
            for key, value in rule.items()
            if value not in (None, "", [], ()) and (key, value) != ("nodes", "*")
        }
        lines += ["", "[[rules]]", *(f"{key} = {_format_toml_value(value)}" for key, value in fields.items())]
    return "\n".join(lines) + "\n"


def _format_toml_value(value: Any) -> str:
    """Format a TOML value; JSON strings, numbers, lists and booleans are valid TOML."""
    return msgspec.json.encode(value).decode()
