"""The messages between parent and worker: all of them survive the way, and nothing unknown passes."""

from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.runtimes import wire

MESSAGES = (wire.Greeting, wire.Request, wire.Answer)
COMMANDS = get_args(wire.Command)
RESULTS = get_args(wire.Result)

PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(),
    bool: st.booleans(),
    type(None): st.none(),
}


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type as it stands in a message."""
    if kind in PLAIN:
        return PLAIN[kind]
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (Union, UnionType):
        return st.one_of(*map(values_of, inner))
    if origin is tuple:
        return st.lists(values_of(inner[0]), max_size=4).map(tuple)
    if origin is dict:
        return st.dictionaries(values_of(inner[0]), values_of(inner[1]), max_size=4)
    hints = get_type_hints(kind)
    return st.builds(kind, **{name: values_of(hints[name]) for name in kind.__struct_fields__})


@pytest.mark.parametrize("kind", MESSAGES, ids=["greeting", "request", "answer"])
@given(data=st.data())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_every_message_survives_the_way(kind: Any, data: st.DataObject) -> None:
    message = data.draw(values_of(kind))
    line = msgspec.json.encode(message)
    assert b"\n" not in line
    assert msgspec.json.decode(line, type=kind) == message


@pytest.mark.parametrize("part", [*COMMANDS, *RESULTS, wire.SessionRequest, wire.ResidentMemory, wire.Hello])
@given(data=st.data())
@settings(max_examples=5, deadline=None, derandomize=True)
def test_an_unknown_field_is_rejected(part: Any, data: st.DataObject) -> None:
    fields = msgspec.json.decode(msgspec.json.encode(data.draw(values_of(part))))
    assert msgspec.json.decode(msgspec.json.encode(fields), type=part) is not None
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(msgspec.json.encode({**fields, "unknown": 1}), type=part)


@pytest.mark.parametrize("kind", [wire.Request, wire.Answer])
@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"id": 1}',
        b'{"id": "1", "command": {"type": "close"}}',
        b'{"id": 1, "command": {"type": "dance"}}',
        b'{"id": 1, "result": {"type": "dance"}}',
        b'{"id": 1, "command": {"type": "run", "runs": "many", "seconds": 1}}',
        b'{"id": 1, "command": {"type": "close"}} {"id": 2, "command": {"type": "close"}}',
        b'\xff\xfe{"id": 1}',
    ],
)
def test_anything_else_is_rejected(kind: Any, line: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        msgspec.json.decode(line, type=kind)


def test_tags_distinguish_all_messages() -> None:
    for union in (wire.Command, wire.Result, wire.Greeting):
        tags = [kind.__struct_config__.tag for kind in get_args(union)]
        assert len(set(tags)) == len(tags)
