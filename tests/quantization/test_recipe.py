"""Recipes: reading, rejection with a reason, order of rules, and writing."""

from pathlib import Path

import pytest

from edgewright.errors import ConfigError
from edgewright.quantization.recipe import Recipe, RecipeRule, applies_to_node, parse_recipe, read_recipe, write_recipe

WHOLE = Recipe(
    precision="w4",
    rounding="nearest",
    ranges="entropy",
    search=False,
    rules=(
        RecipeRule(nodes='odd "name"\\ [0]*', precision="w8", why="a\nline"),
        RecipeRule(ops=("Conv", "Gemm"), depth=(0, -2), rounding="adaptive"),
        RecipeRule(tensors="x", ranges="minmax"),
    ),
)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(write_recipe(WHOLE), encoding="utf-8")
    assert read_recipe(path) == WHOLE
    assert write_recipe(read_recipe(path)) == path.read_text(encoding="utf-8")
    assert parse_recipe("", "it") == Recipe()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("precision = ", "Invalid value"),
        ('precision = "w2"', "Invalid enum value 'w2'"),
        ("searching = true", "unknown field `searching`"),
        ('[[rules]]\nranges = "max"', "Invalid enum value 'max'"),
        ("[[rules]]\ndepth = [1]", "length 2"),
        ("[[rules]]\nnodes = 3", "Expected `str`"),
        ('schema = "edgewright.recipe/9"', "this Edgewright supports edgewright.recipe/1"),
    ],
)
def test_what_is_no_recipe(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_recipe(path)
    assert str(path) in caught.value.what
    assert why in caught.value.why
    assert "docs/quantize.md" in caught.value.try_this


def test_files_that_are_none(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(ConfigError):
            read_recipe(path)
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError):
        read_recipe(tmp_path / "b.toml")


def test_the_later_rule_wins() -> None:
    recipe = Recipe(
        rules=(
            RecipeRule(ops=("Conv",), precision="w8a16"),
            RecipeRule(nodes="b*", precision="fp32"),
            RecipeRule(nodes="b2", precision="w8a8"),
            RecipeRule(tensors="t*", ranges="mse"),
            RecipeRule(tensors="t1", ranges="minmax"),
        )
    )
    assert recipe.get_precision("a", "Conv", 0, 3) == "w8a16"
    assert recipe.get_precision("a", "Gemm", 0, 3) == "w8a8"
    assert recipe.get_precision("b1", "Gemm", 0, 3) == "fp32"
    assert recipe.get_precision("b2", "Conv", 0, 3) == "w8a8"
    assert [recipe.get_range_method(name) for name in ("t0", "t1", "u")] == ["mse", "minmax", "auto"]
    assert recipe.get_rounding("a", "Conv", 0, 3) == "adaptive"


def test_what_a_rule_speaks_of() -> None:
    assert applies_to_node(RecipeRule(depth=(0, 1)), "a", "Conv", 1, 4)
    assert not applies_to_node(RecipeRule(depth=(0, 1)), "a", "Conv", 2, 4)
    assert applies_to_node(RecipeRule(depth=(-2, -1)), "a", "Conv", 2, 4)
    assert not applies_to_node(RecipeRule(depth=(-2, -1)), "a", "Conv", 1, 4)
    assert not applies_to_node(RecipeRule(depth=(0, -1)), "a", "Relu", -1, 4)  # it has no weights
    assert not applies_to_node(RecipeRule(tensors="a", ranges="mse"), "a", "Conv", 0, 4)


def test_a_name_with_brackets_means_itself() -> None:
    recipe = Recipe(rules=(RecipeRule(nodes="conv[0]", precision="fp32"), RecipeRule(tensors="x[1]", ranges="mse")))
    assert recipe.get_precision("conv[0]", "Conv", 0, 1) == "fp32"
    assert recipe.get_range_method("x[1]") == "mse"


def test_a_rule_may_not_ask_for_other_activations() -> None:
    text = 'precision = "w8a8"\n\n[[rules]]\nnodes = "a"\nprecision = "w8a16"\n'
    with pytest.raises(ConfigError) as caught:
        parse_recipe(text, "r.toml")
    assert "sets w8a16" in caught.value.what
    assert parse_recipe(text.replace("w8a16", "w4a8"), "r.toml").rules[0].precision == "w4a8"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "it is empty"), (b"# nothing\n", "it is empty"), (b"x = " + b"[" * 5000, "nested"), (b"\xff", "UTF-8")],
)
def test_a_file_that_says_nothing(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "r.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        read_recipe(tmp_path / "r.toml")
