"""Prompts with expected answers."""

from pathlib import Path

import pytest

from edgewright.errors import ConfigError
from edgewright.llm.quality import prompts
from edgewright.llm.quality.prompts import read_prompts

PERSON = (
    'json_schema = {type = "object", required = ["name"], additionalProperties = false, properties = '
    '{name = {type = "string"}, age = {type = "integer", minimum = 0}, '
    'tags = {type = "array", items = {enum = ["a"]}}}}'
)


def write(folder: Path, text: str) -> Path:
    path = folder / "prompts.toml"
    path.write_text(f'[[prompt]]\ntext = "x"\n{text}\n')
    return path


@pytest.mark.parametrize(
    ("expected", "answer", "is_right"),
    [
        ('exact = "Paris"', " Paris\n", True),
        ('exact = "Paris"', "Paris!", False),
        ('regex = "(?i)par.s"', "It is PARIS.", True),
        ('regex = "^Paris$"', "It is Paris", False),
        (PERSON, ' {"name": "Zoë", "age": 3, "tags": ["a"]} ', True),
        (PERSON, '{"name": "Zoë", "age": -1}', False),
        (PERSON, '{"name": "Zoë", "age": true}', False),
        (PERSON, '{"name": "Zoë", "tags": ["b"]}', False),
        (PERSON, '{"name": "Zoë", "more": 1}', False),
        (PERSON, '{"age": 1}', False),
        (PERSON, '{"name": "Zoë"', False),
        (PERSON, "[" * 100_000, False),
        ('json_schema = {type = "array"}', '{"name": 1}', False),
    ],
)
def test_answers(tmp_path: Path, expected: str, answer: str, is_right: bool) -> None:
    (one,) = read_prompts(write(tmp_path, expected))
    assert one.accepts(answer) is is_right


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "one of exact"),
        ('exact = "a"\nregex = "b"', "one of exact"),
        ('regex = "("', "pattern"),
        ('exact = "a"\nmax_tokens = 0', "max_tokens"),
        ("exact = 3", "Expected `str"),
        ('other = "a"', "unknown field"),
        ('json_schema = {pattern = "a"}', "pattern"),
        ('json_schema = {type = "object", properties = {a = {type = "word"}}}', "word"),
        ("json_schema = {items = 3}", "table"),
        ("json_schema = {required = 3}", "list"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_prompts(write(tmp_path, text))
    assert why in caught.value.why


def test_a_pattern_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "REGEX_SECONDS", 0.02)
    (one,) = read_prompts(write(tmp_path, 'regex = "^(a+)+$"'))
    with pytest.raises(ConfigError, match="takes too long"):
        one.accepts("a" * 40 + "!")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no file"):
        read_prompts(tmp_path / "prompts.toml")
