"""Output functions: results go to stdout, everything else to stderr."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import click

from edgewright.api.progress import rewrite_line
from edgewright.cli.interrupts import raise_if_interrupted
from edgewright.locale.language import read_terminal_language, translate, use_language
from edgewright.schema.text import escape_ascii, escape_json, printable
from edgewright.schema.units import UNKNOWN

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from edgewright.api.results.base import Table

UNLIMITED_COLUMNS = 10_000
BELOW = ("artifact",)  # columns of paths
PROGRESS = "EDGEWRIGHT_PROGRESS"  # `all`: print every progress line, for the job pages


def print_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    title: str = "",
    *,
    piped_only: Sequence[str] = (),
    droppable: Sequence[str] = (),
) -> None:
    """Print a table on a terminal, or tab-separated lines with a header line in a pipe.

    A terminal does not show the columns in `piped_only`. If the table does not fit the terminal, paths are printed
    below it, and the columns in `droppable` are dropped in order until it fits. A terminal that is too narrow for the
    rest shows each row as a list.
    """
    if sys.stdout.isatty():
        _print_rich(headers, rows, title, left_out=piped_only, droppable=droppable)
        return
    for row in (headers, *rows):
        print_line("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in row))


def show_table(table: Table, title: str = "") -> None:
    """Print a table of a result."""
    print_table(table.headers, table.rows, title, piped_only=table.piped_only, droppable=table.droppable)


def _print_rich(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    title: str,
    *,
    left_out: Sequence[str],
    droppable: Sequence[str],
) -> None:
    from rich.console import Console

    console = Console()
    endless = console.options.update_width(UNLIMITED_COLUMNS)
    below: list[str] = []
    hidden: list[str] = []
    for column in (None, *(name for name in BELOW if name in headers), *droppable):
        if column is not None:
            (below if column in BELOW else hidden).append(column)
        table = _make_table(headers, rows, title, left_out=(*left_out, *below, *hidden))
        size = console.measure(table, options=endless)
        if size.maximum <= console.width:
            break
    if size.minimum <= console.width:
        console.print(table)
    else:
        _print_rows(headers, rows, title, left_out=(*left_out, *below, *hidden))
    for column in below:
        _print_paths(headers, rows, column)
    if hidden:
        print_message(f"Hidden columns: {', '.join(hidden)}. A wider terminal or a pipe shows all.")


def _print_paths(headers: Sequence[str], rows: Sequence[Sequence[str]], column: str) -> None:
    """Print the paths of a column, each after the first two cells of its row."""
    position = list(headers).index(column)
    for row in rows:
        if row[position] not in ("", UNKNOWN):
            print_line(f"{' '.join(row[:2])}: {row[position]}")


def _print_rows(headers: Sequence[str], rows: Sequence[Sequence[str]], title: str, *, left_out: Sequence[str]) -> None:
    """Print each row as a list of its cells that are not empty."""
    if title:
        print_line(title)
    shown = [position for position, header in enumerate(headers) if header not in left_out]
    width = max((len(headers[position]) for position in shown), default=0)
    for number, row in enumerate(rows):
        if number:
            print_line("")
        for position in shown:
            if row[position]:
                print_line(f"{headers[position]:{width}}  {row[position]}")


def _make_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], title: str, *, left_out: Sequence[str]
) -> RichTable:
    """Return a table without some columns. Cells are Text, so that brackets in names are not parsed as markup."""
    from rich.table import Table
    from rich.text import Text

    chosen = [position for position, header in enumerate(headers) if header not in left_out]
    heading = Text(printable(title)) if title else None
    table = Table(title=heading, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for position in chosen:
        numeric = _is_numeric(rows, position)
        justify: Literal["left", "right"] = "right" if numeric else "left"
        longest = max(map(len, headers[position].split()), default=0)  # a word of a header is not broken
        table.add_column(headers[position], justify=justify, overflow="fold", no_wrap=numeric, min_width=longest)
    for row in rows:
        table.add_row(*(Text(printable(row[position])) for position in chosen))
    return table


def _is_numeric(rows: Sequence[Sequence[str]], position: int) -> bool:
    """Return whether every cell of a column starts with a digit."""
    cells = [row[position] for row in rows if row[position]]
    return bool(cells) and all(cell[0].isdigit() for cell in cells)


def print_json(value: object) -> None:
    """Print one JSON object on one line."""
    import msgspec

    text = escape_json(msgspec.json.encode(value).decode())
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    click.echo(text if is_unicode else escape_ascii(text))


def print_line(text: str) -> None:
    """Print a line of the result to stdout."""
    click.echo(printable(text))


def print_message(text: str) -> None:
    """Print a message for the user to stderr; a terminal breaks its lines between words."""
    text = printable(text)
    click.echo(_wrap_lines(text) if sys.stderr.isatty() else text, err=True)


def print_answer(text: str) -> None:
    """Print the answer of a command to stderr, in the language of the terminal."""
    print_message(localize(text))


def localize(text: str) -> str:
    """Return a text in the language of the terminal."""
    with use_language(read_terminal_language(os.environ)):
        return translate(text)


def _wrap_lines(text: str) -> str:
    """Return the text with lines that fit the terminal; those of a paragraph have the same indentation."""
    columns = shutil.get_terminal_size().columns
    lines = []
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip(" ")) + 2)
        lines += textwrap.wrap(
            line, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        ) or [line]
    return "\n".join(lines)


@contextmanager
def show_progress() -> Iterator[Callable[[str], None]]:
    """Yield a progress callback: it rewrites one line on a terminal, else it prints one line per stage.

    There is no spinner, because its updates would disturb measurements.
    """
    is_terminal = sys.stderr.isatty()
    shows_all = os.environ.get(PROGRESS) == "all"
    show = print_message if shows_all else rewrite_line if is_terminal else make_stage_printer()

    def progress(text: str) -> None:
        raise_if_interrupted()
        show(text)

    try:
        yield progress
    finally:
        if is_terminal and not shows_all:
            rewrite_line("")


def make_stage_printer() -> Callable[[str], None]:
    """Return a progress callback that prints each stage once; counters in the text do not make a new stage."""
    seen: set[str] = set()

    def progress(text: str) -> None:
        stage = re.sub(r"process \d+|\d+ of \d+[^;]*|trial \d+|: median .*", "#", text)
        if stage not in seen:
            seen.add(stage)
            print_message(text)

    return progress
