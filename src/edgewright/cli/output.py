"""stdout is the answer, stderr is everything else."""

import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import click

from edgewright.cli.interrupts import raise_if_came


def print_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], title: str = "", *, piped_only: Sequence[str] = ()
) -> None:
    """A table on a terminal; tab-separated lines with a header line in a pipe.

    Columns named in `piped_only` are too wide for a terminal and are left out there.
    """
    if sys.stdout.isatty():
        chosen = [position for position, header in enumerate(headers) if header not in piped_only]
        print_rich([headers[i] for i in chosen], [[row[i] for i in chosen] for row in rows], title)
        return
    for row in (headers, *rows):
        click.echo("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in row))


def print_rich(headers: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for position, header in enumerate(headers):
        numeric = is_numeric(rows, position)
        justify: Literal["left", "right"] = "right" if numeric else "left"
        table.add_column(header, justify=justify, overflow="fold", no_wrap=numeric)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: a name with brackets in it is no markup
    Console().print(table)


def is_numeric(rows: Sequence[Sequence[str]], position: int) -> bool:
    """Whether every cell of the column begins with a digit."""
    cells = [row[position] for row in rows if row[position]]
    return bool(cells) and all(cell[0].isdigit() for cell in cells)


def print_json(value: object) -> None:
    """One JSON object, on one line."""
    import msgspec

    click.echo(msgspec.json.encode(value).decode())


def say(text: str) -> None:
    """A line for the person, on stderr."""
    click.echo(text, err=True)


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """A function to tell what is being done: one living line on a terminal, else one line per stage.

    The line changes only when told to: a spinner would turn while something is measured.
    """
    living = sys.stderr.isatty()
    show = living_line if living else stage_lines()

    def tell(text: str) -> None:
        raise_if_came()
        show(text)

    try:
        yield tell
    finally:
        if living:
            living_line("")


def living_line(text: str) -> None:
    """Write over the last line of the terminal."""
    text = text[: shutil.get_terminal_size().columns - 1]
    sys.stderr.write(f"\r\x1b[2K{text}")
    sys.stderr.flush()


def stage_lines() -> Callable[[str], None]:
    """Says each stage once; the stages of one candidate differ in a number behind the colon."""
    seen: set[str] = set()

    def tell(text: str) -> None:
        stage = re.sub(r"process \d+", "process #", text)
        if stage not in seen:
            seen.add(stage)
            say(text)

    return tell
