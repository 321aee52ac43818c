"""What all results have in common."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from markupsafe import Markup, escape

from edgewright.api.results.frames import make_frame
from edgewright.errors import ModelNotFound, UsageError
from edgewright.runtimes.table import find_runtime
from edgewright.schema.vocabulary import PRECISION_ALIASES, normalize_word
from edgewright.system.files import write_atomically


class Table(NamedTuple):
    """A table as text.

    Attributes:
        droppable: headers of the columns that a narrow terminal leaves out, in this order.
        piped_only: headers of the columns that a terminal does not show.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    droppable: Sequence[str] = ()
    piped_only: Sequence[str] = ()

    def __str__(self) -> str:
        """Return aligned columns."""
        lines = [self.headers, *self.rows]
        widths = [max(len(str(line[column])) for line in lines) for column in range(len(self.headers))]
        shown = ("  ".join(str(text).ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)
        return "\n".join(line.rstrip() for line in shown)


def to_plain(value: Any) -> Any:
    """Return the values as JSON has them: a number that is not finite is None."""
    return msgspec.json.decode(msgspec.json.encode(value))


@cache
def _read_chart_style() -> str:
    """Return the rules of the pages' style that charts use: a notebook must not get the others."""
    from edgewright.web.server.assets import read_style  # the pages' packages are loaded only for reports

    style = read_style()
    variables = re.findall(r"^:root \{.*?\}", style, re.DOTALL | re.MULTILINE)
    return "".join([*variables, *re.findall(r"(?<![^\s}])svg[^{}]*\{[^{}]*\}", style)])


class Picture(str):
    """An SVG drawing as text, which a notebook shows."""

    __slots__ = ()

    def _repr_svg_(self) -> str:
        return self


class Result:
    """The result of one call.

    Attributes:
        report: the typed record behind the result: the fields of the command's `--json`.
        run_ids: of the stored runs, the command's own first.
        artifacts: rows of the files that were written; each has `path`, `runtime`, `precision` and `bytes`.
    """

    def __init__(self, report: Any) -> None:
        self.report = report

    @property
    def answer(self) -> str:
        """Return the result in one sentence."""
        raise NotImplementedError

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Return a word for each candidate; each kind of result has its own few words, see docs/python-api.md."""
        raise NotImplementedError

    @property
    def verdict(self) -> str:
        """Return the verdicts as text, separated by commas."""
        return ", ".join(self.verdicts)

    @property
    def rows(self) -> Sequence[Any]:
        """Return the records of the main table."""
        raise NotImplementedError

    @property
    def run_ids(self) -> tuple[str, ...]:
        found = [getattr(self.report, "run_id", None), *(getattr(row, "run_id", None) for row in self.rows)]
        return tuple(dict.fromkeys(one for one in found if one))

    @property
    def artifacts(self) -> Sequence[Any]:
        return ()

    def table(self) -> Table:
        """Return the main table as text."""
        raise NotImplementedError

    def artifact(self, runtime: str, precision: str = "") -> Any:
        """Return the artifact for a runtime, and of a precision if there are several; its file is `path`.

        Raises ModelNotFound if there is none, with the reason if it failed.
        """
        word = normalize_word(precision)
        word, name = PRECISION_ALIASES.get(word, word), find_runtime(runtime).name
        found = [one for one in self.artifacts if one.runtime == name and word in ("", one.precision)]
        if found and found[0].path:
            return found[0]
        known = ", ".join(f"{one.runtime} {one.precision}" for one in self.artifacts if one.path) or "no artifact"
        why = found[0].reason if found else f"this result has {known}"
        raise ModelNotFound(f"there is no artifact for {name} {word}".rstrip(), why, "choose one of result.artifacts")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values with the keys of the command's `--json`; times are in microseconds, sizes in bytes."""
        plain: dict[str, Any] = to_plain(self.report)
        return plain

    def to_frame(self) -> Any:
        """Return the main table as a DataFrame of pandas or polars: a row for each record, nested keys with dots.

        Raises RuntimeMissing if neither is installed.
        """
        return make_frame(map(to_plain, self.rows))

    def plot(self) -> Picture:
        """Return the chart of the pages as SVG; empty if there is nothing to draw."""
        found = next((str(drawing) for drawing in self._draw() if drawing), "")
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {found.removeprefix("<svg ").partition(">")[0]}>'
        return Picture(f"{head}<style>{_read_chart_style()}</style>{found.partition('>')[2]}" if found else "")

    def _draw(self) -> Sequence[str]:
        """Return the charts, the most important first."""
        return ()

    def save(self, path: str | Path) -> Path:
        """Write an HTML report into one file, without scripts and links, and return its path.

        Raises UsageError if the name does not end in .html or .htm, and OutputError if the file cannot be written.
        """
        if not isinstance(path, str | Path) or Path(path).suffix.lower() not in (".html", ".htm") or "\0" in str(path):
            why = "a report is an HTML file: its name ends in .html"
            raise UsageError(f"the report cannot be saved as {str(path)[:80]!r}", why, 'result.save("report.html")')
        write_atomically(Path(path), self._render(), follow=True)
        return Path(path)

    def _render(self) -> str:
        """Return the report as HTML."""
        from edgewright.web.server.assets import read_style

        title, style = escape(self.answer), read_style()
        head = f'<meta charset="utf-8"><title>{title}</title><style>{style}</style>'
        body = "".join(f"<figure>{drawing}</figure>" for drawing in self._draw())
        main = f'<main><section class="card"><div class="scroll">{self._repr_html_()}{body}</div></section></main>'
        return f'<!DOCTYPE html><html lang="en"><head>{head}</head><body>{main}</body></html>'

    def _repr_html_(self) -> str:
        """Return the answer and the main table, as a notebook shows them."""
        table = self.table()
        head = Markup("").join(Markup("<th>{}</th>").format(name) for name in table.headers)
        lines = [Markup("").join(Markup("<td>{}</td>").format(cell) for cell in row) for row in table.rows]
        rows = Markup("").join(Markup("<tr>{}</tr>").format(line) for line in lines)
        frame = Markup('<p>{}</p><table class="dense"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>')
        return str(frame.format(self.answer, head, rows))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.answer}>"
