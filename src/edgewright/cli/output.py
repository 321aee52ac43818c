"""stdout is the answer, stderr is everything else."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """A table on a terminal; tab-separated lines with a header line in a pipe."""
    if sys.stdout.isatty():
        print_rich(headers, rows, title)
        return
    for row in (headers, *rows):
        click.echo("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in row))


def print_rich(headers: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for position, header in enumerate(headers):
        table.add_column(header, justify="right" if is_numeric(rows, position) else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: a name with brackets in it is no markup
    Console(width=None if terminal_is_known() else 160).print(table)


def terminal_is_known() -> bool:
    return bool(os.environ.get("COLUMNS")) or sys.stdout.isatty()


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
    """A function to tell what is being done: a living line on a terminal, else one line per stage."""
    if not sys.stderr.isatty():
        yield stage_lines()
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield lambda text: status.update(text.replace("[", "\\["))


def stage_lines() -> Callable[[str], None]:
    """Says each stage once; the stages of one candidate differ in a number behind the colon."""
    seen: set[str] = set()

    def tell(text: str) -> None:
        stage = re.sub(r"process \d+", "process #", text)
        if stage not in seen:
            seen.add(stage)
            say(text)

    return tell
