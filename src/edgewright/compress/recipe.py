"""What is done with each operator and tensor, as ordered rules in a plain file: the later one wins."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from edgewright.compress.network import Site
from edgewright.errors import ConfigError
from edgewright.formats.toml import TomlError, parse_toml, read_toml

SCHEMA = "edgewright.recipe/1"
SEE = "docs/quantize.md has every key"

Treated = Literal["fp32", "w8a8", "w8a8-dynamic", "w8a16", "w4a8", "w8", "w4"]
# What a rule may ask for beside the precision of the rest: other weights, or floats; activations are of one kind.
BESIDE: dict[Treated, tuple[Treated, ...]] = {
    "w8a8": ("fp32", "w4a8"),
    "w4a8": ("fp32", "w8a8"),
    "w8a16": ("fp32",),
    "w8": ("fp32", "w4"),
    "w4": ("fp32", "w8"),
    "w8a8-dynamic": ("fp32",),
}
Method = Literal["auto", "mse", "minmax", "percentile", "entropy"]
Rounding = Literal["adaptive", "nearest"]


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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
    precision: Treated | None = None
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
    precision: Treated = "w8a8"
    rounding: Rounding = "adaptive"
    ranges: Method = "auto"
    equalize: bool = False
    search: bool = True
    rules: tuple[Rule, ...] = ()

    def precision_of(self, node: str, op: str, depth: int, count: int) -> Treated:
        found = self.precision
        for rule in self.rules:
            if rule.precision is not None and speaks_of(rule, node, op, depth, count):
                found = rule.precision
        return found

    def rounding_of(self, node: str, op: str, depth: int, count: int) -> Rounding:
        found = self.rounding
        for rule in self.rules:
            if rule.rounding is not None and speaks_of(rule, node, op, depth, count):
                found = rule.rounding
        return found

    def ranges_of(self, tensor: str) -> Method:
        found = self.ranges
        for rule in self.rules:
            if rule.ranges is not None and names(rule.tensors or "*", tensor):
                found = rule.ranges
        return found


def names(pattern: str, name: str) -> bool:
    """Whether a pattern is about a name; one with brackets or stars in it means itself too."""
    return pattern == name or fnmatchcase(name, pattern)


def speaks_of(rule: Rule, node: str, op: str, depth: int, count: int) -> bool:
    """Whether a rule is about an operator; `depth` is -1 for one without weights."""
    if rule.tensors or (rule.ops and op not in rule.ops) or not names(rule.nodes, node):
        return False
    if rule.depth is None:
        return True
    first, last = (place + count if place < 0 else place for place in rule.depth)
    return first <= depth <= last


def treat(sites: Mapping[str, Site], recipe: Recipe) -> dict[str, Treated]:
    """The precision of each site of a network."""
    return {
        name: recipe.precision_of(name, site.op, depth, len(sites)) for depth, (name, site) in enumerate(sites.items())
    }


def read_recipe(path: Path) -> Recipe:
    """ConfigError for a file that is no recipe."""
    try:
        table, _ = read_toml(path)
    except FileNotFoundError:
        raise ConfigError(f"there is no recipe {path}", "", "leave --recipe out: a recipe is then made") from None
    except TomlError as error:
        raise ConfigError(f"{path} is no recipe", str(error), SEE) from None
    if not table:
        raise ConfigError(f"{path} is no recipe", "it is empty", "leave --recipe out: a recipe is then made")
    return convert_recipe(table, str(path))


def parse_recipe(text: str, title: str) -> Recipe:
    """ConfigError, naming the recipe by `title`."""
    try:
        table = parse_toml(text)
    except TomlError as error:
        raise ConfigError(f"{title} is no recipe", str(error), SEE) from None
    return convert_recipe(table, title)


def convert_recipe(table: Mapping[str, Any], title: str) -> Recipe:
    """The recipe in these tables. ConfigError names it by `title`."""
    try:
        recipe = msgspec.convert(table, Recipe)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{title} is no recipe", str(error), SEE) from None
    if recipe.schema != SCHEMA:
        raise ConfigError(f"{title} has schema {recipe.schema}", f"this Edgewright knows {SCHEMA}", SEE)
    beside = (recipe.precision, *BESIDE.get(recipe.precision, ()))
    for rule in recipe.rules:
        if rule.precision is not None and rule.precision not in beside:
            known = ", ".join(beside)
            why = f"beside {recipe.precision} a rule may ask for {known}: activations have one kind of integer"
            raise ConfigError(f"{title} asks for {rule.precision} in a rule", why, SEE)
    return recipe


def write_recipe(recipe: Recipe) -> str:
    """As TOML; `read_recipe` gives the same again."""
    plain = msgspec.to_builtins(recipe)
    lines = [f"{key} = {literal(value)}" for key, value in plain.items() if key != "rules"]
    for rule in plain["rules"]:
        said = {
            key: value
            for key, value in rule.items()
            if value not in (None, "", [], ()) and (key, value) != ("nodes", "*")
        }
        lines += ["", "[[rules]]", *(f"{key} = {literal(value)}" for key, value in said.items())]
    return "\n".join(lines) + "\n"


def literal(value: Any) -> str:
    """A value as TOML writes it; JSON's strings, numbers, lists and booleans are TOML's too."""
    return msgspec.json.encode(value).decode()
