"""What is done with each operator and tensor, as ordered rules in a plain file: the later one wins."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from edgewright.errors import ConfigError
from edgewright.formats.toml import TomlError, parse_toml, read_toml
from edgewright.quantization.network import WeightNode

SCHEMA = "edgewright.recipe/1"
DOCS_HINT = "docs/quantize.md lists all keys"

NodePrecision = Literal["fp32", "w8a8", "w8a8-dynamic", "w8a16", "w4a8", "w8", "w4"]
# What a rule may ask for beside the precision of the rest: other weights, or floats; activations are of one kind.
ALLOWED_RULE_PRECISIONS: dict[NodePrecision, tuple[NodePrecision, ...]] = {
    "w8a8": ("fp32", "w4a8"),
    "w4a8": ("fp32", "w8a8"),
    "w8a16": ("fp32",),
    "w8": ("fp32", "w4"),
    "w4": ("fp32", "w8"),
    "w8a8-dynamic": ("fp32",),
}
Method = Literal["auto", "mse", "minmax", "percentile", "entropy"]
Rounding = Literal["adaptive", "nearest"]


class RecipeRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule; what it leaves open stays as it was.

    Attributes:
        nodes: pattern of node names, with `*` and `?`.
        ops: operators; empty takes all.
        depth: first and last place among the operators with weights, counted from 0; negative from the end.
        tensors: pattern of tensor names, for `ranges`; a rule with it speaks of tensors alone.
        precision: of the operators' weights and activations.
        rounding: of their weights.
        ranges: how the ranges of tensors are found.
        why: for people.
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
    """All decisions of a quantisation.

    Attributes:
        precision: of all operators that no rule speaks of.
        rounding: of weights.
        ranges: of tensors.
        equalize: whether channels are scaled to alike ranges first, where that changes nothing else.
        search: whether operators that cost too much are looked for and treated better. A recipe that Edgewright wrote
            has what was found in its rules, and does not search again.
        rules: in order; the later wins.
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
    """Whether a pattern is about a name; one with brackets or stars in it means itself too."""
    return pattern == name or fnmatchcase(name, pattern)


def applies_to_node(rule: RecipeRule, node: str, op: str, depth: int, count: int) -> bool:
    """Whether a rule is about an operator; `depth` is -1 for one without weights."""
    if rule.tensors or (rule.ops and op not in rule.ops) or not _matches_name(rule.nodes, node):
        return False
    if rule.depth is None:
        return True
    first, last = (place + count if place < 0 else place for place in rule.depth)
    return first <= depth <= last


def assign_precisions(weight_nodes: Mapping[str, WeightNode], recipe: Recipe) -> dict[str, NodePrecision]:
    """The precision of each site of a network."""
    return {
        name: recipe.get_precision(name, weight_node.op, depth, len(weight_nodes))
        for depth, (name, weight_node) in enumerate(weight_nodes.items())
    }


def read_recipe(path: Path) -> Recipe:
    """ConfigError for a file that is no recipe."""
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
    """ConfigError, naming the recipe by `title`."""
    try:
        table = parse_toml(text)
    except TomlError as error:
        raise ConfigError(f"{title} is not a valid recipe", str(error), DOCS_HINT) from None
    return _convert_recipe(table, title)


def _convert_recipe(table: Mapping[str, Any], title: str) -> Recipe:
    """The recipe in these tables. ConfigError names it by `title`."""
    try:
        recipe = msgspec.convert(table, Recipe)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{title} is not a valid recipe", str(error), DOCS_HINT) from None
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
    """As TOML; `read_recipe` gives the same again."""
    plain = msgspec.to_builtins(recipe)
    lines = [f"{key} = {_format_toml_value(value)}" for key, value in plain.items() if key != "rules"]
    for rule in plain["rules"]:
        said = {
            key: value
            for key, value in rule.items()
            if value not in (None, "", [], ()) and (key, value) != ("nodes", "*")
        }
        lines += ["", "[[rules]]", *(f"{key} = {_format_toml_value(value)}" for key, value in said.items())]
    return "\n".join(lines) + "\n"


def _format_toml_value(value: Any) -> str:
    """A value as TOML writes it; JSON's strings, numbers, lists and booleans are TOML's too."""
    return msgspec.json.encode(value).decode()
