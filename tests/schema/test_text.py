"""Untrusted text on a terminal and in pages."""

import json
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.schema.text import UNSEEN, escape_json, printable

# Bidirectional override and isolate, zero width, soft hyphen, line and paragraph separator, a control of eight bits, a
# tag, private use, half of a surrogate pair.
HIDDEN = "\u202e\u2066\u200b\ufeff\u00ad\u2028\u2029\x9b\x1b\U000e0041\ue000\ud800"


@pytest.mark.parametrize("letter", HIDDEN)
def test_what_does_not_show_as_itself_is_replaced(letter: str) -> None:
    assert printable(f"conv{letter}1") == "conv\ufffd1"


def test_text_stays() -> None:
    shown = "a\tb\nc é 模 ü 3.1\u202fMB – × عربي 🚀"
    assert printable(shown) == shown == escape_json(shown)


@given(st.text(st.characters(), max_size=20))
def test_json_keeps_its_meaning(text: str) -> None:
    shown = escape_json(json.dumps({"name": text}, ensure_ascii=False))
    assert json.loads(shown) == {"name": text}
    assert not any(category(letter) in UNSEEN for letter in shown)
