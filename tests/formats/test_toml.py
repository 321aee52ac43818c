"""TOML from elsewhere: damaged, endless, or nested so deep that a parser gives up or takes minutes."""

from pathlib import Path

import pytest

from edgewright.formats.toml import MOST_BYTES, MOST_DEPTH, TomlError, parse_toml, read_toml

DEEP = 5_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = " + "[" * DEEP + "]" * DEEP, "nested more than"),
        ("x = " + "{a = " * DEEP + "1" + "}" * DEEP, "nested more than"),
        (".".join(["a"] * DEEP * 20) + " = 1", "nested more than"),
        ("x = {" + ".".join(["'a b'"] * DEEP) + " = 1}", "nested more than"),
        ("[" + " . ".join(['"a\\"b"'] * DEEP) + "]", "nested more than"),
        ("x = " + "[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1), "nested more than"),
        ("x = " + "9" * DEEP, "digits"),
        ("x = 2026-13-45", "line 1"),
        ("x = 1\nx = 2", "overwrite"),
    ],
)
def test_a_text_that_is_none(text: str, words: str) -> None:
    with pytest.raises(TomlError, match=words):
        parse_toml(text)


def test_what_is_allowed(tmp_path: Path) -> None:
    deepest = "x = " + "[" * (MOST_DEPTH - 1) + "]" * (MOST_DEPTH - 1)
    assert "x" in parse_toml(deepest)
    assert parse_toml("x = [" + "0.5, " * 100 + "]\na.b.c = '1.2.3.4.5.6'")["a"] == {"b": {"c": "1.2.3.4.5.6"}}
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfa = 1")
    assert read_toml(tmp_path / "a.toml") == ({"a": 1}, "a = 1")


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TomlError, match="not UTF-8"):
        read_toml(tmp_path / "a.toml")
    (tmp_path / "a.toml").write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(TomlError, match="over 1,048,576 bytes"):
        read_toml(tmp_path / "a.toml")
    with pytest.raises(TomlError, match="not a regular file"):
        read_toml(Path("/dev/zero"))
    with pytest.raises(FileNotFoundError):
        read_toml(tmp_path / "absent.toml")
