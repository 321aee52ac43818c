"""Prompts from templates, and text from tokens."""

from collections.abc import Sequence

import pytest

from edgewright.errors import InputError
from edgewright.llm.chat.template import render_prompt
from edgewright.llm.chat.text import TextStream

TEXT = "Zoë said: “日本” 🎈 end"
CHATML = (
    "{% for one in messages %}<|im_start|>{{ one.role }}\n{{ one.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def decode(tokens: Sequence[int]) -> bytes:
    """A tokenizer whose tokens are bytes."""
    return bytes(tokens)


def read(text: str, stops: Sequence[str] = ()) -> tuple[list[str], TextStream]:
    stream = TextStream(decode, stops)
    return [stream.add(token) for token in text.encode()] + [stream.finish()], stream


def test_pieces_have_whole_characters() -> None:
    pieces, _ = read(TEXT)
    assert "".join(pieces) == TEXT
    assert all("�" not in piece for piece in pieces)


def test_bytes_that_are_no_text_come_out_as_replacements() -> None:
    stream = TextStream(decode)
    pieces = [stream.add(token) for token in b"a\xff\xfe\xfd\xfcb"]
    assert "".join([*pieces, stream.finish()]).replace("�", "") == "ab"


@pytest.mark.parametrize(("stop", "expected"), [("“日", "Zoë said: "), ("end!", TEXT), ("Z", ""), ("", TEXT)])
def test_a_stop_text_is_not_shown_nor_its_start(stop: str, expected: str) -> None:
    pieces, stream = read(TEXT, [stop])
    assert "".join(pieces) == expected
    assert stream.is_stopped == (expected != TEXT)


def test_a_template_of_a_model() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert render_prompt(messages, CHATML) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert render_prompt(messages) == "Be brief.\nHi"


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ raise_exception('roles must alternate') }}",
        "{% for one in messages %}",
        "{{ 1 // 0 }}",
        "{{ undefined_name.attribute }}",
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{{ messages.append(1) }}",
    ],
)
def test_a_template_that_cannot_be_used(template: str) -> None:
    with pytest.raises(InputError, match="chat template"):
        render_prompt([{"role": "user", "content": "Hi"}], template)


@pytest.mark.parametrize("messages", [[], [{"role": "robot", "content": "Hi"}]])
def test_messages_that_mean_nothing(messages: list[dict[str, str]]) -> None:
    with pytest.raises(InputError):
        render_prompt(messages)
