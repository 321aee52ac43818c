"""Names that are valid in every language of an app."""

import pytest

from edgewright.errors import UsageError
from edgewright.packaging.names import check_app_id, make_identifier


@pytest.mark.parametrize(
    ("text", "identifier"),
    [
        ("handwritten digits", "handwritten_digits"),
        ("Ünïcode – 1", "unicode_1"),
        ("class", "model_class"),
        ("golden", "model_golden"),
        ("8 bit", "model_8_bit"),
        ("数字", ""),
        ("a" * 90, "a" * 40),
    ],
)
def test_identifiers(text: str, identifier: str) -> None:
    assert make_identifier(text) == identifier


@pytest.mark.parametrize("text", ["digits", "com.class.digits", "com.2x", "Com.Example", "com..x", "", "com.x-y"])
def test_ids_that_no_app_may_have(text: str) -> None:
    with pytest.raises(UsageError, match="app id"):
        check_app_id(text)


def test_an_id() -> None:
    assert check_app_id("com.example.digits_2") == "com.example.digits_2"
