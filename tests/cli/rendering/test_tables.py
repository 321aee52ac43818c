"""Parameter types, numbers with units, tables in a pipe."""

import sys
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.api.results.records import format_tags
from edgewright.cli.parse import AFFINITY, PERCENT, SHAPE, TAG, WORDS
from edgewright.cli.rendering.output import make_stage_printer, print_json, print_message, print_table
from edgewright.schema.units import show_bytes, show_range, show_ratio, show_share, show_us


def convert(kind: click.ParamType[Any], value: object) -> Any:
    return kind.convert(value, None, None)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (WORDS, "a, b,,c ", ["a", "b", "c"]),
        (SHAPE, "x=1,3,224,224", ("x", (1, 3, 224, 224))),
        (SHAPE, "x=1x3x2", ("x", (1, 3, 2))),
        (SHAPE, "a=b:0=1,2", ("a=b:0", (1, 2))),
        (SHAPE, "scalar=", ("scalar", ())),
        (AFFINITY, "0,2-4", (0, 2, 3, 4)),
        (TAG, " a = b=c ", ("a", "b=c")),
        (TAG, "a=", ("a", "")),
        (PERCENT, "12.5", 12.5),
        (PERCENT, 100, 100.0),
    ],
)
def test_what_can_be_typed(kind: click.ParamType[Any], text: object, value: object) -> None:
    assert convert(kind, text) == value
    assert convert(kind, value) == value  # click converts values twice


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *((WORDS, text) for text in ("", " , ")),
        *((SHAPE, text) for text in ("", "x", "=1,2", "x=0", "x=-1", "x=a", "x=1.5")),
        *((AFFINITY, text) for text in ("", "a", "-1", "3-1", "1,", "0-9999", "1-2-3")),
        *((TAG, text) for text in ("", "a", "=b", " =b")),
        *((PERCENT, text) for text in ("", "a", "-0.1", "100.1", "nan", "inf")),
    ],
)
def test_what_cannot(kind: click.ParamType[Any], text: str) -> None:
    with pytest.raises(click.BadParameter):
        convert(kind, text)


@given(st.text(max_size=12))
def test_any_text_is_a_value_or_a_complaint(text: str) -> None:
    for kind in (WORDS, SHAPE, AFFINITY, TAG, PERCENT):
        try:
            convert(kind, text)
        except click.BadParameter as error:
            assert error.message


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (show_us(None), "–"),
        (show_us(0.0), "0.00 µs"),
        (show_us(1.234), "1.23 µs"),
        (show_us(12.34), "12.3 µs"),
        (show_us(123.4), "123 µs"),
        (show_us(1234.0), "1.23 ms"),
        (show_us(2.5e6), "2.50 s"),
        (show_bytes(None), "–"),
        (show_bytes(0), "0 B"),
        (show_bytes(999), "999 B"),
        (show_bytes(14_000_000), "14.0 MB"),
        (show_bytes(2.5e9), "2.50 GB"),
        (show_range(None, 1.0), "–"),
        (show_range(3510.0, 3700.0), "3.51–3.70 ms"),
        (show_range(900.0, 1100.0), "0.90–1.10 ms"),
        (show_ratio(float("nan"), None, None), "–"),
        (show_ratio(1.1, None, None), "1.10×"),
        (show_ratio(1.1, 1.05, 1.15), "1.10× (1.05–1.15)"),
        (show_share(0.125), "12.5%"),
    ],
)
def test_numbers_as_people_read_them(shown: str, text: str) -> None:
    assert shown == text


def test_a_pipe_keeps_its_columns(capfd: pytest.CaptureFixture[str]) -> None:
    print_table(("a", "b"), [("tab\there", "line\nhere"), ("", "–")], "not shown")
    assert capfd.readouterr().out == "a\tb\ntab here\tline here\n\t–\n"


def test_control_characters_are_shown_as_such(capfd: pytest.CaptureFixture[str]) -> None:
    print_table(("a",), [("\x1b[31mred\x1b[0m",), ("\x00\r\x7f\x9b",)])
    assert capfd.readouterr().out == "a\n\ufffd[31mred\ufffd[0m\n\ufffd\ufffd\ufffd\ufffd\n"
    print_table(("a",), [("evil\u202ecod\u200b.exe\u2028",)])
    assert capfd.readouterr().out == "a\nevil\ufffdcod\ufffd.exe\ufffd\n"
    print_json({"name": "evil\u202e\x9b"})
    assert capfd.readouterr().out == '{"name":"evil\\u202e\\u009b"}\n'


@pytest.mark.parametrize(
    ("columns", "shown"),
    [(31, ["name", "wide", "wider", "widest"]), (30, ["name", "wide", "wider"]), (18, ["name", "wide"]), (5, ["name"])],
)
def test_columns_are_dropped_until_the_table_fits(
    columns: int, shown: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    headers, cells = ("name", "wide", "wider", "widest"), ("n" * 4, "w" * 5, "W" * 7, "v" * 9)
    print_table(headers, [cells], droppable=("widest", "wider", "wide"))
    assert click.unstyle(capsys.readouterr().out).splitlines()[0].split() == shown


@pytest.mark.parametrize("columns", [60, 80, 100, 120])
def test_a_path_is_below_a_table_that_does_not_fit(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    headers = ("runtime", "precision", "state", "size", "interval", "artifact")
    path = "a-folder/" * 9 + "m-onnxruntime-w8a8.onnx"
    cells = ("onnxruntime", "w8a8", "ok", "1.25 MB", "0.45–0.47", path)
    print_table(headers, [cells, ("ncnn", "w8a8", "failed", "–", "–", "–")], droppable=("interval", "size"))
    out = click.unstyle(capsys.readouterr().out)
    assert out.splitlines()[0].split() == list(headers[:-1])
    assert out.splitlines()[3] == f"onnxruntime w8a8: {path}"
    assert len(out.splitlines()) == 4


def test_a_word_of_a_header_is_not_broken(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "36")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(("precision", "metric", "float"), [("w8", "a long name of a metric", "0.5")])
    assert click.unstyle(capsys.readouterr().out).splitlines()[0].split() == ["precision", "metric", "float"]


def test_a_terminal_that_is_too_narrow_shows_rows_as_lists(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(("runtime", "operator"), [("onnxruntime", "QLinearConv"), ("litert", "")])
    assert capsys.readouterr().out == "runtime   onnxruntime\noperator  QLinearConv\n\nruntime   litert\n"


def test_messages_break_between_words_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    print_message("  Why: the profiler reports no layer times")
    assert capsys.readouterr().err == "  Why: the profiler reports no layer times\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    print_message("  Why: the profiler reports no layer times\n\nlast")
    assert capsys.readouterr().err == "  Why: the profiler\n    reports no layer\n    times\n\nlast\n"


def test_a_stage_is_printed_once(capfd: pytest.CaptureFixture[str]) -> None:
    progress = make_stage_printer()
    for model in ("m1", "m2"):
        for number in (1, 2, 3):
            progress(f"{model}: process {number} of 3")
    assert capfd.readouterr().err == "m1: process 1 of 3\nm2: process 1 of 3\n"


def test_jobs_side_by_side_are_a_stage_together(capfd: pytest.CaptureFixture[str]) -> None:
    progress = make_stage_printer()
    for done in (1, 2):
        progress(f"a: {done} of 9, 3 s left")
        progress(f"a: {done} of 9, 3 s left; b: 1 of 9, 8 s left")
    assert capfd.readouterr().err == "a: 1 of 9, 3 s left\na: 1 of 9, 3 s left; b: 1 of 9, 8 s left\n"


def test_own_notes_are_no_tags() -> None:
    assert format_tags({"who": "me", "energy-source": "x", "layers-via": "y"}) == "who=me"
